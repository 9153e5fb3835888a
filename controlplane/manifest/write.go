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
	return formatAll(resources, false)
}

// FormatRevealed is Format with the secrets in the clear, for a file that its
// owner makes and keeps.
func FormatRevealed(resources []policy.Resource) ([]byte, error) {
	return formatAll(resources, true)
}

func formatAll(resources []policy.Resource, reveal bool) ([]byte, error) {
	var b strings.Builder
	for i, r := range resources {
		if i > 0 {
			b.WriteString("---\n")
		}
		if err := format(&b, r, reveal); err != nil {
			return nil, fmt.Errorf("write %s as YAML: %w", r.ID(), err)
		}
	}
	return []byte(b.String()), nil
}

func format(b *strings.Builder, r policy.Resource, reveal bool) error {
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
	if strings.TrimSpace(string(text)) == "{}" {
		text = nil
	}
	var secrets strings.Builder
	for _, key := range setSecrets(r.Spec) {
		if !reveal {
			secrets.WriteString("  # " + key + " is set; it is not shown, and stays while it is left out here\n")
			continue
		}
		line, err := yaml.MarshalWithOptions(map[string]string{key: policy.Secrets(r.Spec)[key].Reveal()}, yaml.UseLiteralStyleIfMultiline(true))
		if err != nil {
			return err
		}
		indent(&secrets, string(line))
	}
	if len(text) == 0 && (secrets.Len() == 0 || !reveal) {
		b.WriteString("spec: {}\n" + secrets.String())
		return nil
	}
	b.WriteString("spec:\n")
	indent(b, string(text))
	b.WriteString(secrets.String())
	return nil
}

func indent(b *strings.Builder, text string) {
	for line := range strings.Lines(text) {
		b.WriteString("  " + line)
	}
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

// setSecrets are the keys of the secrets that are set.
func setSecrets(spec any) []string {
	secrets := policy.Secrets(spec)
	maps.DeleteFunc(secrets, func(_ string, s *policy.Secret) bool { return s.IsZero() })
	return slices.Sorted(maps.Keys(secrets))
}
