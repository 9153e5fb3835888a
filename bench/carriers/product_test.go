package carriers_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hikyaku/bench/carriers"
	"hikyaku/bench/peers"
	"hikyaku/controlplane/policy"
)

// submit hands the node one job of n recipients, spread over a profile's domains.
func submit(t *testing.T, h *peers.Hikyaku, p *carriers.Profile, first, n int) (addresses []string) {
	t.Helper()
	var to []map[string]string
	for i := range n {
		a := fmt.Sprintf("r%d@%s", first+i, strings.TrimPrefix(p.Domains[i%len(p.Domains)], "*."))
		addresses = append(addresses, a)
		to = append(to, map[string]string{"email": a})
	}
	code, answer := h.Post(t, "/v1/messages", map[string]any{"from": map[string]string{"email": "news@shop.test"}, "subject": "Hello", "text": "Hello", "to": to})
	if code != 202 {
		t.Fatalf("%s: %d %v", p.Name, code, answer)
	}
	return addresses
}

func logStates(t *testing.T, f *carriers.Farm) {
	t.Helper()
	for _, s := range f.Snapshot() {
		t.Logf("%-13s offered %5d allowed %5d delivered %5d deferred %3d refused %3d resets %2d blocked %2d peak %2d use %.2f violations %d", s.Carrier, s.Offered, s.Allowed,
			s.Delivered, s.Deferred, s.Refused, s.Resets, s.Counters.Blocked, s.Peak, s.Use, s.Counters.Violations)
	}
}

