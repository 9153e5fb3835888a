package reputation_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"hikyaku/controlplane/catalogue"
	"hikyaku/reputation"
	"hikyaku/reputation/corpus"
)

func cases(t testing.TB) []corpus.Case { return set(t, corpus.All) }

// mended and unseen are the sets of package corpus that the rules were not
// written beside.
func mended(t testing.TB) []corpus.Case { return set(t, corpus.Mended) }
func unseen(t testing.TB) []corpus.Case { return set(t, corpus.Unseen) }

func set(t testing.TB, load func() ([]corpus.Case, error)) []corpus.Case {
	t.Helper()
	list, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestCorpus: each reply of the corpus is classified as its source reads, and each
// shipped rule is there for one of them at least.
func TestCorpus(t *testing.T) {
	list := cases(t)
	rules, err := reputation.Load(os.DirFS("."), "rules", corpus.Examples(slices.Concat(list, mended(t))))
	if err != nil {
		t.Error(err)
		rules = reputation.Shipped()
	}
	carriers := map[string]int{}
	for i := range list {
		c := &list[i]
		carriers[c.Carrier]++
		v := rules.Classify(c.Carrier, &c.Reply)
		if v.Category != c.Category || v.Final != c.Ends {
			t.Errorf("%s: %q at %q of %q: %s final %v by %s, want %s final %v", c.Place, c.Reply.String(), c.Reply.Phase, c.Carrier, v.Category, v.Final, v.Rule, c.Category, c.Ends)
		}
		// Said once more on its own: this one must never be swapped.
		if v.Suppresses() != c.Hard {
			t.Errorf("%s: %q: suppresses %v by %s (%s), but is hard %v", c.Place, c.Reply.String(), v.Suppresses(), v.Rule, v.Action, c.Hard)
		}
	}
	delete(carriers, "")
	if len(list) < 600 || len(carriers) < 25 {
		t.Errorf("%d replies of %d carriers: want at least 600 of 25", len(list), len(carriers))
	}
	t.Logf("%d replies of %d carriers, %d rules", len(list), len(carriers), len(rules.List()))
}

func TestCorpusNamesItsSources(t *testing.T) {
	for _, c := range slices.Concat(cases(t), mended(t), unseen(t)) {
		ok := slices.ContainsFunc([]string{"https://", "http://", "RFC ", "reports of "}, func(p string) bool { return strings.HasPrefix(c.Source, p) }) || strings.Contains(c.Source, "@")
		if !ok {
			t.Errorf("%s: %q is no source", c.Place, c.Source)
		}
	}
}

// TestCarriersAreInTheCatalogue: a rule for a carrier that policy never names
// would never be asked.
func TestCarriersAreInTheCatalogue(t *testing.T) {
	for _, c := range reputation.Shipped().Carriers() {
		if !catalogue.Has(c) {
			t.Errorf("there are rules for %q, which is no carrier of the catalogue", c)
		}
	}
	for _, c := range slices.Concat(cases(t), mended(t), unseen(t)) {
		if c.Carrier != "" && !catalogue.Has(c.Carrier) {
			t.Errorf("%s: %q is no carrier of the catalogue", c.Place, c.Carrier)
		}
	}
}
