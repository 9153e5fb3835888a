package ledger

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// Ledger counts by number, 0 to its size-1. Safe for concurrent use.
type Ledger struct {
	mu struct {
		sync.Mutex
		offered  []bool  // handed to the server, answer unknown or not
		accepted []bool  // promised by the server
		received []uint8 // times taken by a receiver, at most 255
		bounced  []uint8 // times reported as not deliverable
	}
}

// New makes a ledger for n recipients.
func New(n int) *Ledger {
	l := &Ledger{}
	l.mu.offered, l.mu.accepted = make([]bool, n), make([]bool, n)
	l.mu.received, l.mu.bounced = make([]uint8, n), make([]uint8, n)
	return l
}

// Address is the recipient for a number: "r12@domain", or with a prefix that
// receivers may treat in their own way.
func Address(prefix string, n int, domain string) string {
	return prefix + strconv.Itoa(n) + "@" + domain
}

// Number reads the number back from an address made by Address.
func Number(address string) (int, bool) {
	local, _, _ := strings.Cut(address, "@")
	i := strings.LastIndexFunc(local, func(r rune) bool { return r < '0' || r > '9' })
	n, err := strconv.Atoi(local[i+1:])
	return n, err == nil
}

// Offered notes that the number was sent to the server, before the answer.
func (l *Ledger) Offered(n int) { l.set(func() { l.mu.offered[n] = true }) }

// Accepted notes the server's promise.
func (l *Ledger) Accepted(n int) { l.set(func() { l.mu.accepted[n] = true }) }

// Received notes that a receiver took the number's message.
func (l *Ledger) Received(n int) { l.set(func() { count(l.mu.received, n) }) }

// Bounced notes that the server reported the number as not deliverable.
func (l *Ledger) Bounced(n int) { l.set(func() { count(l.mu.bounced, n) }) }

func count(c []uint8, n int) {
	if n >= 0 && n < len(c) && c[n] < 255 {
		c[n]++
	}
}

func (l *Ledger) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// Balance is the comparison of both sides.
type Balance struct {
	Accepted   int
	Delivered  int   // accepted and received at least once
	Bounced    int   // accepted, reported as bounced and not received
	Lost       []int // accepted, neither received nor bounced
	Both       []int // received and reported as bounced
	Duplicates int   // receipts beyond the first
	Phantoms   []int // received though never offered
}

// Balance compares the two sides.
func (l *Ledger) Balance() Balance {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b Balance
	for n, acc := range l.mu.accepted {
		rec, bou := int(l.mu.received[n]), int(l.mu.bounced[n])
		b.Duplicates += max(0, rec-1)
		if rec > 0 && !l.mu.offered[n] {
			b.Phantoms = append(b.Phantoms, n)
		}
		if rec > 0 && bou > 0 {
			b.Both = append(b.Both, n)
		}
		if !acc {
			continue
		}
		b.Accepted++
		switch {
		case rec > 0:
			b.Delivered++
		case bou > 0:
			b.Bounced++
		default:
			b.Lost = append(b.Lost, n)
		}
	}
	return b
}

// Err says what does not balance, allowing so many duplicates.
func (b Balance) Err(duplicatesAllowed int) error {
	switch {
	case len(b.Lost) > 0:
		return fmt.Errorf("ledger: %d of %d accepted were lost: %s", len(b.Lost), b.Accepted, some(b.Lost))
	case len(b.Phantoms) > 0:
		return fmt.Errorf("ledger: %d were received that nobody sent: %s", len(b.Phantoms), some(b.Phantoms))
	case len(b.Both) > 0:
		return fmt.Errorf("ledger: %d were received and reported as bounced: %s", len(b.Both), some(b.Both))
	case b.Duplicates > duplicatesAllowed:
		return fmt.Errorf("ledger: %d duplicates, %d allowed", b.Duplicates, duplicatesAllowed)
	}
	return nil
}

// String is the ledger as a line.
func (b Balance) String() string {
	return fmt.Sprintf("accepted %d = delivered %d + bounced %d + lost %d; duplicates %d", b.Accepted, b.Delivered, b.Bounced, len(b.Lost), b.Duplicates)
}

func some(ns []int) string {
	if len(ns) > 10 {
		return fmt.Sprint(ns[:10]) + "…"
	}
	return fmt.Sprint(ns)
}
