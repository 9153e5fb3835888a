package store

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Diff says what became of each resource between two revisions; 0 as from is
// the empty policy, 0 as to the one in force. Secrets are not in it, only
// whether they differ.
func (f *File) Diff(_ context.Context, from, to int64) ([]Effect, error) {
	a, b := &state{}, f.state.Load()
	var err error
	if from != 0 {
		if a, err = f.at(from); err != nil {
			return nil, err
		}
	}
	if to != 0 {
		if b, err = f.at(to); err != nil {
			return nil, err
		}
	}
	_, effects, err := a.plan(Batch{Changes: a.changesTo(b)})
	if err != nil {
		return nil, err
	}
	var out []Effect
	for _, e := range effects {
		if e.Action != Unchanged {
			out = append(out, e)
		}
	}
	return out, nil
}

// at is the state of an old revision.
func (f *File) at(revision int64) (*state, error) {
	s, err := f.read(revision)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("revision %d: %w", revision, ErrNotFound)
	}
	return s, err
}
