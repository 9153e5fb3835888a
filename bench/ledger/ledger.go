package ledger

import (
	"sync"
	"sync/atomic"
	"time"

	"hikyaku/spool/message"
)

// flag is one thing that can be known of a recipient.
type flag int

const (
	offered    flag = iota // by the source, before the answer
	accepted               // promised: the source read the answer
	refused                // the source read a refusal, and gave up
	received               // a receiver took it
	again                  // and took it once more
	delivered              // the event log says so, as the next three
	bounced                //
	expired                //
	cancelled              //
	endedAgain             // the log tells of a second end
	logged                 // the log says that it was accepted
	queued                 // the queue listing at the end has it
	altered                // a receiver found other content than was sent
	flags                  // how many there are
)

// group holds the flags of 64 recipients side by side: what is noted of one
// message touches one or two cache lines.
type group [flags]atomic.Uint64

// Ledger counts by number, from 0 to its size-1. Safe for concurrent use.
type Ledger struct {
	n      int
	groups []group
	// Times are in ticks since the start of the run, plus one; 0 is unknown.
	acceptedAt, receivedAt []atomic.Uint32

	duplicates atomic.Int64 // receipts beyond the first
	strayCount atomic.Int64 // events about numbers that do not exist
	logRead    atomic.Bool
	mu         struct {
		sync.Mutex
		strays []int // the first of them
	}
}

// tick is the unit of the times kept: 10 µs, so that 32 bits reach 11.9 hours.
// Later times are kept as "unknown".
const tick = 10 * time.Microsecond

// New makes a ledger for n recipients, which costs 9.6 bytes each.
func New(n int) *Ledger {
	n = max(n, 0)
	return &Ledger{n: n, groups: make([]group, (n+63)/64), acceptedAt: make([]atomic.Uint32, n), receivedAt: make([]atomic.Uint32, n)}
}

// Len is how many numbers there are.
func (l *Ledger) Len() int { return l.n }

// set sets a flag and reports whether it was clear. A number out of range is
// noted as a stray: it comes from foreign text (an address, an event log), and
// is a finding, not a bug of ours.
func (l *Ledger) set(n int, f flag) (first bool) {
	if uint(n) >= uint(l.n) {
		l.stray(n)
		return false
	}
	bit := uint64(1) << (n & 63)
	return l.groups[n>>6][f].Or(bit)&bit == 0
}

func (l *Ledger) has(n int, f flag) bool {
	return l.groups[n>>6][f].Load()&(1<<(n&63)) != 0
}

func (l *Ledger) stray(n int) {
	if l.strayCount.Add(1) > MaxListed {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.strays = append(l.mu.strays, n)
}

func ticks(at time.Duration) uint32 {
	t := at / tick
	if t < 0 || t >= 1<<32-1 {
		return 0
	}
	return uint32(t) + 1
}

// Offered notes that the number goes to the server, before it is written.
func (l *Ledger) Offered(n int) { l.set(n, offered) }

// Accepted notes the server's promise, and when it was read, counted from the
// start of the run.
func (l *Ledger) Accepted(n int, at time.Duration) {
	if l.set(n, accepted) {
		l.acceptedAt[n].Store(ticks(at))
	}
}

// Refused notes that the server said no and that the source has given up. A
// number that is tried again is not refused yet.
func (l *Ledger) Refused(n int) { l.set(n, refused) }

// Received notes that a receiver took the number's message. first is whether it
// is the first time; a number that does not exist is never first. sinceAccepted
// is the time since the promise, where ok: a fast
// product may hand a message on before the source has read its answer, so
// percentiles are better taken from Latencies at the end.
func (l *Ledger) Received(n int, at time.Duration) (first bool, sinceAccepted time.Duration, ok bool) {
	if first = l.set(n, received); !first {
		if uint(n) < uint(l.n) {
			l.set(n, again)
			l.duplicates.Add(1)
		}
		return false, 0, false
	}
	t := ticks(at)
	l.receivedAt[n].Store(t)
	a := l.acceptedAt[n].Load()
	if a == 0 || t < a {
		return true, 0, false
	}
	return true, time.Duration(t-a) * tick, true
}

// Ended notes an end that the product's event log tells of. Reading the same
// part of the log twice makes it look as if a recipient had ended twice.
func (l *Ledger) Ended(n int, s message.State) {
	var f flag
	switch s {
	case message.Delivered:
		f = delivered
	case message.Bounced:
		f = bounced
	case message.Expired:
		f = expired
	case message.Cancelled:
		f = cancelled
	default:
		return // queued is no end
	}
	if uint(n) >= uint(l.n) {
		l.stray(n)
		return
	}
	// Set, then look: of two goroutines that tell of two ends, one sees both.
	twice := !l.set(n, f)
	for other := delivered; other <= cancelled; other++ {
		twice = twice || other != f && l.has(n, other)
	}
	if twice {
		l.set(n, endedAgain)
	}
}

// Logged notes that the product's event log says that it accepted the number.
func (l *Ledger) Logged(n int) { l.set(n, logged) }

// LogRead says that the whole event log has been told by Logged and Ended. Only
// then what is missing in it is a disagreement.
func (l *Ledger) LogRead() { l.logRead.Store(true) }

// Queued notes that the product's own listing has the number as still queued,
// when the run is over.
func (l *Ledger) Queued(n int) { l.set(n, queued) }

// Altered notes that what a receiver got is not what was sent.
func (l *Ledger) Altered(n int) { l.set(n, altered) }

// Latencies gives, in the order of numbers, the time from promise to first
// receipt of each recipient that has both. It is zero where the receipt came
// before the source had read its answer.
func (l *Ledger) Latencies(yield func(n int, d time.Duration) bool) {
	for n := range l.n {
		a, r := l.acceptedAt[n].Load(), l.receivedAt[n].Load()
		if a == 0 || r == 0 {
			continue
		}
		if !yield(n, time.Duration(r-min(a, r))*tick) {
			return
		}
	}
}
