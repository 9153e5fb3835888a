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

// Document is a resource as it is written.
type Document struct {
	Kind string     `json:"kind"`
	Name string     `json:"name"`
	Spec strict.Raw `json:"spec"`
	// Revision is in JSON listings. Given back, the resource is changed only if
	// it is still at that revision.
	Revision int64 `json:"revision"`
}

func parseResource(d *strict.Document) (policy.Resource, strict.Errors) {
	if reason := unknownKind(d.Text("kind")); reason != "" {
		return policy.Resource{}, strict.Errors{d.ErrorAt("kind", reason)}
	}
	var doc Document
	errs := d.Decode(&doc)
	r := policy.Resource{Kind: d.Text("kind"), Name: doc.Name, Revision: doc.Revision}
	r.Spec = policy.NewSpec(r.Kind)
	errs = append(errs, doc.Spec.Decode(r.Spec)...)
	if len(errs) == 0 && r.Name == "" {
		errs = append(errs, d.ErrorAt("name", "every resource needs a name"))
	}
	return r, errs
}

// unknownKind says what is wrong with a kind; "" when nothing is.
func unknownKind(kind string) string {
	kinds := policy.Kinds()
	near := policy.Nearest(kind, kinds)
	switch {
	case kind == "":
		return "every document needs a kind: one of " + strings.Join(kinds, ", ")
	case policy.NewSpec(kind) != nil:
		return ""
	case near != "":
		return fmt.Sprintf("unknown kind %.60q; did you mean %q?", kind, near)
	}
	return fmt.Sprintf("unknown kind %.60q; the kinds are %s", kind, strings.Join(kinds, ", "))
}

// Resource makes a resource of a document that is part of something larger, as
// an API request; path is where it stands there.
func (doc *Document) Resource(path string) (policy.Resource, strict.Errors) {
	r := policy.Resource{Kind: doc.Kind, Name: doc.Name, Revision: doc.Revision}
	if reason := unknownKind(doc.Kind); reason != "" {
		return r, strict.Errors{{Position: strict.Position{Line: 1, Column: 1}, Path: path + ".kind", Reason: reason}}
	}
	r.Spec = policy.NewSpec(r.Kind)
	return r, doc.Spec.Decode(r.Spec)
}
