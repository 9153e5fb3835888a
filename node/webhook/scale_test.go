package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/webhook"
	"hikyaku/spool/message"
)

// tenants are webhooks of so many tenants, each with a URL of its own at a host.
func tenants(n int, host string) map[string]*policy.Webhook {
	all := map[string]*policy.Webhook{}
	for i := range n {
		w := hook(host)
		w.URL += fmt.Sprintf("/%d", i)
		w.Tenant = fmt.Sprintf("t%d", i)
		all[w.Tenant] = w
	}
	return all
}

// TestManyWebhooksReadTheLogOnce: what is new is read once for all, and
// everybody gets theirs. Those that stand still for a while read only what is
// theirs.
func TestManyWebhooksReadTheLogOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		const n, blocks = 250, 20
		w.apply(tenants(n, "hooks.test"))
		for b := range blocks {
			var es []message.Event
			for i := range n / 5 {
				es = append(es, event(message.EventDelivered, fmt.Sprintf("t%d", i*5+b%5), "bulk", b))
			}
			w.log.write(es...)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		got := map[string]int{}
		for _, q := range w.hosts["hooks.test"].got() {
			for _, e := range q.batch.Events {
				if e["tenant"] != q.batch.Webhook {
					t.Fatalf("%v went to %s", e["tenant"], q.batch.Webhook)
				}
				got[q.batch.Webhook]++
			}
		}
		for i := range n {
			if name := fmt.Sprintf("t%d", i); got[name] != blocks/5 {
				t.Errorf("%s has %d events, want %d", name, got[name], blocks/5)
			}
		}
		w.log.mu.Lock()
		defer w.log.mu.Unlock()
		if w.log.reads != blocks {
			t.Errorf("%d blocks were read %d times", blocks, w.log.reads)
		}
	})
}

// TestEndpointsThatHangTakeNothingFromOthers has more endpoints hang than there
// are lanes; one that answers waits for nobody.
func TestEndpointsThatHangTakeNothingFromOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hang.test", "good.test")
		w.hosts["hang.test"].block = make(chan struct{})
		hooks := tenants(webhook.QuickLanes+webhook.SlowLanes+20, "hang.test")
		good := hook("good.test")
		good.Tenant = "good"
		hooks["good"] = good
		w.apply(hooks)
		for i := range webhook.QuickLanes - 1 { // as many as leave one lane
			w.log.write(event(message.EventDelivered, fmt.Sprintf("t%d", i), "bulk", 0))
		}
		time.Sleep(time.Minute) // they are known as slow now
		for i := range len(hooks) - 1 {
			w.log.write(event(message.EventDelivered, fmt.Sprintf("t%d", i), "bulk", 1))
		}
		time.Sleep(time.Minute)
		for i := range 10 {
			w.log.write(event(message.EventDelivered, "good", "bulk", i))
			time.Sleep(10 * time.Second)
		}
		n := 0
		for _, q := range w.hosts["good.test"].got() {
			for _, e := range q.batch.Events {
				n++
				if at, err := time.Parse(time.RFC3339Nano, e["time"].(string)); err != nil || q.at.Sub(at) > 2*time.Second {
					t.Fatalf("an event came %v late: %v", q.at.Sub(at), err)
				}
			}
		}
		if n != 10 {
			t.Errorf("%d of 10 came", n)
		}
		if s := w.status("t0"); s.Counts.Failures == 0 || s.Counts.Posted != 0 {
			t.Errorf("the control: %+v", s)
		}
	})
}

// TestWhoIsBehindReadsWhatIsTheirs has one webhook stand still while the log
// grows by pages of others, then by more of its own than are noted one by one.
func TestWhoIsBehindReadsWhatIsTheirs(t *testing.T) {
	for _, own := range []int{10, webhook.MaxHints + 100} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "hooks.test")
			r := w.hosts["hooks.test"]
			mine := hook("hooks.test")
			mine.Tenant, mine.MaxBatch = "mine", 1000
			w.apply(map[string]*policy.Webhook{"h": mine})
			r.answer(always(500))
			const others = 3000
			write := func(tenant string, i int) {
				w.log.write(event(message.EventDelivered, tenant, "bulk", i))
				synctest.Wait()
			}
			write("mine", 0)
			for i := range others {
				write("other", i)
			}
			for i := range own - 1 {
				write("mine", i+1)
			}
			w.log.mu.Lock()
			from := w.log.reads
			w.log.mu.Unlock()
			r.answer(nil)
			at := len(r.got())
			time.Sleep(10 * time.Minute)
			n := 0
			for _, q := range r.got()[at:] {
				for _, e := range q.batch.Events {
					if e["recipient"] != fmt.Sprintf("r%d@example.net", n) {
						t.Fatalf("event %d is %v", n, e["recipient"])
					}
					n++
				}
			}
			if n != own {
				t.Errorf("%d of %d events came", n, own)
			}
			w.log.mu.Lock()
			defer w.log.mu.Unlock()
			if again := w.log.reads - from; again > 2*own {
				t.Errorf("%d pages were read for %d events", again, own)
			}
		})
	}
}

