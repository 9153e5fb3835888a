package ledger

import (
	"fmt"
	"math/bits"
	"strings"
)

// MaxListed bounds the numbers that a Class lists.
const MaxListed = 1000

// Class is a set of recipients: how many, and the first of them.
type Class struct {
	Count int   `json:"count"`
	IDs   []int `json:"ids,omitempty"` // at most MaxListed, ascending
}

// add counts the set bits of a group that begins at number first.
func (c *Class) add(first int, set uint64) {
	if set == 0 {
		return
	}
	c.Count += bits.OnesCount64(set)
	for ; set != 0 && len(c.IDs) < MaxListed; set &= set - 1 {
		c.IDs = append(c.IDs, first+bits.TrailingZeros64(set))
	}
}

// Balance is the comparison of all sides.
type Balance struct {
	// The source's side.
	Offered  int `json:"offered"`
	Answered int `json:"answered"` // promised, by an answer that the source read
	Refused  int `json:"refused"`
	Unknown  int `json:"unknown"` // offered, and the answer never came

	// Accepted is what must be accounted for: Answered, and what the product's log
	// knows although the answer never reached the source. The terms
	// below, with Unseen and Lost, add up to it.
	Accepted  int `json:"accepted"`
	Delivered int `json:"delivered"` // received at least once
	Bounced   int `json:"bounced"`   // these by the event log, and not received
	Expired   int `json:"expired"`
	Cancelled int `json:"cancelled"`
	Queued    int `json:"queued"`

	// Faults.
	Lost       Class `json:"lost"`        // accepted; neither received nor ended nor queued
	Unseen     Class `json:"unseen"`      // the log says delivered; no receiver has it
	Duplicates Class `json:"duplicates"`  // Count: receipts beyond the first; IDs: of whom
	Phantoms   Class `json:"phantoms"`    // received, never offered
	Both       Class `json:"both"`        // received, and reported as bounced, expired or cancelled
	Altered    Class `json:"altered"`     // received with other content than was sent
	NotRefused Class `json:"not_refused"` // refused, and received or accepted by the log all the same
	EndedAgain Class `json:"ended_again"` // two ends in the event log
	Strays     Class `json:"strays"`      // events about numbers that do not exist

	// Faults that only a whole event log shows.
	LogRead       bool  `json:"log_read"`
	LogAccepted   int   `json:"log_accepted"`
	Unlogged      Class `json:"unlogged"`       // received; the log does not say delivered, nor is it queued
	NotInLog      Class `json:"not_in_log"`     // promised; the log does not say accepted
	EndWithoutLog Class `json:"end_without_in"` // ended in the log, which does not say accepted

	// Unsettled is no fault: received, not yet ended, still queued. It will be
	// sent again, as after a crash between the remote's answer and its record.
	Unsettled Class `json:"unsettled"`
}

// Balance compares the sides. It may be called while the run goes on, and then
// shows a moment that is nearly one.
func (l *Ledger) Balance() Balance {
	b := Balance{LogRead: l.logRead.Load()}
	for i := range l.groups {
		b.count(i*64, &l.groups[i])
	}
	b.Duplicates.Count = int(l.duplicates.Load())
	b.Strays.Count = int(l.strayCount.Load())
	l.mu.Lock()
	b.Strays.IDs = append([]int(nil), l.mu.strays...)
	l.mu.Unlock()
	return b
}

// count adds 64 recipients at a time.
func (b *Balance) count(first int, g *group) {
	var v [flags]uint64
	known := uint64(0)
	for f := range v {
		v[f] = g[f].Load()
		known |= v[f]
	}
	if known == 0 {
		return
	}
	rec := v[received]
	failed := v[bounced] | v[expired] | v[cancelled]
	ended := v[delivered] | failed
	promised := v[accepted] | v[logged] | ended

	b.Offered += bits.OnesCount64(v[offered])
	b.Answered += bits.OnesCount64(v[accepted])
	b.Refused += bits.OnesCount64(v[refused] &^ v[accepted])
	b.Unknown += bits.OnesCount64(v[offered] &^ (v[accepted] | v[refused]))
	b.LogAccepted += bits.OnesCount64(v[logged])

	// Each promised recipient goes to the first term that claims it.
	left := promised
	b.Accepted += bits.OnesCount64(left)
	for _, term := range []struct {
		count *int
		set   uint64
	}{{&b.Delivered, rec}, {&b.Bounced, v[bounced]}, {&b.Expired, v[expired]}, {&b.Cancelled, v[cancelled]}} {
		*term.count += bits.OnesCount64(left & term.set)
		left &^= term.set
	}
	b.Unseen.add(first, left&v[delivered])
	left &^= v[delivered]
	b.Queued += bits.OnesCount64(left & v[queued])
	b.Lost.add(first, left&^v[queued])

	b.Duplicates.add(first, v[again])
	b.Phantoms.add(first, rec&^v[offered])
	b.Both.add(first, rec&failed)
	b.Altered.add(first, v[altered])
	b.NotRefused.add(first, v[refused]&^v[accepted]&(rec|v[logged]))
	b.EndedAgain.add(first, v[endedAgain])
	b.Unsettled.add(first, rec&v[queued]&^ended)
	if b.LogRead {
		b.Unlogged.add(first, rec&^ended&^v[queued])
		b.NotInLog.add(first, v[accepted]&^v[logged])
		b.EndWithoutLog.add(first, ended&^v[logged])
	}
}

