package client

import (
	"bytes"
	"encoding/json"
	"fmt"

	"hikyaku/controlplane/api"
	"hikyaku/controlplane/policy"
)

// typed turns the spec of a received resource into that of its kind. Hidden
// secrets become secrets that are set but unknown.
func typed(r *api.Resource) error {
	spec := policy.NewSpec(r.Kind)
	fields, ok := r.Spec.(map[string]any)
	if spec == nil || !ok {
		return fmt.Errorf("the API sent a resource of kind %q that this version does not know", r.Kind)
	}
	secrets := policy.Secrets(spec)
	for key, s := range secrets {
		if _, set := fields[key]; set {
			*s = policy.NewSecret("***")
			delete(fields, key)
		}
	}
	b, err := json.Marshal(fields)
	if err != nil {
		return fmt.Errorf("%s/%s: %w", r.Kind, r.Name, err)
	}
	if err := json.Unmarshal(b, spec); err != nil {
		return fmt.Errorf("%s/%s: %w", r.Kind, r.Name, err)
	}
	r.Spec = spec
	return nil
}

// revealed is a spec as a request must carry it: with its secrets in the clear
// where they are known, and without them where they are not.
func revealed(spec any) (any, error) {
	b, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode a resource: %w", err)
	}
	var fields map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&fields); err != nil {
		return nil, fmt.Errorf("encode a resource: %w", err)
	}
	for key, s := range policy.Secrets(spec) {
		switch text := s.Reveal(); text {
		case "", "***":
			delete(fields, key)
		default:
			fields[key] = text
		}
	}
	return fields, nil
}
