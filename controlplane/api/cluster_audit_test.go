package api_test

import (
	"errors"
	"slices"
	"testing"
)

// TestOrdersAboutNodesAreAudited: who drained a node, removed it or moved a
// source is asked later; what was refused changed nothing and is not there.
func TestOrdersAboutNodesAreAudited(t *testing.T) {
	b := newBed(t, nil)
	ctx := t.Context()
	_, drained := b.client.Drain(ctx, "tokyo-1", "kernel")
	_, undrained := b.client.Undrain(ctx, "tokyo-1", "done")
	_, moved := b.client.MoveSource(ctx, "a1", "tokyo-2", "less load")
	removed := b.client.RemoveNode(ctx, "osaka-1", "burnt down")
	if err := errors.Join(drained, undrained, moved, removed); err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.Drain(ctx, "nagoya-1", ""); err == nil {
		t.Error("a node that is not there was drained")
	}
	var got []string
	for _, e := range b.audit.Entries() {
		got = append(got, e.Action+" | "+e.Scope+" | "+e.Author+" | "+e.Reason+" | "+e.Result)
	}
	if want := []string{
		"drain | node tokyo-1 | local client (ann) | kernel | ",
		"undrain | node tokyo-1 | local client (ann) | done | ",
		"move | source a1 | local client (ann) | less load | to node tokyo-2",
		"remove | node osaka-1 | local client (ann) | burnt down | ",
	}; !slices.Equal(got, want) {
		t.Errorf("audit:\n%q\nwant\n%q", got, want)
	}
}
