package catalogue_test

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hikyaku/controlplane/catalogue"
	"hikyaku/controlplane/policy"
)

// set is what is in force under local resources.
func set(t testing.TB, local ...policy.Resource) *policy.Set {
	t.Helper()
	s, problems := policy.New(catalogue.Over(local))
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	return s
}

func carrier(name string, c policy.Carrier) policy.Resource {
	return policy.Resource{Kind: policy.KindCarrier, Name: name, Spec: &c}
}

func reputation(catalogue string) policy.Resource {
	return policy.Resource{Kind: policy.KindReputation, Name: policy.DefaultName, Spec: &policy.Reputation{Catalogue: catalogue}}
}

// names are all that ever shipped. Stored policy may refer to each, so a name is
// never taken out of this list.
var names = strings.Fields(`gmail outlook microsoft365 yahoo icloud comcast att gmx mail-com tonline orange laposte sfr free kpn
	libero mailru yandex rambler qq netease netvigator zoho proofpoint mimecast barracuda docomo au softbank softbank-i ymobile rakuten
	yahoo-japan ocn nifty biglobe so-net jcom au-one-net webarena`)

func TestWhatShipsIsValidAndStays(t *testing.T) {
	s := set(t)
	for _, name := range names {
		if s.Carriers[name] == nil || !catalogue.Has(name) {
			t.Errorf("%s does not ship any more; policy may refer to it", name)
		}
	}
	if got := catalogue.Names(); !slices.Equal(got, names) {
		t.Errorf("add to the list of names: %q", got)
	}
	for _, v := range catalogue.View(nil) {
		c := v.InForce
		if v.Origin != catalogue.Shipped || v.Local != nil || v.LeftOut || len(v.Released) > 0 || v.Title == "" {
			t.Errorf("%s: %+v", v.Name, v)
		}
		if len(c.MX)+len(c.Domains) == 0 {
			t.Errorf("%s matches nothing", v.Name)
		}
		if c.Origin == "" || !strings.HasSuffix(c.Origin, ".") {
			t.Errorf("%s does not say where its settings come from", v.Name)
		}
		// Limits over all sources would be shared by nodes, and nobody knows how many sources there are.
		if !c.Limits.IsZero() || c.PerSource.Connections == 0 || c.MessagesPerConnection == 0 {
			t.Errorf("%s: %+v", v.Name, c)
		}
		for _, m := range c.MX {
			if strings.HasSuffix(m, ".") {
				t.Errorf("%s: MX suffix %s would match nothing", v.Name, m)
			}
		}
	}
}

// TestReplyRulesKnowTheNames: reply rules and settings hang on the same names.
func TestReplyRulesKnowTheNames(t *testing.T) {
	files, err := filepath.Glob("../../reputation/rules/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no rules: %v", err)
	}
	checked := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			list, ok := strings.CutPrefix(strings.TrimSpace(line), "carriers: [")
			if !ok {
				continue
			}
			for name := range strings.SplitSeq(strings.TrimSuffix(list, "]"), ",") {
				if name = strings.TrimSpace(name); !catalogue.Has(name) {
					t.Errorf("%s: no carrier %q ships", file, name)
				}
				checked++
			}
		}
	}
	if checked < 30 {
		t.Errorf("only %d names were read", checked)
	}
}

// TestMX holds the matching against MX hosts as they are.
func TestMX(t *testing.T) {
	f, err := os.Open("testdata/mx.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := set(t)
	lines, seen := 0, map[string]bool{}
	for in := bufio.NewScanner(f); in.Scan(); {
		if in.Text() == "" || in.Text()[0] == '#' {
			continue
		}
		fields := strings.Split(in.Text(), "|")
		if len(fields) != 4 || strings.TrimSpace(fields[3]) == "" {
			t.Fatalf("not domain | hosts | carrier | source: %s", in.Text())
		}
		domain, hosts, want := strings.TrimSpace(fields[0]), strings.Fields(fields[1]), strings.TrimSpace(fields[2])
		if got := s.CarrierOf(domain, hosts); got != want {
			t.Errorf("%s %v: %s, want %s", domain, hosts, got, want)
		}
		lines++
		seen[want] = true
	}
	if lines < 80 {
		t.Errorf("%d lines are too few", lines)
	}
	for _, name := range append(names, "default") {
		if !seen[name] {
			t.Errorf("no line for %s", name)
		}
	}
}