// Row is one line of the comparison.
type Row struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
	Fault bool   `json:"fault"` // must be 0
	IDs   []int  `json:"ids,omitempty"`
}

// Rows are the terms of the balance in their order, then the faults.
func (b Balance) Rows() []Row {
	rows := []Row{
		{Name: "offered", Count: b.Offered}, {Name: "refused", Count: b.Refused}, {Name: "answer unknown", Count: b.Unknown},
		{Name: "accepted", Count: b.Accepted}, {Name: "delivered", Count: b.Delivered}, {Name: "bounced", Count: b.Bounced},
		{Name: "expired", Count: b.Expired}, {Name: "cancelled", Count: b.Cancelled}, {Name: "still queued", Count: b.Queued},
		{Name: "received, still queued", Count: b.Unsettled.Count, IDs: b.Unsettled.IDs},
	}
	for _, f := range b.faults() {
		rows = append(rows, Row{f.name, f.class.Count, true, f.class.IDs})
	}
	return rows
}

type fault struct {
	name, text string // text continues "12 "
	class      *Class
}

func (b *Balance) faults() []fault {
	list := []fault{
		{"lost", fmt.Sprintf("of %d accepted were lost", b.Accepted), &b.Lost},
		{"delivered by the log, received by nobody", "are delivered by the event log and were received by nobody", &b.Unseen},
		{"phantoms", "were received that nobody offered", &b.Phantoms},
		{"received and failed", "were received and reported as bounced, expired or cancelled", &b.Both},
		{"altered", "arrived with other content than was sent", &b.Altered},
		{"refused, yet accepted", "were refused and were received or accepted all the same", &b.NotRefused},
		{"ended twice", "have two ends in the event log", &b.EndedAgain},
		{"unknown numbers", "events are about numbers that do not exist", &b.Strays},
		{"duplicates", "duplicates", &b.Duplicates},
	}
	if b.LogRead {
		list = append(list,
			fault{"received, not delivered by the log", "were received and are not delivered by the event log", &b.Unlogged},
			fault{"accepted, not by the log", "were accepted and are not accepted by the event log", &b.NotInLog},
			fault{"ended, not accepted by the log", "have an end in the event log and are not accepted by it", &b.EndWithoutLog})
	}
	return list
}

// Err says all that does not balance, allowing so many duplicates.
func (b Balance) Err(duplicatesAllowed int) error {
	var texts []string
	if sum := b.Delivered + b.Bounced + b.Expired + b.Cancelled + b.Queued + b.Unseen.Count + b.Lost.Count; sum != b.Accepted {
		texts = append(texts, fmt.Sprintf("BUG: %d accepted, %d accounted for", b.Accepted, sum))
	}
	for _, f := range b.faults() {
		switch {
		case f.class == &b.Duplicates && f.class.Count > duplicatesAllowed:
			texts = append(texts, fmt.Sprintf("%d duplicates, %d allowed: %s", f.class.Count, duplicatesAllowed, some(f.class.IDs)))
		case f.class != &b.Duplicates && f.class.Count > 0:
			texts = append(texts, fmt.Sprintf("%d %s: %s", f.class.Count, f.text, some(f.class.IDs)))
		}
	}
	if len(texts) == 0 {
		return nil
	}
	return fmt.Errorf("the ledger does not balance: %s", strings.Join(texts, "; "))
}

// String is the ledger as a line.
func (b Balance) String() string {
	s := fmt.Sprintf("accepted %d = delivered %d + bounced %d + expired %d + cancelled %d + queued %d + lost %d; duplicates %d",
		b.Accepted, b.Delivered, b.Bounced, b.Expired, b.Cancelled, b.Queued, b.Lost.Count+b.Unseen.Count, b.Duplicates.Count)
	for _, f := range b.faults() {
		if f.class.Count > 0 && f.class != &b.Lost && f.class != &b.Unseen && f.class != &b.Duplicates {
			s += fmt.Sprintf("; %s %d", f.name, f.class.Count)
		}
	}
	return s
}

func some(ns []int) string {
	if len(ns) > 10 {
		return fmt.Sprint(ns[:10]) + "…"
	}
	return fmt.Sprint(ns)
}
