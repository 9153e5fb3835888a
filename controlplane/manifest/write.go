package manifest

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"hikyaku/controlplane/policy"
)

// Format writes resources as YAML documents that Parse reads back. Secrets are
// left out with a comment that says so.
func Format(resources []policy.Resource) ([]byte, error) {
	var b strings.Builder
	for i, r := range resources {
		if i > 0 {
			b.WriteString("---\n")
		}
		if err := format(&b, r); err != nil {
			return nil, fmt.Errorf("write %s as YAML: %w", r.ID(), err)
		}
	}
	return []byte(b.String()), nil
}

func format(b *strings.Builder, r policy.Resource) error {
	head, err := yaml.Marshal(yaml.MapSlice{{Key: "kind", Value: r.Kind}, {Key: "name", Value: r.Name}})
	if err != nil {
		return err
	}
	b.Write(head)
	spec := withoutSecrets(r.Spec)
	text, err := yaml.MarshalWithOptions(spec, yaml.IndentSequence(true))
	if err != nil {
		return err
	}
	hidden := hiddenSecrets(r.Spec)
	if strings.TrimSpace(string(text)) == "{}" {
		if len(hidden) == 0 {
			b.WriteString("spec: {}\n")
			return nil
		}
		text = nil
	}
	b.WriteString("spec:\n")
	for line := range strings.Lines(string(text)) {
		b.WriteString("  " + line)
	}
	for _, key := range hidden {
		b.WriteString("  # " + key + " is set; it is not shown, and stays while it is left out here\n")
	}
	return nil
}

// withoutSecrets is a copy of a spec without its secrets.
func withoutSecrets(spec any) any {
	c := reflect.New(reflect.TypeOf(spec).Elem())
	c.Elem().Set(reflect.ValueOf(spec).Elem())
	for _, s := range policy.Secrets(c.Interface()) {
		*s = policy.Secret{}
	}
	return c.Interface()
}

// hiddenSecrets are the keys of the secrets that are set.
func hiddenSecrets(spec any) []string {
	secrets := policy.Secrets(spec)
	maps.DeleteFunc(secrets, func(_ string, s *policy.Secret) bool { return s.IsZero() })
	return slices.Sorted(maps.Keys(secrets))
}
