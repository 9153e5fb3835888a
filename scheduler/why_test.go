package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hikyaku/spool/message"
)

// plight is a situation and what Why says of it.
type plight struct {
	name   string
	policy []string
	cfg    Config
	tell   func(st *story)
	until  time.Duration
	key    message.QueueKey
}

var plights = []plight{
	{name: "nothing due", tell: func(st *story) { st.s.AddQueue(st.now, key("a.example", "red"), st.now.Add(time.Hour)) }},
	{name: "held", tell: func(st *story) {
		st.s.Hold(st.now, Hold{ID: "act-7", Scope: message.Scope{Destination: "a.example"}, Reason: "they asked us to wait"})
		st.accept(key("a.example", "red"), 3)
	}},
	{name: "every source held", tell: func(st *story) {
		st.s.Hold(st.now, Hold{ID: "act-8", Scope: message.Scope{Source: "default", Tenant: "red"}, Reason: "listed"})
		st.accept(key("a.example", "red"), 3)
	}},
	{name: "job paused", key: key("a.example", "red", "job=sale"), tell: func(st *story) {
		st.s.SetJob(st.now, "red", "sale", JobControl{Paused: true})
		st.accept(key("a.example", "red", "job=sale"), 3)
	}},
	{name: "job stopped by its rate", key: key("a.example", "red", "job=sale"), until: sec, tell: func(st *story) {
		st.s.SetJob(st.now, "red", "sale", JobControl{Rate: rateOf(st.t, "0/s")})
		st.accept(key("a.example", "red", "job=sale"), 3)
	}},
	{name: "window", policy: []string{`Stream default {"windows":[{"start":"18:00","end":"20:00","tz":"Asia/Tokyo"}]}`, `Tenant red {"per_day":1}`}, until: 14 * time.Hour,
		tell: func(st *story) { st.accept(key("a.example", "red"), 3) }},
	{name: "pool without source", policy: []string{`Source s1 {"disabled":true}`, `Pool cold {"sources":[{"name":"s1"}]}`}, key: key("a.example", "red", "pool=cold"),
		tell: func(st *story) { st.accept(key("a.example", "red", "pool=cold"), 3) }},
	{name: "look-up waits", cfg: Config{MaxResolving: 1}, key: key("b.example", "red"), tell: func(st *story) {
		st.mute = true
		st.accept(key("a.example", "red"), 1)
		st.accept(key("b.example", "red"), 1)
	}},
	{name: "look-up failed", tell: func(st *story) {
		st.mute = true
		st.accept(key("a.example", "red"), 1)
		st.at(sec, func() {
			st.s.ResolveFailed(st.now, "a.example", message.Reply{Code: 451, Text: "servfail", Fault: message.FaultDNS}, st.now.Add(time.Minute))
			st.accept(key("a.example", "red"), 1)
		})
	}, until: 2 * sec},
	{name: "carrier rate, all sources", policy: []string{`Carrier default {"limits":{"rate":"10/m"}}`}, until: 2 * sec,
		tell: func(st *story) { st.accept(key("a.example", "red"), 3) }},
	{name: "carrier rate, each source", until: 8 * sec,
		policy: []string{"Source s1 {}", "Source s2 {}", `Pool default {"sources":[{"name":"s1"},{"name":"s2"}]}`, `Carrier big {"domains":["a.example"],"per_source":{"rate":"10/m"}}`},
		tell:   func(st *story) { st.accept(key("a.example", "red"), 30) }},
	{name: "tenant's day", policy: []string{`Tenant red {"per_day":2}`}, until: 5 * sec, tell: func(st *story) { st.accept(key("a.example", "red"), 3) }},
	{name: "stream's rate", policy: []string{`Stream default {"rate":"1/m"}`}, until: 5 * sec, tell: func(st *story) { st.accept(key("a.example", "red"), 3) }},
	{name: "connections of a carrier", policy: []string{`Carrier big {"domains":["a.example","b.example"],"limits":{"connections":2}}`}, until: 5 * sec,
		tell: func(st *story) {
			st.latency = func(Lane) time.Duration { return time.Minute }
			st.accept(key("b.example", "red"), 50)
			st.at(sec, func() { st.accept(key("a.example", "red"), 3) })
		}},
	{name: "connections of the node", cfg: Config{MaxSessions: 1}, until: 5 * sec, tell: func(st *story) {
		st.latency = func(Lane) time.Duration { return time.Minute }
		st.accept(key("b.example", "red"), 50)
		st.at(sec, func() { st.accept(key("a.example", "red"), 3) })
	}},
	{name: "connection rate", policy: []string{`Carrier default {"limits":{"connection_rate":"1/m"}}`}, until: 5 * sec,
		tell: func(st *story) { st.accept(key("a.example", "red"), 3) }},
	{name: "being connected", until: 10 * time.Millisecond, tell: func(st *story) { st.accept(key("a.example", "red"), 3) }},
	{name: "site does not answer", until: 40 * sec, tell: func(st *story) {
		st.dead = func(string, time.Duration) bool { return true }
		st.accept(key("a.example", "red"), 30)
	}},
	{name: "its turn", policy: []string{`Carrier default {"per_source":{"connections":1}}`}, until: sec, tell: func(st *story) {
		st.accept(key("b.a.example", "red"), 500)
		st.accept(key("a.example", "red"), 500)
	}},
	{name: "in line for its tenant's budget", policy: []string{`Tenant red {"rate":"1/s,burst=3"}`}, until: 3*sec + 10*time.Millisecond, key: key("b.example", "red"), tell: func(st *story) {
		st.latency = func(Lane) time.Duration { return time.Minute }
		for _, d := range []string{"a.example", "b.example", "c.example"} {
			st.accept(key(d, "red"), 50)
		}
	}},
	{name: "memory is full", cfg: Config{MaxLoaded: 4}, until: sec, key: key("z.example", "red"), tell: func(st *story) {
		st.latency = func(Lane) time.Duration { return time.Minute }
		for _, d := range []string{"a.example", "b.example", "z.example"} {
			st.accept(key(d, "red"), 20)
		}
	}},
}

