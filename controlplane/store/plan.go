package store

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"

	"hikyaku/controlplane/catalogue"
	"hikyaku/controlplane/policy"
	"hikyaku/reputation"
)

// state is all of the policy at one revision. It is immutable.
type state struct {
	Revision
	resources []policy.Resource // in the order of policy.Compare
	set       *policy.Set
}

func (s *state) find(kind, name string) *policy.Resource {
	i, ok := slices.BinarySearchFunc(s.resources, policy.Resource{Kind: kind, Name: name}, policy.Compare)
	if !ok {
		return nil
	}
	return &s.resources[i]
}

// plan works out the state after a batch; it changes nothing. next is nil when
// the batch changes nothing.
func (s *state) plan(b Batch) (next *state, effects []Effect, err error) {
	if b.Expected != 0 && b.Expected != s.Revision.Revision {
		return nil, nil, &ConflictError{Want: b.Expected, Have: s.Revision.Revision}
	}
	next = &state{resources: slices.Clone(s.resources)}
	next.Revision.Revision = s.Revision.Revision + 1
	seen := map[[2]string]bool{}
	for _, c := range b.Changes {
		id := [2]string{c.Kind, c.Name}
		if seen[id] {
			return nil, nil, policy.Problems{{Kind: c.Kind, Name: c.Name, Path: "name", Reason: "the batch changes it twice; leave one out"}}
		}
		seen[id] = true
		e, err := next.change(s.find(c.Kind, c.Name), c)
		if err != nil {
			return nil, nil, err
		}
		effects = append(effects, e)
		if e.Action != Unchanged {
			next.Effects = append(next.Effects, EffectName{e.Action, e.Kind, e.Name})
		}
	}
	set, problems := policy.New(catalogue.Over(next.resources))
	if err := problems.Err(); err != nil {
		return nil, nil, err
	}
	if err := newReplyProblems(s.set, set).Err(); err != nil {
		return nil, nil, err
	}
	if len(next.Effects) == 0 {
		return nil, effects, nil
	}
	set.Revision = next.Revision.Revision
	next.set = set
	return next, effects, nil
}

// newReplyProblems are what is wrong with the rules about replies that was not
// wrong before: a newer program may find fault with what an older one stored, and
// that must not keep everything else from being changed.
func newReplyProblems(before, after *policy.Set) policy.Problems {
	problems := reputation.Problems(after.ReplyRules)
	if len(problems) == 0 || before == nil {
		return problems
	}
	old := reputation.Problems(before.ReplyRules)
	return slices.DeleteFunc(problems, func(p policy.Problem) bool { return slices.Contains(old, p) })
}

// change applies one change to next.
func (next *state) change(before *policy.Resource, c Change) (Effect, error) {
	e := Effect{Kind: c.Kind, Name: c.Name, Before: before}
	if err := expect(before, c); err != nil {
		return e, err
	}
	if c.Spec != nil && !specOf(c.Kind, c.Spec) {
		return e, policy.Problems{{Kind: c.Kind, Name: c.Name, Path: "spec", Reason: "the kind and the spec do not fit"}}
	}
	at, exists := slices.BinarySearchFunc(next.resources, policy.Resource{Kind: c.Kind, Name: c.Name}, policy.Compare)
	if c.Spec == nil {
		if !exists {
			return e, fmt.Errorf("%s/%s: %w", c.Kind, c.Name, ErrNotFound)
		}
		e.Action = Deleted
		next.resources = slices.Delete(next.resources, at, at+1)
		return e, nil
	}
	after := policy.Resource{Kind: c.Kind, Name: c.Name, Spec: cloneSpec(c.Spec), Revision: next.Revision.Revision}
	if !exists {
		e.Action, e.After = Created, &after
		next.resources = slices.Insert(next.resources, at, after)
		return e, nil
	}
	policy.KeepSecrets(after.Spec, before.Spec)
	same, secretsSame, err := compare(before, &after)
	if err != nil {
		return e, err
	}
	if same {
		e.Action, e.After = Unchanged, before
		return e, nil
	}
	e.Action, e.After, e.SecretChanged = Changed, &after, !secretsSame
	next.resources[at] = after
	return e, nil
}

func expect(before *policy.Resource, c Change) error {
	have := int64(0)
	if before != nil {
		have = before.Revision
	}
	switch {
	case c.Expected == 0, c.Expected == Absent && before == nil, c.Expected == have:
		return nil
	}
	return &ConflictError{Kind: c.Kind, Name: c.Name, Want: c.Expected, Have: have}
}

// specOf reports whether spec is a spec of the kind.
func specOf(kind string, spec any) bool {
	return reflect.TypeOf(spec) == reflect.TypeOf(policy.NewSpec(kind)) && !reflect.ValueOf(spec).IsNil()
}

// cloneSpec copies the struct itself, so that KeepSecrets changes ours only.
func cloneSpec(spec any) any {
	v := reflect.ValueOf(spec)
	c := reflect.New(v.Type().Elem())
	c.Elem().Set(v.Elem())
	return c.Interface()
}

// compare reports whether two resources are equal, by what is stored of them.
func compare(a, b *policy.Resource) (same, secretsSame bool, err error) {
	ra, err := newRecord(a)
	if err != nil {
		return false, false, err
	}
	rb, err := newRecord(b)
	if err != nil {
		return false, false, err
	}
	secretsSame = reflect.DeepEqual(ra.Secrets, rb.Secrets)
	return secretsSame && bytes.Equal(ra.Spec, rb.Spec), secretsSame, nil
}

// changesTo are the changes that turn s into the resources of an old state.
func (s *state) changesTo(old *state) []Change {
	var cs []Change
	for _, r := range old.resources {
		cs = append(cs, Change{Kind: r.Kind, Name: r.Name, Spec: r.Spec})
	}
	for _, r := range s.resources {
		if old.find(r.Kind, r.Name) == nil {
			cs = append(cs, Change{Kind: r.Kind, Name: r.Name})
		}
	}
	return cs
}
