package node

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hikyaku/bench/sink"
)

// delivered is what a receiver took.
type delivered struct {
	from string
	to   []string
	data string
	ehlo string
	addr string
}

// receiver is a sink that remembers.
type receiver struct {
	*sink.Sink
	gate chan struct{} // if not nil, each message waits for a token before its answer
	seen chan struct{} // gets one for each message that waits
	mu   struct {
		sync.Mutex
		got []delivered
	}
}

func receive(t testing.TB, o sink.Options) *receiver {
	t.Helper()
	r := &receiver{}
	return r.start(t, o)
}

// receiveGated makes a receiver that answers content only when it is let.
func receiveGated(t testing.TB, o sink.Options) *receiver {
	t.Helper()
	r := &receiver{gate: make(chan struct{}), seen: make(chan struct{}, 1000)}
	return r.start(t, o)
}

func (r *receiver) start(t testing.TB, o sink.Options) *receiver {
	t.Helper()
	answer := o.Message
	stop := make(chan struct{})
	o.Message = func(m *sink.Received) string {
		if r.gate != nil {
			r.seen <- struct{}{}
			select {
			case <-r.gate:
			case <-stop:
				return "451 4.3.0 the test is over"
			}
		}
		reply := ""
		if answer != nil {
			reply = answer(m)
		}
		if reply == "" || strings.HasPrefix(reply, "2") {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.mu.got = append(r.mu.got, delivered{m.From, slices.Clone(m.To), string(m.Data), m.EHLO, m.Remote.String()})
		}
		return reply
	}
	var err error
	if r.Sink, err = sink.Start(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(stop)
		if err := r.Close(); err != nil && !strings.Contains(err.Error(), "closed") {
			t.Error(err)
		}
	})
	return r
}

// arrive waits for a message that waits for its answer; let gives one.
func (r *receiver) arrive(t testing.TB) {
	t.Helper()
	select {
	case <-r.seen:
	case <-time.After(patience):
		t.Fatal("no message arrives")
	}
}

func (r *receiver) let(t testing.TB) {
	t.Helper()
	select {
	case r.gate <- struct{}{}:
	case <-time.After(patience):
		t.Fatal("no message waits for an answer")
	}
}

func (r *receiver) all() []delivered {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.mu.got)
}

// to counts receipts for a recipient.
func (r *receiver) to(rcpt string) (n int) {
	for _, d := range r.all() {
		for _, to := range d.to {
			if to == rcpt {
				n++
			}
		}
	}
	return n
}
