package sidebyside

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"

	"hikyaku/bench/sink"
)

// ownSink is bench/sink, counting.
type ownSink struct {
	sink     *sink.Sink
	messages int64
	received atomic.Int64
	looked   atomic.Int64  // messages whose header was looked at
	signed   atomic.Int64  // of these, those with a DKIM signature
	all      chan struct{} // closed when it has as many as it was started for
}

func startOwnSink(addr string, messages int) (*ownSink, error) {
	s := &ownSink{messages: int64(messages), all: make(chan struct{})}
	var err error
	s.sink, err = sink.Start(sink.Options{Listen: addr, Discard: true,
		Want: func(*sink.Received) bool { return s.received.Load()%lookEvery == 0 },
		Message: func(r *sink.Received) string {
			s.look(r.Data)
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

// lookEvery is how many messages come between two whose header is looked at.
const lookEvery = 500

func (s *ownSink) look(data []byte) {
	if data == nil {
		return
	}
	s.looked.Add(1)
	header, _, _ := bytes.Cut(data, []byte("\r\n\r\n"))
	if bytes.HasPrefix(header, dkimField) || bytes.Contains(header, append([]byte("\r\n"), dkimField...)) {
		s.signed.Add(1)
	}
}

var dkimField = []byte("DKIM-Signature:")

// allSigned is an error unless every message that was looked at was signed.
func (s *ownSink) allSigned() error {
	if looked, signed := s.looked.Load(), s.signed.Load(); looked == 0 || signed < looked {
		return fmt.Errorf("%d of %d messages that were looked at were signed", signed, looked)
	}
	return nil
}