func TestWhatIsTooLargeIsHalved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		w.apply(map[string]*policy.Webhook{"h": hook("hooks.test")})
		r := w.hosts["hooks.test"]
		r.answer(func(_ int, q *request) (int, http.Header) {
			if len(q.batch.Events) > 10 {
				return http.StatusRequestEntityTooLarge, nil
			}
			return 200, nil
		})
		w.log.write(events(60, 0)...)
		w.log.write(events(140, 60)...)
		time.Sleep(10 * time.Second)
		seen := map[any]int{}
		for _, q := range r.got() {
			if len(q.batch.Events) > 10 {
				continue
			}
			for _, e := range q.batch.Events {
				seen[e["recipient"]]++
			}
		}
		if s := w.status("h"); len(seen) != 200 || s.Counts.Posted != 200 || s.State != webhook.StateOK || s.Counts.Failures > 5 {
			t.Errorf("%d recipients, status %+v", len(seen), s)
		}
	})
}

func TestBodiesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		h := hook("hooks.test")
		h.MaxBatch = 1000
		w.apply(map[string]*policy.Webhook{"h": h})
		es := events(200, 0)
		for i := range es {
			es[i].Metadata = []byte(`{"x":"` + strings.Repeat("y", 20_000) + `"}`)
		}
		w.log.write(es...)
		time.Sleep(10 * time.Second)
		got := w.hosts["hooks.test"].got()
		n := 0
		for _, q := range got {
			n += len(q.batch.Events)
			if len(q.body) > webhook.MaxBody+1000 {
				t.Errorf("a body of %d bytes", len(q.body))
			}
		}
		if n != 200 || len(got) < 8 || len(got) > 10 {
			t.Errorf("%d events in %d requests", n, len(got))
		}
	})
}

// TestWhatIsTrimmedIsLostAndCounted lets retention take what a failing webhook
// has yet to post.
func TestWhatIsTrimmedIsLostAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		r := w.hosts["hooks.test"]
		h := hook("hooks.test")
		h.MaxBatch = 5
		w.apply(map[string]*policy.Webhook{"h": h})
		r.answer(always(500))
		for i := range 20 {
			w.log.write(events(1, i)...)
		}
		// The pages are in memory: as many of others as push them out.
		for i := range 1100 {
			w.log.write(event(message.EventReceived, "other", "x", i))
			synctest.Wait()
		}
		w.log.trim(1100 + 8)
		time.Sleep(time.Hour)
		r.answer(nil)
		at := len(r.got())
		time.Sleep(10 * time.Minute)
		n := 0
		for _, q := range r.got()[at:] {
			n += len(q.batch.Events)
		}
		if s := w.status("h"); n != 8 || s.Counts.Posted != 8 || s.Counts.Lost != 12 || s.State != webhook.StateOK || s.Behind != 0 {
			t.Errorf("%d events came; status %+v\n%s", n, s, w.text)
		}
		if !strings.Contains(w.text.String(), "trimmed") {
			t.Error("the log does not tell")
		}
	})
}

// TestUnreadablePlacesRepeatAndLoseNothing restarts with every kind of a torn
// file of places.
func TestUnreadablePlacesRepeatAndLoseNothing(t *testing.T) {
	for _, torn := range []string{"", "{", `{"webhooks":{"h":{"at":{"segm`, "\x00\x00\x00", `{"webhooks":null}`, `{"webhooks":{"h":null}}`, `{"webhooks":{"h":{"at":{"line":-1}}}}`} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "hooks.test")
			h := map[string]*policy.Webhook{"h": hook("hooks.test")}
			w.apply(h)
			w.log.write(events(10, 0)...)
			time.Sleep(5 * time.Second)
			w.hooks.Close()
			w.log.write(events(10, 10)...)
			if err := os.WriteFile(filepath.Join(w.dir, webhook.BookName), []byte(torn), 0o600); err != nil {
				t.Fatal(err)
			}
			w.begin()
			w.apply(h)
			time.Sleep(5 * time.Second)
			seen := map[any]bool{}
			for _, q := range w.hosts["hooks.test"].got() {
				for _, e := range q.batch.Events {
					seen[e["recipient"]] = true
				}
			}
			if len(seen) != 20 {
				t.Errorf("%q: %d events came, want 20", torn, len(seen))
			}
			if _, err := os.Stat(filepath.Join(w.dir, webhook.BookName+".unreadable")); err != nil {
				t.Errorf("%q: it was not kept: %v", torn, err)
			}
		})
	}
}