// TestLimitsHoldThroughRestarts: a node that presses against every limit from
// three sources, and is killed and restarted meanwhile, violates none.
// HIKYAKU_CARRIERS_SECONDS makes it longer.
func TestLimitsHoldThroughRestarts(t *testing.T) {
	lasts := 8 * time.Second
	if s, err := strconv.Atoi(os.Getenv("HIKYAKU_CARRIERS_SECONDS")); err == nil {
		lasts = time.Duration(s) * time.Second
	}
	ps := named(t, "gmail", "outlook", "yahoo", "icloud", "docomo", "au", "softbank", "yahoo-japan", "gmx", "sink")
	// Tests of other packages, and the race detector, may keep both processes
	// from running for longer than a load run should put up with.
	tolerance := time.Second
	if lasts > 8*time.Second {
		tolerance = carriers.DefaultTolerance
	}
	f := farm(t, carriers.FarmOptions{Profiles: ps, Tolerance: tolerance, OnViolation: func(v carriers.Violation) { t.Errorf("violation by %d: %+v", v.By(), v) }})
	text, err := f.Policy(carriers.PolicyOptions{Sources: 3, Retry: []policy.Duration{policy.Duration(2 * time.Second)}, Backoff: policy.Duration(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	h := peers.StartHikyaku(t, peers.HikyakuOptions{Resolver: f.DNS, Port: f.Port, Policy: string(text)})
	for i, p := range ps {
		submit(t, h, p, i*100_000, min(10_000, 400*int(lasts.Seconds())))
	}
	const restarts = 3
	for range restarts {
		<-time.After(lasts / (restarts + 1))
		_ = h.Kill() // it says that the process was killed
		h.Restart(t)
	}
	<-time.After(lasts / (restarts + 1))
	logStates(t, f)
	pressed := 0
	for _, s := range f.Snapshot() {
		if !s.Unlimited && s.Offered > s.Allowed/4 {
			pressed++
		}
	}
	if pressed < 5 {
		t.Errorf("only %d carriers got a quarter of what they allow, so little was tested", pressed)
	}
}

// oneLimitEach are carriers of which each cares about one thing, by its name.
var oneLimitEach = map[string]string{
	"per_source.rate":           "per_source: {rate: \"20/s,burst=5\"}",
	"per_source.connections":    "per_source: {connections: 2}\nlatency: {dot: {median: 20ms}}",
	"per_source.per_day":        "per_source: {per_day: 50}",
	"messages_per_connection":   "messages_per_connection: 5",
	"recipients_per_connection": "recipients_per_connection: 5",
}

// TestTheFarmAccusesANodeThatIsConfiguredTooHigh is the negative control: a
// node that is told three times a limit is caught at exactly that one.
func TestTheFarmAccusesANodeThatIsConfiguredTooHigh(t *testing.T) {
	var strict, told []*carriers.Profile
	for limit, rules := range oneLimitEach {
		name := strings.ReplaceAll(strings.TrimPrefix(limit, "per_source."), "_", "-")
		p := custom(t, fmt.Sprintf("name: %s\ndescription: a model for tests, %s\nbased_on: [tests]\ndomains: [%s.test]\nmx: [{name: mx.%s.test}]\nextensions: [PIPELINING]\n%s\n", name, limit, name, name, rules))[0]
		strict = append(strict, p)
		q := *p
		if r := p.PerSource.Rate; r != nil {
			q.PerSource.Rate = &policy.Rate{N: 3 * r.N, Per: r.Per, Burst: 3 * r.Burst}
		}
		q.PerSource.Connections, q.PerSource.PerDay = 3*p.PerSource.Connections, 3*p.PerSource.PerDay
		q.MessagesPerConnection, q.RecipientsPerConnection = 3*p.MessagesPerConnection, 3*p.RecipientsPerConnection
		told = append(told, &q)
	}
	f := farm(t, carriers.FarmOptions{Profiles: strict})
	liar := farm(t, carriers.FarmOptions{Profiles: told}) // only for its policy
	text, err := liar.Policy(carriers.PolicyOptions{Retry: []policy.Duration{policy.Duration(time.Second)}, Backoff: policy.Duration(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	h := peers.StartHikyaku(t, peers.HikyakuOptions{Resolver: f.DNS, Port: f.Port, Policy: string(text)})
	for i, p := range strict {
		submit(t, h, p, i*10_000, 300)
	}
	peers.Until(t, 60*time.Second, "each carrier to complain", func() bool {
		for _, m := range f.Metrics() {
			if m.Violations == 0 {
				return false
			}
		}
		return true
	})
	logStates(t, f)
	for _, s := range f.Snapshot() {
		for _, v := range s.Violations {
			if !strings.HasSuffix(s.Description, v.Limit) || v.By() < 1 {
				t.Errorf("%s: violation by %d: %+v", s.Description, v.By(), v)
			}
		}
	}
}

// TestTheProductKeepsToEveryLimit: mail for all profiles through the real
// node, configured with exactly what the carriers enforce, pressing against
// the limits from two sources. What can arrive arrives, what is refused bounces,
// and no carrier has anything to complain about.
func TestTheProductKeepsToEveryLimit(t *testing.T) {
	ps, err := carriers.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if p.Greylist != nil {
			p.Greylist.Wait = policy.Duration(time.Second) // a test's patience
		}
	}
	var mu sync.Mutex
	received := map[string]int{}
	f, err := carriers.Start(context.Background(), carriers.FarmOptions{
		Profiles: ps, Seed: 1, Tolerance: time.Second, // see TestLimitsHoldThroughRestarts
		OnReceived: func(a *carriers.Arrival) {
			mu.Lock()
			defer mu.Unlock()
			for _, to := range a.To {
				received[to]++
			}
		},
		OnViolation: func(v carriers.Violation) { t.Errorf("violation by %d: %+v", v.By(), v) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := f.Policy(carriers.PolicyOptions{Sources: 2, Retry: []policy.Duration{policy.Duration(2 * time.Second)}, Backoff: policy.Duration(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	h := peers.StartHikyaku(t, peers.HikyakuOptions{Resolver: f.DNS, Port: f.Port, Policy: string(text)})
	slow := map[string]bool{"tarpit": true, "dead-host": true}
	arrives := map[string]string{}
	for _, p := range ps {
		each := 60
		if slow[p.Name] {
			each = 2
		}
		for _, address := range submit(t, h, p, 0, each) {
			fate, special := f.FateOf(address)
			refused := special && (fate.Kind == carriers.KindUnknown || fate.Kind == carriers.KindFull || fate.Kind == carriers.KindFiltered)
			if !slow[p.Name] && !refused {
				arrives[address] = p.Name
			}
		}
	}
	missing := func() (n int, some []string) {
		mu.Lock()
		defer mu.Unlock()
		for to, carrier := range arrives {
			if received[to] == 0 {
				n++
				some = append(some, carrier+": "+to)
			}
		}
		return n, some
	}
	deadline := time.Now().Add(90 * time.Second)
	for {
		n, some := missing()
		if n == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d did not arrive: %.500s\n%s", n, len(arrives), fmt.Sprint(some), h.CLI(t, "queue", "ls"))
		}
		<-time.After(50 * time.Millisecond)
	}
	logStates(t, f)
}
