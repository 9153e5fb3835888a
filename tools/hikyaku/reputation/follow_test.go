package reputation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hikyaku/controlplane/api"
	"hikyaku/controlplane/state"
	"hikyaku/tools/hikyaku/cli"
)

// decided is a store of decisions that answers as the API does: the newest first,
// by ID.
type decided struct {
	all   []state.Decision
	asked int
	err   error
}

func (d *decided) add(ids ...string) {
	for _, id := range ids {
		// As 05-block-docomo: a place in time, an action, a carrier.
		part := strings.Split(id, "-")
		d.all = append(d.all, state.Decision{ID: id, Action: part[1], Carrier: part[2], Source: "a1", Rule: "test"})
	}
	slices.SortFunc(d.all, func(a, b state.Decision) int { return strings.Compare(b.ID, a.ID) })
}

func (d *decided) ask(_ context.Context, f state.DecisionFilter) (*api.DecisionList, error) {
	d.asked++
	if d.err != nil {
		return nil, d.err
	}
	out := &api.DecisionList{}
	for _, x := range d.all {
		switch {
		case f.Page != "" && x.ID >= f.Page, f.Carrier != "" && x.Carrier != f.Carrier, f.Action != "" && x.Action != f.Action:
			continue
		case len(out.Decisions) == f.Limit:
			out.Next = out.Decisions[f.Limit-1].ID
			return out, nil
		}
		out.Decisions = append(out.Decisions, x)
	}
	return out, nil
}

// following is a follower of a store; step lets it look once more and gives what it
// printed and said of it.
func following(t *testing.T, d *decided, f state.DecisionFilter, json bool) (step func() (printed, said string)) {
	var out, errs strings.Builder
	l := &follow{c: &cli.Call{Out: &out, Err: &errs, JSON: json}, ask: d.ask, f: f}
	next := l.begin
	return func() (string, string) {
		t.Helper()
		if err := next(t.Context()); err != nil {
			t.Fatal(err)
		}
		next = l.look
		defer out.Reset()
		defer errs.Reset()
		return out.String(), errs.String()
	}
}

// ids are those at the ends of the lines.
func ids(lines string) string {
	var all []string
	for line := range strings.Lines(lines) {
		all = append(all, strings.TrimSpace(line[strings.LastIndex(strings.TrimSpace(line), " ")+1:]))
	}
	return strings.Join(all, " ")
}

func TestFollow(t *testing.T) {
	d := &decided{}
	d.add("01-slow-gmail", "02-rest-docomo", "03-block-docomo")
	step := following(t, d, state.DecisionFilter{Limit: 2}, false)
	look := func(why, want string) {
		t.Helper()
		if got, said := step(); ids(got) != want || said != "" {
			t.Errorf("%s: printed %q, want %q; said %q", why, ids(got), want, said)
		}
	}
	look("the newest two, in the order of time", "02-rest-docomo 03-block-docomo")
	look("nothing is new", "")
	d.add("05-slow-gmail")
	look("one is new", "05-slow-gmail")
	d.add("07-slow-gmail", "06-raise-gmail")
	look("two are, in the order of time", "06-raise-gmail 07-slow-gmail")
	// The next leader's clock is behind.
	d.add("04-block-gmail")
	look("one is new whose ID is not the greatest", "04-block-gmail")
	d.all = d.all[:4]
	look("old ones are gone", "")
}

func TestFollowPicksItself(t *testing.T) {
	d := &decided{}
	several := func(ids []string, n int, format string) []string {
		for i := range n {
			ids = append(ids, fmt.Sprintf(format, i))
		}
		return ids
	}
	d.add(several([]string{"000001-block-docomo"}, 3*followPage, "1%05d-slow-gmail")...)
	step := following(t, d, state.DecisionFilter{Limit: 50, Carrier: "docomo", Action: "block"}, true)
	if got, _ := step(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"id":"000001-block-docomo"`) {
		t.Errorf("printed %q, want one object on a line", got)
	}
	asked := d.asked
	if got, _ := step(); got != "" || d.asked != asked+1 {
		t.Errorf("printed %q, and asked %d times for nothing new: want once", got, d.asked-asked)
	}
	// More than a page comes at once, and one of them fits.
	d.add(several([]string{"200007-block-docomo", "200008-block-gmail"}, 2*followPage, "2%05d-slow-docomo")...)
	if got, _ := step(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "200007-block-docomo") {
		t.Errorf("printed %q, want the one that fits", got)
	}
}

// TestFollowDoesNotTakeOldForNew: when records go, older ones move up into the page
// that is looked at.
func TestFollowDoesNotTakeOldForNew(t *testing.T) {
	d := &decided{}
	var all []string
	for i := range 2 * followPage {
		all = append(all, fmt.Sprintf("%05d-slow-gmail", i))
	}
	d.add(all...)
	step := following(t, d, state.DecisionFilter{Limit: 1}, false)
	step()
	d.all = d.all[10:]
	if got, _ := step(); got != "" {
		t.Errorf("printed as new: %s", ids(got))
	}
}

func TestFollowGoesOnWithoutAnAnswer(t *testing.T) {
	d := &decided{}
	step := following(t, d, state.DecisionFilter{Limit: 50}, false)
	if got, said := step(); got != "" || said != "" {
		t.Errorf("of an empty store it printed %q, said %q", got, said)
	}
	d.err = errors.New("gone\x1b[2J")
	if _, said := step(); said != "cannot ask, and goes on trying: gone\\x1b[2J\n" {
		t.Errorf("said %q", said)
	}
	d.add("01-slow-gmail")
	if got, said := step(); got != "" || said != "" {
		t.Errorf("it repeats itself: printed %q, said %q", got, said)
	}
	d.err = nil
	if got, said := step(); ids(got) != "01-slow-gmail" || said != "the server answers again\n" {
		t.Errorf("printed %q, said %q", got, said)
	}
	l := &follow{c: &cli.Call{}, ask: (&decided{err: errors.New("no such key")}).ask}
	if err := l.run(t.Context()); err == nil || err.Error() != "no such key" {
		t.Errorf("a first look that fails: %v, want the reason", err)
	}
}

func TestDecisionText(t *testing.T) {
	for want, d := range map[string]state.Decision{
		"source a1 at docomo: slowed → blocked, by blocked (12 of 14 replies refuse the source)  7": {ID: "7", Carrier: "docomo", Source: "a1", From: "slowed", To: "blocked", Rule: "blocked", Why: "12 of 14 replies refuse the source"},
		"tenant shop, by unknown-users  8": {ID: "8", Tenant: "shop", Rule: "unknown-users"},
	} {
		if got := decisionText(&d); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
