package peers

import (
	"context"
	"testing"

	"hikyaku/bench/candidate"
)

// Postfix is a real Postfix instance with its own configuration and queue.
type Postfix struct {
	Addr    string // "127.0.0.1:port", its SMTP listener
	Maildir string // where mail for its domains lands, one file a message, in new/
	server  *candidate.Postfix
}

// PostfixOptions are what differs between the roles an instance plays.
type PostfixOptions = candidate.PostfixOptions

// StartPostfix starts an instance. Postfix insists on root to start.
func StartPostfix(tb testing.TB, o PostfixOptions) *Postfix {
	tb.Helper()
	p, err := candidate.StartPostfix(context.Background(), o)
	need(tb, err)
	tb.Cleanup(func() {
		logOutput(tb, "Postfix", p.Log())
		if err := p.Close(); err != nil {
			tb.Errorf("Postfix: %v", err)
		}
	})
	return &Postfix{Addr: p.Addr, Maildir: p.Maildir, server: p}
}

// Log is Postfix's own log so far.
func (p *Postfix) Log() string { return p.server.Log() }

// Messages returns the received messages, whole.
func (p *Postfix) Messages(tb testing.TB) []string {
	tb.Helper()
	ms, err := p.server.Messages()
	if err != nil {
		tb.Fatal(err)
	}
	return ms
}

// WaitMessage waits for a message that holds the text and returns it.
func (p *Postfix) WaitMessage(tb testing.TB, text string) string {
	tb.Helper()
	m, err := p.server.WaitMessage(context.Background(), text)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// Sendmail submits through the instance's sendmail command, as a local program would.
func (p *Postfix) Sendmail(tb testing.TB, content string, args ...string) {
	tb.Helper()
	need(tb, p.server.Sendmail(context.Background(), content, args...))
}
