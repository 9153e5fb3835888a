package blocklist_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/bench/dns"
	"hikyaku/node/blocklist"
	"hikyaku/node/mx"
)

func TestNames(t *testing.T) {
	for a, want := range map[string]string{
		"192.0.2.99": "99.2.0.192.bad.test", "::ffff:192.0.2.99": "99.2.0.192.bad.test",
		"2001:db8:1:2:3:4:567:89ab": "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.bad.test", // RFC 5782 2.4
	} {
		if got := blocklist.Name(netip.MustParseAddr(a), "bad.test"); got != want {
			t.Errorf("%s: %s, want %s", a, got, want)
		}
	}
}

func TestAnswers(t *testing.T) {
	const zen = "zen.spamhaus.org"
	for _, c := range []struct{ zone, answer, state, means string }{
		{zen, "", "clear", ""},
		{zen, "127.0.0.2", "listed", "SBL (127.0.0.2)"},
		{zen, "127.0.0.3 127.0.0.4", "listed", "SBL CSS (127.0.0.3); XBL (127.0.0.4)"},
		{"key.zen.dq.spamhaus.net", "127.0.0.11", "listed", "PBL (127.0.0.11)"},
		{zen, "127.0.0.9", "listed", "DROP (127.0.0.9)"},
		{zen, "127.0.0.77", "listed", "127.0.0.77"},
		{zen, "127.255.255.252", "refused", "127.255.255.252: the name of the zone is wrong"},
		{zen, "127.255.255.254", "refused", "127.255.255.254: asked through a public resolver; use one of your own"},
		{zen, "127.255.255.255", "refused", "127.255.255.255: too many questions"},
		{zen, "127.255.255.7", "refused", "127.255.255.7: the list refuses the question"},
		{"bad.test", "127.0.0.2", "listed", "127.0.0.2"},
		{"bad.test", "127.0.0.1", "refused", "127.0.0.1: the list refuses the question"},
		{"bad.test", "93.184.216.34", "refused", "93.184.216.34: not the answer of a blocklist"},
		{"bad.test", "127.255.255.254 127.0.0.2", "listed", "127.0.0.2"},
		{"bad.test", "127.0.0.2 127.255.255.254", "listed", "127.0.0.2"},
		{"notspamhaus.org", "127.0.0.2", "listed", "127.0.0.2"},
	} {
		var as []netip.Addr
		for _, a := range strings.Fields(c.answer) {
			as = append(as, netip.MustParseAddr(a))
		}
		state, means := blocklist.Read(c.zone, as)
		if state != c.state || strings.Join(means, "; ") != c.means {
			t.Errorf("%s %s: %s %q, want %s %q", c.zone, c.answer, state, means, c.state, c.means)
		}
	}
}

// TestPlan runs a plan for two hours: no pair more often than every quarter of an
// hour, all of them that often, and no burst.
func TestPlan(t *testing.T) {
	var p blocklist.Plan
	var all []blocklist.Pair
	for i := range 50 {
		for _, z := range []string{"a.test", "b.test", "c.test"} {
			all = append(all, blocklist.Pair{Addr: netip.AddrFrom4([4]byte{93, 184, 216, byte(i)}), Zone: z})
		}
	}
	start := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	p.Set(all, start)
	last, count, perMinute := map[blocklist.Pair]time.Time{}, map[blocklist.Pair]int{}, map[int]int{}
	for {
		x, at, ok := p.Next()
		if !ok {
			t.Fatal("nothing is due")
		}
		if at.After(start.Add(2 * time.Hour)) {
			break
		}
		if was, ok := last[x]; ok && at.Sub(was) < blocklist.Every {
			t.Fatalf("%v again after %v", x, at.Sub(was))
		}
		last[x] = at
		count[x]++
		perMinute[int(at.Sub(start)/time.Minute)]++
		p.Asked(at)
		if count[x] == 3 {
			p.Set(all, at) // changes nothing
		}
	}
	for _, x := range all {
		if count[x] != 8 && count[x] != 9 {
			t.Errorf("%v was due %d times in two hours", x, count[x])
		}
	}
	for m, n := range perMinute {
		if n > 30 {
			t.Errorf("%d questions in minute %d", n, m)
		}
	}
	p.Set(nil, start)
	if _, _, ok := p.Next(); ok {
		t.Error("a pair is left")
	}
}

// list is DNS in memory.
type list struct {
	mu     sync.Mutex
	a      map[string][]netip.Addr
	fail   error
	asked  []string
	active int
	most   int
	dead   bool // lists nobody, not even its test address
	wild   bool // lists everybody
}

