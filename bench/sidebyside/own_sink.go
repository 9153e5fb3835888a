package sidebyside

import (
	"context"
	"sync/atomic"

	"hikyaku/bench/sink"
)

// ownSink is bench/sink, counting.
type ownSink struct {
	sink     *sink.Sink
	messages int64
	received atomic.Int64
	all      chan struct{} // closed when it has as many as it was started for
}

func startOwnSink(addr string, messages int) (*ownSink, error) {
	s := &ownSink{messages: int64(messages), all: make(chan struct{})}
	var err error
	s.sink, err = sink.Start(sink.Options{Listen: addr, Discard: true, Message: func(*sink.Received) string {
		if s.received.Add(1) == s.messages {
			close(s.all)
		}
		return ""
	}})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *ownSink) Addr() string { return s.sink.Addr }

func (s *ownSink) Wait(ctx context.Context) error {
	select {
	case <-s.all:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *ownSink) Received() (int, bool, error) { return int(s.received.Load()), true, nil }

func (s *ownSink) Close() error { return s.sink.Close() }
