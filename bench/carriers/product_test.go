package carriers_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"hikyaku/bench/carriers"
	"hikyaku/bench/peers"
	"hikyaku/controlplane/policy"
)

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
		Profiles: ps, Seed: 1,
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
		var to []map[string]string
		for i := range each {
			address := fmt.Sprintf("r%d@%s", i, strings.TrimPrefix(p.Domains[i%len(p.Domains)], "*."))
			to = append(to, map[string]string{"email": address})
			fate, special := f.FateOf(address)
			refused := special && (fate.Kind == carriers.KindUnknown || fate.Kind == carriers.KindFull || fate.Kind == carriers.KindFiltered)
			if !slow[p.Name] && !refused {
				arrives[address] = p.Name
			}
		}
		code, answer := h.Post(t, "/v1/messages", map[string]any{"from": map[string]string{"email": "news@shop.test"}, "subject": "Hello", "text": "Hello", "to": to})
		if code != 202 {
			t.Fatalf("%s: %d %v", p.Name, code, answer)
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
	for _, s := range f.Snapshot() {
		t.Logf("%-13s offered %4d allowed %5d delivered %4d deferred %3d refused %3d resets %2d blocked %2d peak %2d use %.2f", s.Carrier, s.Offered, s.Allowed, s.Delivered, s.Deferred, s.Refused, s.Resets, s.Counters.Blocked, s.Peak, s.Use)
		if s.Violations != nil || s.Counters.Violations != 0 {
			t.Errorf("%s has %d violations", s.Carrier, s.Counters.Violations)
		}
	}
}
