package manifest

import (
	"fmt"
	"slices"
	"strings"

	"hikyaku/controlplane/manifest/strict"
	"hikyaku/controlplane/policy"
)

// File is the resources of one or more files, with their places.
type File struct {
	Resources []policy.Resource
	sources   []*strict.Document // of each resource
}

// Parse reads the resources of one file; name is for errors, which are
// strict.Errors.
func Parse(name string, data []byte) (*File, error) {
	docs, err := strict.Parse(name, data)
	if err != nil {
		return nil, err
	}
	f := &File{}
	var errs strict.Errors
	for _, d := range docs {
		r, bad := parseResource(d)
		errs = append(errs, bad...)
		f.Resources = append(f.Resources, r)
		f.sources = append(f.sources, d)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return f, nil
}

// Append adds the resources of another file. A resource of the same kind and
// name in both is an error: which one was meant?
func (f *File) Append(other *File) error {
	var errs strict.Errors
	for i, r := range other.Resources {
		same := func(o policy.Resource) bool { return o.Kind == r.Kind && o.Name == r.Name }
		if slices.ContainsFunc(f.Resources, same) {
			errs = append(errs, other.sources[i].ErrorAt("name", r.ID()+" is in another file already"))
		}
	}
	if len(errs) > 0 {
		return errs
	}
	f.Resources = append(f.Resources, other.Resources...)
	f.sources = append(f.sources, other.sources...)
	return nil
}

// Locate gives policy's problems the places of what they are about. Problems
// of resources that are not in the file stay as they are.
func (f *File) Locate(problems policy.Problems) error {
	if len(problems) == 0 {
		return nil
	}
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = p.String()
		// Of two resources of one name, the problem is about the later.
		for j, r := range f.Resources {
			if r.Kind == p.Kind && r.Name == p.Name {
				e := f.sources[j].ErrorAt(p.Path, p.Reason)
				e.Path = r.ID() + ": " + e.Path
				lines[i] = e.Error()
			}
		}
	}
	return fmt.Errorf("%s", strings.Join(lines, "\n"))
}

func parseResource(d *strict.Document) (policy.Resource, strict.Errors) {
	kind := d.Text("kind")
	spec := policy.NewSpec(kind)
	if spec == nil {
		reason := fmt.Sprintf("unknown kind %.60q; the kinds are %s", kind, strings.Join(policy.Kinds(), ", "))
		if near := policy.Nearest(kind, policy.Kinds()); near != "" {
			reason = fmt.Sprintf("unknown kind %.60q; did you mean %q?", kind, near)
		}
		if kind == "" {
			reason = "every document needs a kind: one of " + strings.Join(policy.Kinds(), ", ")
		}
		return policy.Resource{}, strict.Errors{d.ErrorAt("kind", reason)}
	}
	r := policy.Resource{Kind: kind, Spec: spec}
	// The envelope is decoded with the spec of this kind, so that the errors
	// of one document come together and in order.
	errs := decodeAs(d, &r)
	if len(errs) == 0 && r.Name == "" {
		errs = append(errs, d.ErrorAt("name", "every resource needs a name"))
	}
	return r, errs
}

// document is a resource as it is written; S is the spec of its kind.
type document[S any] struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Spec S      `json:"spec"`
	// Revision is in JSON listings. Given back, the resource is changed only if
	// it is still at that revision.
	Revision int64 `json:"revision"`
}

func decodeAs(d *strict.Document, r *policy.Resource) strict.Errors {
	switch spec := r.Spec.(type) {
	case *policy.Tenant:
		return decodeSpec(d, r, spec)
	case *policy.Stream:
		return decodeSpec(d, r, spec)
	case *policy.Pool:
		return decodeSpec(d, r, spec)
	case *policy.Source:
		return decodeSpec(d, r, spec)
	case *policy.Carrier:
		return decodeSpec(d, r, spec)
	case *policy.Route:
		return decodeSpec(d, r, spec)
	case *policy.SigningKey:
		return decodeSpec(d, r, spec)
	}
	panic("BUG: no decoder for kind " + r.Kind)
}

func decodeSpec[S any](d *strict.Document, r *policy.Resource, spec *S) strict.Errors {
	var doc document[S]
	errs := d.Decode(&doc)
	r.Name, r.Revision = doc.Name, doc.Revision
	*spec = doc.Spec
	return errs
}