func TestWhy(t *testing.T) {
	var b strings.Builder
	for _, p := range plights {
		st := newStory(t, p.cfg, append([]string{"Source default {}"}, p.policy...)...)
		p.tell(st)
		st.play(max(p.until, time.Millisecond))
		k := p.key
		if k.Destination == "" {
			k = key("a.example", "red")
		}
		view, known := st.s.QueueViewOf(st.now, k)
		fmt.Fprintf(&b, "# %s (%s, known %v)\n", p.name, view.State, known)
		for _, r := range st.s.Why(st.now, k) {
			until := ""
			if !r.Until.IsZero() {
				until = ", until " + r.Until.Format("15:04:05.000")
			}
			fmt.Fprintf(&b, "%s of %s: value %q, used %q%s\n\t%s\n", r.Limit, r.Scope, r.Value, r.Used, until, r.Text)
		}
	}
	golden(t, "why", b.String())
}

// Who is due for longest comes first, and no more than asked for.
func TestWhyScope(t *testing.T) {
	st := newStory(t, Config{}, "Source default {}")
	st.s.Hold(st.now, Hold{ID: "1"})
	for i, tenant := range []string{"red", "blue", "red", "red"} {
		st.s.AddQueue(st.now, key(fmt.Sprintf("d%d.example", i), tenant), st.now.Add(-time.Duration(i)*time.Minute))
	}
	var got []string
	for _, w := range st.s.WhyScope(st.now, message.Scope{Tenant: "red"}, 2) {
		if len(w.Reasons) != 1 || w.Reasons[0].Limit != "held" {
			t.Errorf("%v: %v", w.Key, w.Reasons)
		}
		got = append(got, w.Key.Destination)
	}
	if want := []string{"d3.example", "d2.example"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if due, k, ok := st.s.OldestDue(st.now); !ok || k.Destination != "d3.example" || st.now.Sub(due) != 3*time.Minute {
		t.Errorf("the oldest is %v, due %s", k, due)
	}
}
