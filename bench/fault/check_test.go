package fault

import (
	"strings"
	"testing"
	"time"
)

// ms makes sights readable: node/epoch sends from source a at each time.
func sends(conn uint64, node string, epoch int64, at ...int) []Sight {
	var out []Sight
	for i, t := range at {
		k := Mail
		if i == 0 {
			k = Connected
		}
		out = append(out, Sight{At: time.Duration(t) * time.Millisecond, Kind: k, Conn: conn, Carrier: "c", Source: "a", Node: node, Epoch: epoch})
	}
	return out
}

func join(lists ...[]Sight) []Sight {
	var out []Sight
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}

func TestExclusive(t *testing.T) {
	bare := sends(9, "", 0, 10, 20)
	for name, c := range map[string]struct {
		sights []Sight
		want   []string
	}{
		"in turn":                  {join(sends(1, "n1", 1, 0, 10, 20), sends(2, "n2", 2, 30, 40), sends(3, "n1", 3, 50, 60)), nil},
		"two connections of one":   {join(sends(1, "n1", 1, 0, 10, 50), sends(2, "n1", 1, 5, 20)), nil},
		"an old one idles":         {join(sends(1, "n1", 1, 0, 10), sends(2, "n2", 2, 20, 30), []Sight{{At: 40 * time.Millisecond, Kind: Ended, Conn: 1, Source: "a", Node: "n1", Epoch: 1}}), nil},
		"another source":           {join(sends(1, "n1", 1, 0, 50), func() []Sight { s := sends(2, "n2", 1, 10, 20); s[0].Source, s[1].Source = "b", "b"; return s }()), nil},
		"connects too early":       {join(sends(1, "n1", 1, 0, 10, 20), sends(2, "n2", 2, 15, 30)), []string{RuleOneNode}},
		"old one sends on":         {join(sends(1, "n1", 1, 0, 10, 35), sends(2, "n2", 2, 20, 30)), []string{RuleOneNode, RuleEpochs}},
		"same node, two epochs":    {join(sends(1, "n1", 1, 0, 30), sends(2, "n1", 2, 20, 40)), []string{RuleOneNode}},
		"one long against two":     {join(sends(1, "n1", 1, 0, 100), sends(2, "n2", 2, 10, 20), sends(3, "n3", 3, 30, 40)), []string{RuleOneNode, RuleOneNode, RuleEpochs}},
		"epoch falls, in turn":     {join(sends(1, "n1", 5, 0, 10), sends(2, "n2", 4, 20, 30)), []string{RuleEpochs}},
		"no name":                  {bare, []string{RuleUnknown}},
		"the name comes with EHLO": {join([]Sight{{At: 0, Kind: Connected, Conn: 1, Source: "a"}}, sends(1, "n1", 1, 1, 10), []Sight{{At: 5 * time.Millisecond, Kind: Connected, Conn: 2, Source: "a"}}, sends(2, "n2", 2, 11, 12)), []string{RuleOneNode}},
	} {
		vs := Exclusive(c.sights)
		var got []string
		for _, v := range vs {
			got = append(got, v.Rule)
		}
		if strings.Join(got, ",") != strings.Join(c.want, ",") && !sameRules(got, c.want) {
			t.Errorf("%s: %v, want %v", name, vs, c.want)
		}
	}
}

func sameRules(a, b []string) bool {
	count := map[string]int{}
	for _, s := range a {
		count[s]++
	}
	for _, s := range b {
		count[s]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

func all(Sight) bool { return true }

func TestWindows(t *testing.T) {
	every := func(n, step int) (out []Sight) {
		for i := range n {
			out = append(out, Sight{At: time.Duration(i*step) * time.Millisecond, Kind: Mail})
		}
		return out
	}
	b := Budget{PerSecond: 10, Burst: 2}
	if vs := Windows("c", every(1000, 100), b, all); len(vs) != 0 {
		t.Errorf("at the rate: %v", vs)
	}
	if vs := Windows("c", every(2, 0), b, all); len(vs) != 0 {
		t.Errorf("the burst: %v", vs)
	}
	if vs := Windows("c", every(3, 0), b, all); len(vs) != 1 {
		t.Errorf("three at once: %v", vs)
	}
	if vs := Windows("c", every(1000, 99), b, all); len(vs) == 0 {
		t.Error("one in a hundred above the rate was not seen")
	}
	if vs := Windows("c", every(3, 0), Budget{PerSecond: 10, Burst: 2, Slack: 100 * time.Millisecond}, all); len(vs) != 0 {
		t.Errorf("within the slack: %v", vs)
	}
	if vs := Windows("c", every(1000, 0), b, func(Sight) bool { return false }); len(vs) != 0 {
		t.Errorf("others' mail: %v", vs)
	}
	// A burst twice, with the rate not yet recovered between.
	twice := append(every(2, 0), Sight{At: 150 * time.Millisecond, Kind: Mail}, Sight{At: 150 * time.Millisecond, Kind: Mail})
	if vs := Windows("c", twice, b, all); len(vs) != 1 || !strings.Contains(vs[0].Text, "above the rate of 10/s within 0.150 s") {
		t.Errorf("two bursts: %v", vs)
	}
}

func TestOpen(t *testing.T) {
	at := func(ms int, k Kind) Sight { return Sight{At: time.Duration(ms) * time.Millisecond, Kind: k} }
	list := []Sight{at(0, Connected), at(1, Connected), at(10, Connected), at(12, Ended), at(20, Ended), at(30, Ended)}
	if vs := Open("c", list, 3, 0, all); len(vs) != 0 {
		t.Errorf("within the limit: %v", vs)
	}
	if vs := Open("c", list, 2, 0, all); len(vs) != 1 {
		t.Errorf("one above: %v", vs)
	}
	if vs := Open("c", list, 2, 5*time.Millisecond, all); len(vs) != 0 {
		t.Errorf("within the slack: %v", vs)
	}
}
