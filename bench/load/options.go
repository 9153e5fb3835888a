package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"hikyaku/bench/ledger"
)

// Protocol is how messages are handed in.
type Protocol string

// The protocols.
const (
	SMTP         Protocol = "smtp"
	HTTP         Protocol = "http"          // a request a message, whole messages
	HTTPBatch    Protocol = "http-batch"    // the same, for Mix.PerMessage recipients at once
	HTTPTemplate Protocol = "http-template" // a template and variables for Mix.PerMessage recipients at once
)

// Mode is how an SMTP connection is used.
type Mode string

// The modes.
const (
	// Plain commands: each is answered before the next is sent.
	PlainCommands Mode = "plain"
	// Pipelining (RFC 2920): the envelope and DATA in one write; the content and
	// the next envelope in the next.
	Pipelining Mode = "pipelining"
	// Chunking (RFC 3030): content by BDAT, so that whole messages are in flight.
	Chunking Mode = "chunking"
)

// Options are one run of a source. The zero value of a field is its default.
type Options struct {
	Mix      *Mix
	Protocol Protocol // default SMTP
	Addrs    []string // host:port; connections take turns
	// Dial makes connections instead of TCP, for tests.
	Dial func(ctx context.Context, addr string) (net.Conn, error)

	Connections   int         // default 20
	PerConnection int         // messages on each; default no bound
	Mode          Mode        // of SMTP; default Pipelining
	Window        int         // of Chunking: messages in flight on a connection; default 4
	Hello         string      // EHLO name; default load.test
	TLS           *tls.Config // SMTP: STARTTLS; HTTP: TLS
	User          string      // SMTP login where tenants have none
	Password      string
	Key           string // HTTP API key where tenants have none

	// Rate is the arrivals of messages (by HTTP: requests) a second: the open loop,
	// in which messages come when they come. 0 is the closed loop: as fast as it goes.
	Rate    float64
	Poisson bool // arrivals at random, by seed; otherwise evenly
	// Queue bounds the arrivals that wait for a connection; beyond it the oldest
	// are dropped unsent, and the Result says so. Default 10,000.
	Queue    int
	Messages int           // at most so many; default all of the mix
	Duration time.Duration // no new ones after this time; default no bound

	// Attempts is how often a recipient is tried that is refused for now, each
	// time after a longer wait. Default 10 in the closed loop, 1 in the open one.
	Attempts int
	// Backoff is the first of these waits; each is twice the one before, up to 5 s. Default 50 ms.
	Backoff time.Duration
	// Resend tries messages again whose answer was lost with the connection. The
	// receiver may then get them twice: Result.Resent says how many may be.
	Resend bool
	// Idempotent gives HTTP requests a key, so that Resend doubles nothing.
	Idempotent bool
	Timeout    time.Duration // for each answer; default 1m
	GiveUp     time.Duration // ends the run when no connection can be made for so long; default 30s

	Ledger *ledger.Ledger // may be nil
	Start  time.Time      // times in the ledger count from here; default the start of Run
}

const (
	maxConnections = 100_000
	maxWindow      = 1000
	maxBackoff     = 5 * time.Second
)

func (o *Options) defaults() {
	set(&o.Protocol, SMTP)
	set(&o.Connections, 20)
	set(&o.Mode, Pipelining)
	set(&o.Window, 4)
	set(&o.Hello, "load.test")
	set(&o.Queue, 10_000)
	set(&o.Backoff, 50*time.Millisecond)
	set(&o.Timeout, time.Minute)
	set(&o.GiveUp, 30*time.Second)
	if o.Attempts == 0 {
		o.Attempts = 10
		if o.Rate > 0 {
			o.Attempts = 1
		}
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
}

func set[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

func (o *Options) check() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(o.Protocol == SMTP || o.isHTTP(), "protocol %q: want smtp, http, http-batch or http-template", o.Protocol)
	bad(o.Mode == PlainCommands || o.Mode == Pipelining || o.Mode == Chunking, "mode %q: want plain, pipelining or chunking", o.Mode)
	bad(len(o.Addrs) > 0, "no address to send to")
	bad(o.Connections >= 1 && o.Connections <= maxConnections, "%d connections: want 1 to %d", o.Connections, maxConnections)
	bad(o.Window >= 1 && o.Window <= maxWindow, "window of %d: want 1 to %d", o.Window, maxWindow)
	bad(o.Rate >= 0 && o.Rate <= 1e7, "rate %v: want 0 to 10000000", o.Rate)
	bad(printable(o.Hello), "EHLO name %q", o.Hello)
	bad(!strings.ContainsAny(o.User+o.Password, "\x00") && (o.Key == "" || printable(o.Key)), "a login with NUL, or a key with spaces")
	for what, n := range map[string]int64{"messages on a connection": int64(o.PerConnection), "queue": int64(o.Queue), "messages": int64(o.Messages), "duration": int64(o.Duration),
		"attempts": int64(o.Attempts), "back-off": int64(o.Backoff), "timeout": int64(o.Timeout), "time to give up": int64(o.GiveUp)} {
		bad(n >= 0, "%s: less than nothing", what)
	}
	if o.Mix == nil {
		return errors.Join(append(errs, errors.New("no mix"))...)
	}
	bad((o.Protocol == HTTPTemplate) == (o.Mix.Template != nil), "a template is for http-template, and http-template needs one")
	if o.Protocol == SMTP {
		// More replies than this may not fit into the buffers between a server and a
		// client that is still writing (RFC 2920 3.1).
		for _, c := range append(o.Mix.Spread, Count{Recipients: o.Mix.PerMessage}) {
			bad(c.Recipients <= maxReplies, "%d recipients a message: by SMTP at most %d", c.Recipients, maxReplies)
		}
	}
	bad(o.Protocol != HTTP || o.Mix.PerMessage <= 1 && len(o.Mix.Spread) <= 1, "http has one recipient a message; http-batch has several")
	bad(o.Ledger == nil || o.Ledger.Len() >= o.Mix.Recipients, "the ledger is too small for %d recipients", o.Mix.Recipients)
	return errors.Join(errs...)
}

// printable reports whether s can stand in a line of a protocol as it is.
func printable(s string) bool {
	return s != "" && len(s) <= 512 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

func (o *Options) isHTTP() bool {
	return o.Protocol == HTTP || o.Protocol == HTTPBatch || o.Protocol == HTTPTemplate
}
