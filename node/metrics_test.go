package node

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/spool/message"
)

func sum[K comparable](m map[K]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

// TestMetricsSayWhatHappened compares metrics and overview with the event log.
func TestMetricsSayWhatHappened(t *testing.T) {
	r := receive(t, sink.Options{Recipient: sink.ByName})
	w := newWorld(t, nil, toSink(r.Addr), resource("big", &policy.Carrier{Domains: []string{"big.test"}}), resource("x", &policy.Tenant{Suppress: []string{policy.SuppressNone}}), resource("urgent", &policy.Stream{Priority: "high"}))
	for i := range 10 {
		w.send(mail{tenant: "x", from: "s@back.test", to: []string{fmt.Sprintf("ok%d@big.test", i), "bounce@big.test", "ok@other.test"}, stream: "urgent"})
		w.send(mail{from: "s@back.test", to: []string{fmt.Sprintf("defer%d@other.test", i)}})
	}
	later := w.send(mail{from: "s@back.test", to: []string{"later@d.test"}, sendAt: time.Now().Add(time.Hour)})
	w.act(api.ActionRequest{Verb: api.VerbCancel, Message: later.String()})
	w.send(mail{tenant: "x", from: "s@back.test", to: []string{"held@big.test"}, sendAt: time.Now().Add(time.Hour)})
	until(t, "all to be settled", func() bool {
		got := w.typesNow()
		return got[message.EventDelivered] == 30 && got[message.EventDeferred] == 10 && got[message.EventBounced] == 10
	})
	w.act(api.ActionRequest{Verb: api.VerbHold, Scope: api.Scope{Destination: "big.test"}})
	w.balance()

	byCarrier := map[string]map[message.EventType]uint64{}
	accepted := map[string]uint64{}
	for _, e := range w.log(api.EventQuery{}) {
		if e.Type == message.EventAccepted {
			accepted[e.Tenant]++
		}
		if byCarrier[e.Carrier] == nil {
			byCarrier[e.Carrier] = map[message.EventType]uint64{}
		}
		byCarrier[e.Carrier][e.Type]++
	}
	m := w.Metrics()
	for _, c := range []string{"big", "default"} {
		got := byCarrier[c]
		if m.Delivery.Delivered[c] != got[message.EventDelivered] || m.Delivery.Deferred[c] != got[message.EventDeferred] || m.Delivery.Bounced[c] != got[message.EventBounced] {
			t.Errorf("carrier %s: metrics %d %d %d, events %v", c, m.Delivery.Delivered[c], m.Delivery.Deferred[c], m.Delivery.Bounced[c], got)
		}
	}
	for tenant, n := range accepted {
		if m.Ingest.Recipients[tenant] != n {
			t.Errorf("tenant %s: %d recipients in the metrics, %d in the log", tenant, m.Ingest.Recipients[tenant], n)
		}
	}
	if m.Delivery.Cancelled != 1 || sum(m.Delivery.Attempts) != sum(m.Scheduler.Dispatched) {
		t.Errorf("cancelled %d, attempts %v, dispatched %v", m.Delivery.Cancelled, m.Delivery.Attempts, m.Scheduler.Dispatched)
	}
	if m.Scheduler.Dispatched["high"] != 20 {
		t.Errorf("dispatched by priority: %v", m.Scheduler.Dispatched)
	}
	if n := m.Delivery.Replies[api.ReplyKey{Phase: "rcpt", Class: "5"}]; n != 10 {
		t.Errorf("replies: %v", m.Delivery.Replies)
	}
	for k, want := range map[api.VerdictKey]uint64{{Carrier: "big", Category: "unknown-user"}: 10, {Carrier: "default", Category: "policy"}: 10} {
		if n := m.Delivery.Verdicts[k]; n != want {
			t.Errorf("verdicts: %v, want %d of %v", m.Delivery.Verdicts, want, k)
		}
	}
	var timed uint64
	for _, n := range m.Delivery.Stages["total"].Counts {
		timed += n
	}
	if timed != sum(m.Delivery.Attempts) {
		t.Errorf("%d attempts, %d of them timed", sum(m.Delivery.Attempts), timed)
	}
	var syncs uint64
	for _, n := range m.Spool.Sync.Counts {
		syncs += n
	}
	if syncs != m.Spool.Batches || syncs == 0 || len(m.Spool.Sync.Counts) != len(m.Spool.Sync.Bounds)+1 || m.Spool.Sync.Sum <= 0 {
		t.Errorf("%d syncs in the histogram, %d batches: %+v", syncs, m.Spool.Batches, m.Spool.Sync)
	}
	// 22 messages of ours and 10 notices; each attempt and the cancel.
	if m.Spool.Appends != 22+10 || m.Spool.Commits != sum(m.Delivery.Attempts)+1 {
		t.Errorf("appends %d, commits %d, attempts %d", m.Spool.Appends, m.Spool.Commits, sum(m.Delivery.Attempts))
	}
	until(t, "the survey to be fresh", func() bool { return w.survey().held == 1 })
	m = w.Metrics()
	if m.Spool.Queued != 11 || m.Spool.QueuedTenant["x"] != 1 || m.Spool.QueuedTenant["default"] != 10 || m.Spool.QueuedCarrier["default"] != 10 || m.Spool.Destinations != 2 || m.Scheduler.Held != 1 {
		t.Errorf("queued: %d, by tenant %v, by carrier %v, %d destinations, %d held", m.Spool.Queued, m.Spool.QueuedTenant, m.Spool.QueuedCarrier, m.Spool.Destinations, m.Scheduler.Held)
	}
	o, err := w.Overview(t.Context())
	if err != nil || o.Queue.Queued != 11 || o.Queue.Destinations != 2 || o.Queue.Held != 1 || len(o.Top) != 2 || o.Top[0].Destination != "other.test" || len(o.Errors) == 0 {
		t.Errorf("overview: %+v, %v", o, err)
	}
}

func TestMetricsPageIsServed(t *testing.T) {
	w := newWorld(t, nil, held)
	w.send(mail{from: "s@s.test", to: []string{"a@d.test"}, sendAt: time.Now().Add(time.Hour)})
	mux := http.NewServeMux()
	api.Register(mux, api.Options{Node: w})
	rec := httptest.NewRecorder()
	mux.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "http://127.0.0.1/metrics", nil))
	for _, want := range []string{"hikyaku_queued 1\n", `hikyaku_ingest_messages_total{tenant="default"} 1`, "hikyaku_spool_sync_seconds_count", "hikyaku_ready 1\n"} {
		if !strings.Contains(rec.Body.String(), want) {
			t.Errorf("/metrics (%d) lacks %q", rec.Code, want)
		}
	}
}