func (l *list) A(_ context.Context, name string) ([]netip.Addr, error) {
	l.mu.Lock()
	switch {
	case l.fail != nil:
	case l.wild, strings.HasPrefix(name, "2.0.0.127.") && !l.dead:
		defer l.mu.Unlock()
		return []netip.Addr{netip.MustParseAddr("127.0.0.2")}, nil
	case strings.HasPrefix(name, "1.0.0.127."), strings.HasPrefix(name, "2.0.0.127."):
		defer l.mu.Unlock()
		return nil, nil
	}
	l.asked = append(l.asked, name)
	l.active++
	l.most = max(l.most, l.active)
	l.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active--
	return l.a[name], l.fail
}

// seen are the questions so far, and the most at a time.
func (l *list) seen() ([]string, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.asked), l.most
}

// notes is a log that can be read while it is written.
type notes struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.Write(p)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.String()
}

func (l *list) TXT(_ context.Context, name string) ([]string, error) {
	return []string{"see https://x.test/\x1b[31m?" + name + strings.Repeat("é", 400)}, nil
}

func (l *list) set(name, answer string, fail error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.a, l.fail = map[string][]netip.Addr{}, fail
	if answer != "" {
		l.a[name] = []netip.Addr{netip.MustParseAddr(answer)}
	}
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &list{}
		zones := []string{}
		sources := []blocklist.Source{{Name: "one", Addr: netip.MustParseAddr("93.184.216.1")}, {Name: "inner", Addr: netip.MustParseAddr("10.0.0.1")}, {Name: "none"}}
		var mu sync.Mutex
		var text notes
		w, err := blocklist.New(blocklist.Options{
			Lookup: l, Logger: slog.New(slog.NewTextHandler(&text, nil)),
			Sources: func() []blocklist.Source { mu.Lock(); defer mu.Unlock(); return sources },
			Zones:   func() []string { mu.Lock(); defer mu.Unlock(); return zones },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		time.Sleep(time.Hour)
		if asked, _ := l.seen(); len(asked) != 0 || len(w.Status()) != 0 {
			t.Fatalf("asked %v although there is no zone", asked)
		}
		mu.Lock()
		zones = []string{"Bad.test.", "bad.test"}
		mu.Unlock()
		time.Sleep(time.Minute + time.Second)
		if s := w.Status(); len(s) != 1 || s[0].Zone != "bad.test" || s[0].Source.Name != "one" {
			t.Fatalf("status %+v", s)
		}
		const name = "1.216.184.93.bad.test"
		step := func(answer string, fail error, want string) blocklist.Listing {
			t.Helper()
			l.set(name, answer, fail)
			time.Sleep(blocklist.Every + time.Minute)
			s := w.Status()
			if len(s) != 1 || s[0].State != want {
				t.Fatalf("after %q, %v: %+v, want %s", answer, fail, s, want)
			}
			return s[0]
		}
		step("", errors.New("SERVFAIL"), "failed")
		step("", nil, "clear")
		step("", errors.New("SERVFAIL"), "clear")
		first := step("127.0.0.2", nil, "listed")
		if !strings.HasPrefix(first.Reason, "see https://x.test/ [31m?1.216") || len(first.Reason) > 300 || len(w.Alarms()) != 1 || w.Alarms()[0] != "source one (93.184.216.1) is on the blocklist bad.test: 127.0.0.2" {
			t.Errorf("%+v, alarms %v", first, w.Alarms())
		}
		if again := step("127.0.0.2", nil, "listed"); !again.Since.Equal(first.Since) || !again.Checked.After(first.Checked) {
			t.Errorf("%+v after %+v", again, first)
		}
		step("127.0.0.2", errors.New("SERVFAIL"), "listed")
		step("127.255.255.254", nil, "refused")
		step("", nil, "clear")
		if len(w.Alarms()) != 0 {
			t.Errorf("alarms %v", w.Alarms())
		}
		asked, most := l.seen()
		asked = slices.DeleteFunc(asked, func(n string) bool { return n != name }) // without those that test the zone
		if len(asked) < 8 || len(asked) > 11 || most != 1 {
			t.Errorf("%d questions, %d at a time", len(asked), most)
		}
		mu.Lock()
		zones = nil
		mu.Unlock()
		time.Sleep(2 * time.Minute)
		if s := w.Status(); len(s) != 0 {
			t.Errorf("after the zone went: %+v", s)
		}
		for _, want := range []string{"a source is on a blocklist", "cannot be asked", "does not answer our resolver"} {
			if strings.Count(text.String(), want) != 1 {
				t.Errorf("the log does not say once %q:\n%s", want, text.String())
			}
		}
	})
}

func TestManySourcesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &list{}
		var sources []blocklist.Source
		for i := range 3000 {
			sources = append(sources, blocklist.Source{Name: fmt.Sprint(i), Addr: netip.AddrFrom4([4]byte{93, 184, byte(i >> 8), byte(i)})})
		}
		w, err := blocklist.New(blocklist.Options{Lookup: l, Sources: func() []blocklist.Source { return sources }, Zones: func() []string { return []string{"a.test", "b.test"} }})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		time.Sleep(blocklist.Every)
		if n := len(w.Status()); n != blocklist.MaxPairs {
			t.Errorf("%d listings", n)
		}
		asked, _ := l.seen()
		slices.Sort(asked)
		if all, n := len(asked), len(slices.Compact(asked)); n != all || n > blocklist.MaxPairs {
			t.Errorf("%d questions, %d different, in one interval", all, n)
		}
	})
}

// TestRealDNS asks over packets, through the node's resolver.
func TestRealDNS(t *testing.T) {
	s, err := dns.Start("$TTL 300\n. SOA ns.test. h.test. 1 3600 600 86400 60\n1.216.184.93.bad.test. A 127.0.0.2\n1.216.184.93.bad.test. TXT \"listed\"\n", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := mx.New(mx.Config{Servers: []string{s.Addr()}, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var lookup blocklist.Lookup = r
	for a, want := range map[string]string{"93.184.216.1": blocklist.Listed, "93.184.216.2": blocklist.Clear} {
		answer, err := lookup.A(t.Context(), blocklist.Name(netip.MustParseAddr(a), "bad.test"))
		if state, _ := blocklist.Read("bad.test", answer); err != nil || state != want {
			t.Errorf("%s: %s, %v, want %s", a, state, err, want)
		}
	}
}

// TestZonesThatAreNoListsAreNotBelieved: a zone that was shut down lists everybody
// or nobody, and shows it by the two test addresses.
func TestZonesThatAreNoListsAreNotBelieved(t *testing.T) {
	for _, c := range []struct {
		name       string
		dead, wild bool
		four, six  string
	}{
		{"a list (the control)", false, false, "clear", "clear"},
		{"lists nobody", true, false, "refused", "clear"}, // lists of IPv6 alone need not have the test address of IPv4
		{"lists everybody", false, true, "refused", "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &list{dead: c.dead, wild: c.wild}
				w, err := blocklist.New(blocklist.Options{
					Lookup: l, Zones: func() []string { return []string{"bad.test"} },
					Sources: func() []blocklist.Source {
						return []blocklist.Source{{Name: "four", Addr: netip.MustParseAddr("93.184.216.1")}, {Name: "six", Addr: netip.MustParseAddr("2606:2800::1")}}
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				defer w.Close()
				time.Sleep(blocklist.Every + time.Minute)
				s := w.Status()
				if len(s) != 2 || s[0].State != c.four || s[1].State != c.six || len(w.Alarms()) != 0 {
					t.Errorf("%+v, alarms %v", s, w.Alarms())
				}
				l.mu.Lock()
				l.dead, l.wild = false, false
				l.mu.Unlock()
				time.Sleep(blocklist.Every + time.Minute)
				if s := w.Status(); s[0].State != "clear" || s[1].State != "clear" {
					t.Errorf("after it came back: %+v", s)
				}
			})
		})
	}
}

func TestSilenceIsNotClearForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &list{}
		w, err := blocklist.New(blocklist.Options{
			Lookup: l, Zones: func() []string { return []string{"bad.test"} },
			Sources: func() []blocklist.Source {
				return []blocklist.Source{{Name: "one", Addr: netip.MustParseAddr("93.184.216.1")}}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		time.Sleep(blocklist.Every + time.Minute)
		l.set("", "", errors.New("SERVFAIL"))
		time.Sleep(time.Hour)
		if s := w.Status(); s[0].State != "clear" {
			t.Errorf("after an hour: %+v", s)
		}
		time.Sleep(90 * time.Minute)
		if s := w.Status(); s[0].State != "failed" || len(s[0].Means) != 1 || s[0].Means[0] != "SERVFAIL" {
			t.Errorf("after hours: %+v", s)
		}
	})
}
