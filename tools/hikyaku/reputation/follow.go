package reputation

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"hikyaku/controlplane/api"
	"hikyaku/controlplane/state"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
)

// Bounds of one question for what is new.
const (
	followPage  = 250
	followPages = 50 // more than the store keeps
)

// follow prints decisions as they come.
//
// It asks for the newest of all and picks itself: a filter on the server would
// have it read all that is kept, every two seconds, to find the few that fit. What
// is new is what was not there at the last look, and not what has a greater ID:
// the next leader's clock may be behind that of the last.
type follow struct {
	c   *cli.Call
	ask func(context.Context, state.DecisionFilter) (*api.DecisionList, error)
	f   state.DecisionFilter

	seen    map[string]bool // what the last look found
	floor   string          // what is older was there before; "" if all that was there is in seen
	failing bool            // the last look was not answered
}

// run prints what there is, and then what comes, until ctx ends.
func (l *follow) run(ctx context.Context) error {
	if err := l.begin(ctx); err != nil {
		return err
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := l.look(ctx); err != nil {
			return err
		}
	}
}

// begin prints what there is, the oldest first.
func (l *follow) begin(ctx context.Context) error {
	// First the mark, then the listing: what is decided in between is in the
	// listing, and is remembered as printed.
	mark, err := l.ask(ctx, state.DecisionFilter{Limit: followPage})
	if err != nil {
		return err
	}
	list, err := l.ask(ctx, l.f)
	if err != nil {
		return err
	}
	l.remember(mark.Decisions, mark.Next != "")
	for i := range slices.Backward(list.Decisions) {
		d := &list.Decisions[i]
		l.seen[d.ID] = true
		if err := l.print(d); err != nil {
			return err
		}
	}
	return nil
}

// look prints what is new. That the server does not answer is said once, and it is
// asked again: whoever follows wants to see what happens meanwhile.
func (l *follow) look(ctx context.Context) error {
	try, cancel := context.WithTimeout(ctx, 5*watchEvery)
	defer cancel()
	fresh, err := l.fresh(try)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil && !l.failing:
		fmt.Fprintf(l.c.Err, "cannot ask, and goes on trying: %s\n", human.Clean(err.Error()))
	case err == nil && l.failing:
		fmt.Fprintln(l.c.Err, "the server answers again")
	}
	l.failing = err != nil
	for i := range slices.Backward(fresh) {
		if d := &fresh[i]; l.picks(d) {
			if err := l.print(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// fresh is what the last look has not found, the newest first.
func (l *follow) fresh(ctx context.Context) ([]state.Decision, error) {
	var all, fresh []state.Decision
	page := state.DecisionFilter{Limit: followPage}
	for range followPages {
		got, err := l.ask(ctx, page)
		if err != nil {
			return nil, err
		}
		known := false
		for _, d := range got.Decisions {
			if l.seen[d.ID] || d.ID <= l.floor {
				known = true
			} else {
				fresh = append(fresh, d)
			}
		}
		all, page.Page = append(all, got.Decisions...), got.Next
		if known || got.Next == "" {
			break
		}
	}
	l.remember(all, page.Page != "")
	return fresh, nil
}

// remember takes what a look has found; more says that there is older.
func (l *follow) remember(ds []state.Decision, more bool) {
	l.seen = make(map[string]bool, len(ds))
	for i := range ds {
		l.seen[ds[i].ID] = true
	}
	if more && len(ds) > 0 {
		l.floor = ds[len(ds)-1].ID
	}
}

func (l *follow) picks(d *state.Decision) bool {
	for _, x := range [...][2]string{{l.f.Carrier, d.Carrier}, {l.f.Source, d.Source}, {l.f.Tenant, d.Tenant}, {l.f.Action, d.Action}} {
		if x[0] != "" && x[0] != x[1] {
			return false
		}
	}
	return true
}

// print is one decision on one line.
func (l *follow) print(d *state.Decision) error {
	if l.c.JSON {
		e := json.NewEncoder(l.c.Out)
		e.SetEscapeHTML(false)
		if err := e.Encode(d); err != nil {
			return fmt.Errorf("print JSON: %w", err)
		}
		return nil
	}
	action := l.c.Paint(fmt.Sprintf("%-12s", actionText(d)), cli.StateColor(d.Action))
	_, err := fmt.Fprintf(l.c.Out, "%s  %s  %s\n", human.Stamp(d.At), action, human.Clean(strings.ReplaceAll(decisionText(d), "\n", " ")))
	return err
}

// decisionText is "source a1 at docomo: slowed → blocked until 2026-11-22
// 10:44:00, by blocked (12 of 14 replies refuse the source)  ID".
func decisionText(d *state.Decision) string {
	var b strings.Builder
	b.WriteString(subject(d))
	if to := change(d); to != "" {
		b.WriteString(": " + to)
	}
	if !d.Until.IsZero() {
		b.WriteString(" until " + human.Stamp(d.Until))
	}
	b.WriteString(", by " + d.Rule)
	if d.Why != "" {
		b.WriteString(" (" + d.Why + ")")
	}
	b.WriteString("  " + d.ID)
	return b.String()
}
