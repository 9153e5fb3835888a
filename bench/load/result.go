package load

import (
	"cmp"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"hikyaku/bench/measure"
)

// Progress are the counters of a run, while it goes on and at its end.
// Recipients are counted unless it says messages.
type Progress struct {
	Elapsed          time.Duration
	Offered          int64 // tried at least once
	Accepted         int64
	Refused          int64 // for good, or for now once too often
	Retried          int64 // attempts after a refusal for now, or a lost connection
	Resent           int64 // of these, those whose first answer is unknown: possible duplicates
	Unknown          int64 // whose last answer was lost, and that are not tried again
	MessagesAccepted int64 // messages of which at least one recipient was accepted
	InFlight         int64 // messages sent or being sent, without an answer
	Bytes            int64 // of accepted content; by HTTP, of request bodies
	Errors           int64
	Connections      int64 // open now
	Connected        int64 // connections made
	Queue            int64 // open loop: arrivals that wait for a connection
	LongestQueue     int64
	Shed             int64 // arrivals dropped because the queue was full: the run is invalid as an open loop
}

// counters are Progress, as they are counted.
type counters struct {
	offered, accepted, refused, retried, resent, unknown, messages, inFlight, bytes, errors, connections, connected atomic.Int64
}

// Result is a run's end.
type Result struct {
	Progress
	// Service is the time from the write that carries a message's first byte to
	// the answer to its last. In the closed loop it is all there is.
	Service *measure.Histogram
	// Intended is the time from when the message was due: what a user of the
	// system waits. Empty in the closed loop.
	Intended *measure.Histogram
	Errors   []ErrorClass // most frequent first
	// Ended says why: "messages", "duration" or "cancelled".
	Ended string
}

// ErrorClass is what went wrong in the same way.
type ErrorClass struct {
	Phase    string   `json:"phase"` // connect, ehlo, starttls, auth, mail, rcpt, data, content, request
	Code     int      `json:"code"`  // reply or status; 0: no answer
	Enhanced string   `json:"enhanced,omitempty"`
	Kind     string   `json:"kind,omitempty"` // without an answer: timeout, reset, refused, closed, or other
	Count    int64    `json:"count"`
	First    []string `json:"first"` // texts, whole
}

const (
	maxClasses   = 200 // then what is new counts as "other"
	keptTexts    = 3
	maxKeptBytes = 2000
)

type classKey struct {
	phase          string
	code           int
	enhanced, kind string
}

// tally counts errors by class.
type tally struct {
	mu struct {
		sync.Mutex
		classes map[classKey]*ErrorClass
	}
}

// reply counts an answer.
func (t *tally) reply(phase string, code int, text []byte) {
	t.add(classKey{phase: phase, code: code, enhanced: enhanced(text)}, string(text[:min(len(text), maxKeptBytes)]))
}

// failure counts the absence of one.
func (t *tally) failure(phase string, err error) {
	t.add(classKey{phase: phase, kind: kindOf(err)}, err.Error())
}

func (t *tally) add(k classKey, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.classes == nil {
		t.mu.classes = map[classKey]*ErrorClass{}
	}
	c := t.mu.classes[k]
	if c == nil {
		if len(t.mu.classes) >= maxClasses {
			k = classKey{phase: k.phase, kind: "other"}
		}
		if c = t.mu.classes[k]; c == nil {
			c = &ErrorClass{Phase: k.phase, Code: k.code, Enhanced: k.enhanced, Kind: k.kind}
			t.mu.classes[k] = c
		}
	}
	if c.Count++; len(c.First) < keptTexts {
		c.First = append(c.First, text)
	}
}

func (t *tally) list() []ErrorClass {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]ErrorClass, 0, len(t.mu.classes))
	for _, c := range t.mu.classes {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b ErrorClass) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Phase, b.Phase), cmp.Compare(a.Code, b.Code), strings.Compare(a.Enhanced+a.Kind, b.Enhanced+b.Kind))
	})
	return out
}

// enhanced is the status code of RFC 3463 at the start of a reply's text.
func enhanced(text []byte) string {
	end, dots := 0, 0
	for end < len(text) && end < 9 && (text[end] >= '0' && text[end] <= '9' || text[end] == '.') {
		if text[end] == '.' {
			dots++
		}
		end++
	}
	if dots != 2 || text[0] < '2' || text[0] > '5' || text[1] != '.' {
		return ""
	}
	return string(text[:end])
}

func kindOf(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case isClosed(err):
		return "closed"
	}
	return "other"
}
