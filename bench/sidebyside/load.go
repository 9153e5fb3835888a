package sidebyside

import (
	"context"
	"fmt"
	"time"

	"hikyaku/bench/candidate"
	"hikyaku/bench/load"
)

// The sources and sinks by name.
const (
	SMTPSource = "smtp-source" // Postfix's own
	SMTPSink   = "smtp-sink"
	Own        = "own"         // bench/load, bench/sink
	OwnPlain   = "own-unpiped" // bench/load without pipelining, as smtp-source does it
)

// Sources and Sinks are the names that Options take.
func Sources() []string { return []string{SMTPSource, Own, OwnPlain} }

// Sinks are the names that Options.Sink takes.
func Sinks() []string { return []string{SMTPSink, Own} }

// Work is what goes through each candidate.
type Work struct {
	Messages    int `json:"messages"` // 0: by time
	Size        int `json:"size_bytes"`
	Connections int `json:"connections"`
}

// receiver is a running sink.
type receiver interface {
	Addr() string
	// Wait returns when it has taken as many messages as it was started for.
	Wait(ctx context.Context) error
	// Received is how many messages it took, if it can tell.
	Received() (n int, known bool, err error)
	Close() error
}

// startReceiver starts a sink for so many messages. exact asks for one that
// counts beyond them.
func startReceiver(ctx context.Context, kind, addr string, messages int, exact bool) (receiver, error) {
	switch kind {
	case SMTPSink:
		o := candidate.SinkOptions{Addr: addr, Messages: messages}
		if exact {
			o.Messages, o.Count = 0, true
		}
		s, err := candidate.StartSMTPSink(ctx, o)
		if err != nil {
			return nil, err
		}
		return &postfixSink{s, messages, exact}, nil
	case Own:
		return startOwnSink(addr, messages)
	}
	return nil, fmt.Errorf("no sink is called %q", kind)
}

// postfixSink is smtp-sink. It ends by itself at its last message, which costs
// it less than counting aloud.
type postfixSink struct {
	sink     *candidate.SMTPSink
	messages int
	counts   bool
}

func (s *postfixSink) Addr() string { return s.sink.Addr }

func (s *postfixSink) Wait(ctx context.Context) error {
	if s.counts {
		return candidate.Until(ctx, 24*time.Hour, "all messages at the sink", func() (bool, error) {
			n, err := s.sink.Messages()
			return n >= s.messages, err
		})
	}
	select {
	case <-s.sink.Exited():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *postfixSink) Received() (int, bool, error) {
	if !s.counts {
		return 0, false, nil
	}
	n, err := s.sink.Messages()
	return n, true, err
}

func (s *postfixSink) Close() error { return s.sink.Close() }

// send runs a source to its end. Its error means that not every message was
// accepted.
func send(ctx context.Context, kind, target string, w Work) error {
	switch kind {
	case SMTPSource:
		_, err := candidate.RunSMTPSource(ctx, candidate.SourceOptions{Target: target, Messages: w.Messages, Size: w.Size, Connections: w.Connections})
		return err
	case Own:
		return sendOwn(ctx, target, w, load.Pipelining)
	case OwnPlain:
		return sendOwn(ctx, target, w, load.PlainCommands)
	}
	return fmt.Errorf("no source is called %q", kind)
}
