package webhook_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// TestNothingIsLostWhateverHappens plays random days: endpoints that fail, are
// slow, too small or away, while the node is stopped and killed at any moment.
// Each event comes to each webhook that wants it at least once, for the first time
// in the order of the log, and to no other.
func TestNothingIsLostWhateverHappens(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { playDay(t, rand.New(rand.NewPCG(seed, 1)), time.Sleep) })
		})
	}
}

const storyHooks = 10

// playDay is one day; pass is the virtual time's.
func playDay(t *testing.T, r *rand.Rand, pass func(time.Duration)) {
	var hosts []string
	hooks := map[string]*policy.Webhook{}
	for i := range storyHooks {
		host := fmt.Sprintf("h%d.test", i)
		hosts = append(hosts, host)
		w := hook(host)
		w.MaxBatch = 1 + r.IntN(100)
		if i > 0 { // h0 has all
			w.Tenant = fmt.Sprint("t", i%5)
		}
		if i > 7 {
			w.Events = []string{"bounced"}
		}
		hooks[host] = w
	}
	w := newWorld(t, hosts...)
	var mu sync.Mutex
	taken := map[string][]request{}
	for i, host := range hosts {
		rnd := rand.New(rand.NewPCG(r.Uint64(), uint64(i)))
		w.hosts[host].answer(func(_ int, q *request) (int, http.Header) {
			mu.Lock() // one that we gave up on can still be here
			n, slow := rnd.IntN(20), time.Duration(rnd.IntN(40))*time.Second
			mu.Unlock()
			switch {
			case n < 3:
				return 500, nil
			case n < 4:
				return 429, http.Header{"Retry-After": {"30"}}
			case len(q.batch.Events) > 10:
				return http.StatusRequestEntityTooLarge, nil
			case n < 6:
				pass(slow)
			}
			mu.Lock()
			defer mu.Unlock()
			taken[host] = append(taken[host], *q)
			return 200, nil
		})
	}
	w.apply(hooks)
	want := map[string][]string{}
	n := 0
	for range 40 {
		var es []message.Event
		for range r.IntN(60) {
			e := event(message.EventDelivered, fmt.Sprint("t", r.IntN(5)), "bulk", n)
			if r.IntN(4) == 0 {
				e.Type = message.EventBounced
			}
			n++
			es = append(es, e)
			for host, h := range hooks {
				if (h.Tenant == "" || h.Tenant == e.Tenant) && (h.Events == nil || e.Type == message.EventBounced) {
					want[host] = append(want[host], e.Recipient)
				}
			}
		}
		w.log.write(es...)
		pass(time.Duration(r.IntN([]int{1, 200, 20_000}[r.IntN(3)])) * time.Millisecond)
		switch r.IntN(12) {
		case 0:
			w.crash()
			w.apply(hooks)
		case 1:
			w.hooks.Close()
			w.begin()
			w.apply(hooks)
		case 2, 3, 4, 5: // nothing changes in who wants what
			host := hosts[r.IntN(len(hosts))]
			h := *hooks[host]
			h.MaxBatch = 1 + r.IntN(100)
			hooks[host] = &h
			w.apply(hooks)
		}
	}
	pass(6 * time.Hour)
	mu.Lock()
	defer mu.Unlock()
	for _, host := range hosts {
		checkStory(t, host, want[host], taken[host])
		if s := w.status(host); s.Behind != 0 || s.Counts.Lost != 0 || s.Counts.GivenUp != 0 {
			t.Errorf("%s: %+v", host, s)
		}
	}
}

// checkStory looks at first occurrences only: what comes again has its old id.
func checkStory(t *testing.T, host string, want []string, got []request) {
	t.Helper()
	ids := map[string]string{}
	var order []string
	for _, q := range got {
		for _, e := range q.batch.Events {
			id, to := e["event_id"].(string), e["recipient"].(string)
			was, again := ids[id]
			if again && was != to {
				t.Errorf("%s: the id %s is %s and %s", host, id, was, to)
			}
			if !again {
				ids[id] = to
				order = append(order, to)
			}
		}
	}
	if len(order) != len(want) {
		t.Errorf("%s got %d events, want %d", host, len(order), len(want))
		return
	}
	for i := range want {
		if order[i] != want[i] {
			t.Errorf("%s: event %d is %s, want %s", host, i, order[i], want[i])
			return
		}
	}
}