func TestQueuesInEveryOrder(t *testing.T) {
	w := newWorld(t, nil, held)
	now := time.Now()
	for i, dest := range []string{"c.test", "a.test", "b.test"} {
		for range i + 1 {
			w.send(mail{from: "s@s.test", to: []string{"x@" + dest}, sendAt: now.Add(time.Duration(10-i) * time.Hour)})
		}
	}
	for sort, want := range map[string]string{"name": "a.test b.test c.test", "size": "b.test a.test c.test", "due": "b.test a.test c.test", "age": "b.test a.test c.test"} {
		var got []string
		f := api.QueueFilter{Sort: sort, Limit: 2}
		for range 2 {
			l, err := w.Queues(t.Context(), f)
			if err != nil || l.Total != 3 {
				t.Fatalf("%+v, %v", l, err)
			}
			for _, q := range l.Queues {
				got = append(got, q.Destination)
				if q.Oldest == nil || q.NextDue == nil {
					t.Errorf("%s lacks its times: %+v", q.Destination, q)
				}
			}
			f.Page = l.Next
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("by %s: %s, want %s", sort, s, want)
		}
	}
}

// TestManyQueuesDoNotStopTheDispatcher looks at all of 20,000 queues while mail
// flows: the lock is given back every few queues.
func TestManyQueuesDoNotStopTheDispatcher(t *testing.T) {
	w := newWorld(t, nil, held)
	later := time.Now().Add(time.Hour)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 10 {
				var to []string
				for j := range 250 {
					to = append(to, fmt.Sprintf("a@d%d-%d-%d.test", g, i, j))
				}
				w.send(mail{from: "s@s.test", to: to, sendAt: later})
			}
		})
	}
	wg.Wait()
	stop := make(chan struct{})
	turns := 0
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			w.dispatch.mu.Lock()
			turns++
			w.dispatch.mu.Unlock()
		}
	})
	for range 5 {
		w.surveys.mu.Lock()
		w.surveys.mu.last = nil
		w.surveys.mu.Unlock()
		if s := w.survey(); s.destinations != 20_000 {
			t.Errorf("%d destinations", s.destinations)
		}
		if _, err := w.Queues(t.Context(), api.QueueFilter{Sort: "age", Limit: 1000}); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	// 78 times in each look; one lock for all would let it in a few times.
	if turns < 100 {
		t.Errorf("another goroutine got the dispatcher's lock %d times", turns)
	}
}
