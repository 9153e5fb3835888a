package reputation_test

import (
	"fmt"
	"testing"

	"hikyaku/reputation"
	"hikyaku/reputation/corpus"
)

// agreement counts where the rules judge a set of replies as a postmaster did
// who did not know them.
type agreement struct {
	replies  int
	category int // the same category
	suppress int // the address dead, or not
	final    int // the recipient ends, or is tried again
	source   int // about the source, which slows or rests, or not

	liveSuppressed int // the worst: an address that is not dead
	deadKept       int // gets another mail some day
	lost           int // ends, and would have been tried again
}

func (a agreement) String() string {
	share := func(n int) string { return fmt.Sprintf("%d (%.1f %%)", n, 100*float64(n)/float64(a.replies)) }
	return fmt.Sprintf("%d replies: category %s, suppression %s, end %s, source %s; live suppressed %d, dead kept %d, lost %d",
		a.replies, share(a.category), share(a.suppress), share(a.final), share(a.source), a.liveSuppressed, a.deadKept, a.lost)
}

func agree(t *testing.T, rules *reputation.Rules, list []corpus.Case) (a agreement) {
	about := map[reputation.Category]reputation.About{}
	for _, m := range reputation.Meanings() {
		about[m.Category] = m.About
	}
	a.replies = len(list)
	for i := range list {
		c := &list[i]
		v := rules.Classify(c.Carrier, &c.Reply)
		if v.Category == c.Category {
			a.category++
		}
		switch {
		case v.Suppresses() == c.Hard:
			a.suppress++
		case c.Hard:
			a.deadKept++
		default:
			a.liveSuppressed++
			t.Logf("%s: a live address is suppressed by %s: %q", c.Place, v.Rule, c.Reply.String())
		}
		switch {
		case v.Final == c.Ends:
			a.final++
		case v.Final:
			a.lost++
		}
		if (v.About == reputation.AboutSource) == (about[c.Category] == reputation.AboutSource) {
			a.source++
		}
		if testing.Verbose() && (v.Category != c.Category || v.Suppresses() != c.Hard || v.Final != c.Ends) {
			t.Logf("%s: %q at %q of %q: %s %s final %v by %s, want %s final %v hard %v", c.Place, c.Reply.String(), c.Reply.Phase, c.Carrier,
				v.Category, v.Action, v.Final, v.Rule, c.Category, c.Ends, c.Hard)
		}
	}
	return a
}

// TestAgreement states how the rules do on replies that they were not written
// beside. The figures are those of docs/reputation.md: a rule that changes them
// changes them there too.
func TestAgreement(t *testing.T) {
	for _, tt := range []struct {
		name string
		list []corpus.Case
		want agreement
	}{
		{"mended", mended(t), agreement{replies: 422, category: 392, suppress: 417, final: 419, source: 418, liveSuppressed: 0, deadKept: 5, lost: 2}},
		{"unseen", unseen(t), agreement{replies: 99, category: 63, suppress: 96, final: 88, source: 87, liveSuppressed: 2, deadKept: 1, lost: 8}},
	} {
		got := agree(t, reputation.Shipped(), tt.list)
		t.Logf("%s: %s", tt.name, got)
		if got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// TestSetsAreApart: a reply that is in two sets would be counted as known and as
// never seen.
func TestSetsAreApart(t *testing.T) {
	seen := map[string]string{}
	for _, c := range cases(t) {
		seen[reputation.Normalise(c.Reply.String())] = c.Place
	}
	for _, list := range [][]corpus.Case{mended(t), unseen(t)} {
		for _, c := range list {
			text := reputation.Normalise(c.Reply.String())
			if at := seen[text]; at != "" {
				t.Errorf("%s: %q is at %s too", c.Place, text, at)
			}
			seen[text] = c.Place
		}
	}
}
