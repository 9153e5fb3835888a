package node

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/spool/message"
)

// mails notes when MAIL came, and answers RCPT of those it puts off with 450.
type mails struct {
	mu struct {
		sync.Mutex
		at  []time.Time
		to  []string
		off map[string]int
	}
}

func (m *mails) Connect() sink.Verdict           { return sink.Verdict{} }
func (m *mails) Hello(string, bool) sink.Verdict { return sink.Verdict{} }
func (m *mails) Mail(string, string) sink.Verdict {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.at = append(m.mu.at, time.Now())
	return sink.Verdict{}
}
func (m *mails) Recipient(to string) sink.Verdict {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.to = append(m.mu.to, to)
	if m.mu.off[to] > 0 {
		m.mu.off[to]--
		return sink.Verdict{Reply: "450 4.2.0 later"}
	}
	return sink.Verdict{}
}
func (m *mails) Data() sink.Verdict                  { return sink.Verdict{} }
func (m *mails) Content(*sink.Received) sink.Verdict { return sink.Verdict{} }
func (m *mails) Closed(error)                        {}

func (m *mails) seen() ([]time.Time, []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.mu.at), slices.Clone(m.mu.to)
}

// oneEach is a carrier with one recipient a transaction and these limits.
func oneEach(l policy.Limits, retry *policy.Retry) policy.Resource {
	return resource(policy.DefaultName, &policy.Carrier{RecipientsPerTransaction: 1, Limits: l, Retry: retry})
}

func recipients(n int) (to []string) {
	for i := range n {
		to = append(to, fmt.Sprintf("r%d@d.test", i))
	}
	return to
}

func TestRateHoldsForTheTransactionsOfOneDelivery(t *testing.T) {
	m := &mails{}
	r := receive(t, sink.Options{NewSession: func(sink.Peer) sink.Session { return m }})
	w := newWorld(t, nil, toSink(r.Addr), oneEach(policy.Limits{Rate: &policy.Rate{N: 20, Per: time.Second, Burst: 1}}, nil))
	id := w.send(mail{from: "s@sender.test", to: recipients(10)})
	w.waitFor(id, message.EventDelivered, 10)
	at, to := m.seen()
	if len(at) != 10 {
		t.Errorf("%d transactions for %v", len(at), to)
	}
	for i := 1; i < len(at); i++ {
		// A transaction may be late by itself; on the whole none can be early.
		if early := time.Duration(i)*50*time.Millisecond - at[i].Sub(at[0]); early > 25*time.Millisecond {
			t.Errorf("transaction %d came %s too early", i+1, early)
		}
	}
	w.balance()
	for _, e := range w.log(api.EventQuery{Type: string(message.EventDelivered)}) {
		if e.Attempt != 1 {
			t.Errorf("%s took %d attempts", e.Recipient, e.Attempt)
		}
	}
}

func TestDailyLimitCountsTheTransactionsOfOneDelivery(t *testing.T) {
	m := &mails{}
	r := receive(t, sink.Options{NewSession: func(sink.Peer) sink.Session { return m }})
	w := newWorld(t, nil, toSink(r.Addr), oneEach(policy.Limits{PerDay: 4}, nil))
	id := w.send(mail{from: "s@sender.test", to: recipients(10)})
	w.waitFor(id, message.EventDelivered, 4)
	until(t, "the rest to be queued again", func() bool {
		d := w.deliveryOf(id, 0)
		return d != nil && len(d.Recipients) == 6 && d.Attempts == 0
	})
	w.restart() // and it is remembered
	w.send(mail{from: "s@sender.test", to: []string{"x@d.test"}})
	stays(t, r, 4)
	if at, _ := m.seen(); len(at) != 4 {
		t.Errorf("%d transactions where 4 a day are allowed", len(at))
	}
}

// TestOneDeferredRecipientDoesNotKeepTheOthersWaiting for its retry, when a
// budget makes several transactions of a delivery; nor is it tried again with
// them.
func TestOneDeferredRecipientDoesNotKeepTheOthersWaiting(t *testing.T) {
	m := &mails{}
	m.mu.off = map[string]int{"r0@d.test": 1, "r2@d.test": 1}
	r := receive(t, sink.Options{NewSession: func(sink.Peer) sink.Session { return m }})
	w := newWorld(t, nil, toSink(r.Addr), oneEach(policy.Limits{Rate: &policy.Rate{N: 50, Per: time.Second, Burst: 1}}, soon(time.Second, time.Hour)))
	id := w.send(mail{from: "s@sender.test", to: recipients(5)})
	w.waitFor(id, message.EventDelivered, 5)
	_, to := m.seen()
	if want := "r0 r1 r2 r3 r4 r0 r2"; strings.ReplaceAll(strings.Join(to, " "), "@d.test", "") != want {
		t.Errorf("offered %v, want %s", to, want)
	}
	for _, e := range w.log(api.EventQuery{Type: string(message.EventDelivered)}) {
		want := uint16(1)
		if e.Recipient == "r0@d.test" || e.Recipient == "r2@d.test" {
			want = 2
		}
		if e.Attempt != want {
			t.Errorf("%s delivered with attempt %d, want %d", e.Recipient, e.Attempt, want)
		}
	}
	w.balance()
	if n := len(w.dispatch.parted.mu.rest); n != 0 {
		t.Errorf("%d deliveries are remembered as parted", n)
	}
}

// TestCancelEndsADeliveryBetweenTwoTransactions: what has been sent is
// delivered, nothing follows.
func TestCancelEndsADeliveryBetweenTwoTransactions(t *testing.T) {
	r := receiveGated(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr), oneEach(policy.Limits{}, nil))
	id := w.send(mail{from: "s@sender.test", to: recipients(3)})
	r.arrive(t)
	rule := &rule{verdict: verdict{state: message.Cancelled, reason: "test"}, created: time.Now()}
	w.dispatch.setRule(rule)
	defer w.dispatch.clearRule(rule)
	stop := make(chan struct{})
	defer close(stop)
	go func() { // ends with the test
		for {
			select {
			case r.gate <- struct{}{}:
			case <-stop:
				return
			}
		}
	}()
	w.waitFor(id, message.EventCancelled, 1)
	w.empty()
	// The second may have been on its way behind the first.
	if n := len(r.all()); n > 2 {
		t.Errorf("%d transactions after a cancel", n)
	}
	w.balance()
}
