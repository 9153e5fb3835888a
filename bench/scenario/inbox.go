package scenario

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"hikyaku/bench/sink"
)

// inbox is the receiving side of a trial.
type inbox interface {
	resolver() string // DNS server for the nodes, "" where routes lead to the receivers
	port() int        // where MX hosts listen
	policy() string   // resources that lead mail there, each followed by a line of ---
	close() error
}

func openInbox(ctx context.Context, t *trial) (inbox, error) {
	if len(t.plan.profiles)+len(t.plan.files)+len(t.plan.given) > 0 {
		return openFarm(ctx, t)
	}
	return openSink(t)
}

// sinkInbox is one receiver that takes all mail at once: what is measured then
// is the product.
type sinkInbox struct{ sink *sink.Sink }

func openSink(t *trial) (*sinkInbox, error) {
	s, err := sink.Start(sink.Options{
		Chunking: true, Discard: true, Want: t.sampled,
		Message: func(r *sink.Received) string {
			t.take(r)
			return ""
		},
	})
	if err != nil {
		return nil, err
	}
	return &sinkInbox{s}, nil
}

func (s *sinkInbox) resolver() string { return "127.0.0.1:9" } // routes need none; nobody answers there
func (s *sinkInbox) close() error     { return s.sink.Close() }

func (s *sinkInbox) port() int {
	_, port, _ := net.SplitHostPort(s.sink.Addr) // the sink's own address is well formed
	n, _ := strconv.Atoi(port)
	return n
}

func (s *sinkInbox) policy() string {
	return fmt.Sprintf("kind: Route\nname: bench-sink\nspec: {domains: [\"*\"], hosts: [%q], allow_networks: [127.0.0.0/8], tls: none}\n---\n", s.sink.Addr)
}

// sampleEvery is how many messages one is taken from for the check of content.
const sampleEvery = 32

// sampled reports whether the content of a message is wanted for a check.
func (t *trial) sampled(r *sink.Received) bool {
	for _, to := range r.To {
		if f, n := t.flowOf(to); f != nil && n%sampleEvery == 0 {
			return true
		}
	}
	return false
}

// take notes a received message. The faults are the ledger's negative
// controls: each strikes one recipient.
func (t *trial) take(r *sink.Received) {
	since, data := r.At.Sub(t.start), r.Data
	t.content.Add(uint64(r.Size))
	for _, address := range r.To {
		f, n := t.flowOf(address)
		if f == nil {
			continue // a notice, or mail of nobody's numbering
		}
		if f.fault == "drop" && n == f.faulty {
			continue
		}
		f.take(n, since)
		if f.fault == "double" && n == f.faulty {
			f.take(n, since)
		}
		if data == nil || n%sampleEvery != 0 {
			continue
		}
		if f.fault == "alter" && n == f.faulty {
			data = append([]byte(nil), data...)
			data[len(data)-len("x\r\n")] ^= 1
		}
		f.check(n, data)
	}
}