// TestAFullDiskIsToldAndRepeats: events go on being posted, the node says that
// places cannot be kept, and a crash then repeats.
func TestAFullDiskIsToldAndRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		h := map[string]*policy.Webhook{"h": hook("hooks.test")}
		w.apply(h)
		w.log.mu.Lock()
		w.log.full = errors.New("no space left on device")
		w.log.mu.Unlock()
		w.log.write(events(3, 0)...)
		time.Sleep(5 * time.Second)
		if p := w.hooks.Problem(); !strings.Contains(p, "no space left") || w.status("h").Counts.Posted != 3 {
			t.Errorf("problem %q, %+v", p, w.status("h"))
		}
		if n := strings.Count(w.text.String(), "cannot be kept"); n != 1 {
			t.Errorf("the log tells it %d times", n)
		}
		w.log.mu.Lock()
		w.log.full = nil
		w.log.mu.Unlock()
		time.Sleep(5 * time.Second)
		if p := w.hooks.Problem(); p != "" {
			t.Errorf("problem %q", p)
		}
		if at, _ := w.log.Held(); at.Position != 1 {
			t.Errorf("held %+v", at)
		}
	})
}

// TestAnEventFromTheFutureHoldsNothingUp: a clock that was wrong for a moment
// must not have a batch tried for ever.
func TestAnEventFromTheFutureHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		w.apply(map[string]*policy.Webhook{"h": hook("hooks.test")})
		w.hosts["hooks.test"].answer(always(500))
		e := event(message.EventDelivered, "acme", "bulk", 0)
		e.Time = time.Now().Add(10 * 365 * 24 * time.Hour)
		w.log.write(e)
		time.Sleep(25 * time.Hour)
		if s := w.status("h"); s.Counts.GivenUp != 1 {
			t.Errorf("status %+v", s)
		}
	})
}

// counted is a connection that is counted while it is open.
type counted struct {
	net.Conn
	close func()
}

func (c counted) Close() error {
	c.close()
	return c.Conn.Close()
}

// TestIdleConnectionsAreBounded has more endpoints than connections are kept to.
func TestIdleConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		var mu sync.Mutex
		open := 0
		w.hooks.SetDial(func(ctx context.Context, addr netip.AddrPort, check func(netip.Addr) error) (net.Conn, error) {
			c, err := w.dial(ctx, addr, check)
			if err != nil {
				return nil, err
			}
			mu.Lock()
			defer mu.Unlock()
			open++
			return counted{c, sync.OnceFunc(func() { mu.Lock(); open--; mu.Unlock() })}, nil
		})
		n := webhook.WarmConns + 150
		w.apply(tenants(n, "hooks.test"))
		var es []message.Event
		for i := range n {
			es = append(es, event(message.EventDelivered, fmt.Sprintf("t%d", i), "bulk", i))
		}
		w.log.write(es...)
		time.Sleep(5 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if got := len(w.hosts["hooks.test"].got()); got != n || open > webhook.WarmConns || open < webhook.WarmConns/2 {
			t.Errorf("%d requests, %d connections are open", got, open)
		}
	})
}

// TestABatchThatEndsAfterAGapGoesOn: what is damaged in the log is counted, and
// the page after it is not begun again with each batch.
func TestABatchThatEndsAfterAGapGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "hooks.test")
		h := hook("hooks.test")
		h.MaxBatch = 3
		w.apply(map[string]*policy.Webhook{"h": h})
		w.log.write(events(2, 0)...)
		time.Sleep(5 * time.Second)
		w.log.mu.Lock()
		w.log.next += 4 // numbers of a block that cannot be read
		w.log.mu.Unlock()
		w.log.write(events(10, 2)...)
		time.Sleep(5 * time.Second)
		if s := w.status("h"); s.Counts.Posted != 12 || s.Counts.Lost != 4 || s.Counts.Batches != 5 || s.Behind != 0 {
			t.Errorf("status %+v", s)
		}
		w.hooks.Close()
		w.log.mu.Lock()
		w.log.next += 5
		w.log.mu.Unlock()
		w.log.write(events(10, 12)...)
		w.begin()
		w.apply(map[string]*policy.Webhook{"h": h})
		time.Sleep(5 * time.Second)
		if s := w.status("h"); s.Counts.Posted != 10 || s.Counts.Lost != 5 || s.Behind != 0 {
			t.Errorf("after a restart: %+v", s)
		}
	})
}
