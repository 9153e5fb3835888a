package steer

import (
	"math"
	"time"

	"hikyaku/reputation"
)

// class is a group of categories that steering does not tell apart.
type class uint8

const (
	delivered class = iota
	unknownUser
	otherRcpt // inactive, mailbox full, filtered by the recipient, no mail at all
	rcptRate
	content
	refused // policy, size, bad sender, relay
	auth
	rate
	connections
	blocked
	disliked // slowed for the source's reputation
	greylist
	network // no connection, no TLS, no DNS
	theirs  // their own trouble
	complained
	other // enough for one connection, our own fault, not classified
	classes
)

// classNames are the words of Score.Counts.
var classNames = [classes]string{
	"delivered", "unknown-user", "other-recipient", "rcpt-rate", "content", "policy", "auth", "rate", "connections",
	"blocked", "reputation", "greylist", "network", "temporary", Complained, "other",
}

// Complained is the category of tallies that count complaints: no reply has it,
// so it is none of package reputation's.
const Complained = "complained"

// classOf gives a category's class; false is for what no carrier said.
func classOf(category string) (class, bool) {
	switch reputation.Category(category) {
	case reputation.Delivered:
		return delivered, true
	case reputation.UnknownUser:
		return unknownUser, true
	case reputation.Inactive, reputation.MailboxFull, reputation.Filtered, reputation.NoMail:
		return otherRcpt, true
	case reputation.RcptRate:
		return rcptRate, true
	case reputation.Content:
		return content, true
	case reputation.PolicyRule, reputation.Size, reputation.BadSender, reputation.Relay:
		return refused, true
	case reputation.Auth, reputation.SenderRate: // both are about the sender, wherever it sends from
		return auth, true
	case reputation.Rate:
		return rate, true
	case reputation.Connections:
		return connections, true
	case reputation.Blocked:
		return blocked, true
	case reputation.Reputation:
		return disliked, true
	case reputation.Greylist:
		return greylist, true
	case reputation.Network, reputation.TLS, reputation.DNS:
		return network, true
	case reputation.TheirFault:
		return theirs, true
	case reputation.Local:
		return 0, false
	case Complained:
		return complained, true
	}
	return other, true
}

// counts are numbers by class: a cache line.
type counts [classes]uint32

// What a node reports may be anything. Counts end at these, so that sums of them
// never go round: a million of a kind in a second, and as many in a slot that the
// slots of three days are less than 2^32.
const (
	maxTick = 1 << 20
	maxSlot = 1 << 28
	maxSeen = 1 << 26 // of evidence, of which some look at twenty times
)

// bump counts n more in a second.
func (c *counts) bump(cl class, n uint32) { c[cl] = min(c[cl]+min(n, maxTick), maxTick) }

func (c *counts) add(o *counts) {
	for i := range c {
		c[i] = min(c[i]+o[i], maxSlot)
	}
}

// replies is how many recipients got an answer: all but complaints.
func (c *counts) replies() uint32 {
	n := uint64(0)
	for i, v := range c {
		if class(i) != complained {
			n += uint64(v)
		}
	}
	return uint32(min(n, math.MaxUint32))
}

// Spans of the three windows. Each is of windowSlots slots and the one that is
// filling, so that it covers between its span and a slot more.
const (
	windowSlots = 12
	windows     = 3
)

var slotSpans = [windows]time.Duration{time.Minute, 30 * time.Minute, 6 * time.Hour}

// window is a sliding count over the last 12 minutes, six hours and three days.
// What is counted goes into the slot of a minute; a slot that closes goes into
// that of the next span.
type window struct {
	at [windows]int64 // number of the slot that is filling, since 1970
	// shift moves the ends of slots, so that not all windows close one at once. It
	// lies beside at, which is looked at each second with it.
	shift instant
	open  [windows]counts // filling
	slots [windows][windowSlots]counts
}

func newWindow(n int64) *window { return &window{shift: instant(n%60) * instant(time.Second)} }

// add counts at time t, which does not go back.
func (w *window) add(t instant, n *counts) {
	w.advance(t)
	w.open[0].add(n)
}

// advance closes the slots that ended before t.
func (w *window) advance(t instant) {
	t += w.shift
	if int64(t)/int64(slotSpans[0]) == w.at[0] {
		return
	}
	for i := range w.at {
		now := int64(t) / int64(slotSpans[i])
		if now <= w.at[i] {
			return
		}
		if w.at[i] == 0 {
			w.at[i] = now
			continue
		}
		closed := w.open[i]
		// What was counted in the slot that closes belongs to the next span's slot of
		// that time: it is there before that one closes in turn.
		if i+1 < windows && w.at[i+1] != 0 {
			w.open[i+1].add(&closed)
		}
		w.slots[i][w.at[i]%windowSlots] = closed
		w.open[i] = counts{}
		for gap := w.at[i] + 1; gap < now && gap <= w.at[i]+windowSlots; gap++ {
			w.slots[i][gap%windowSlots] = counts{}
		}
		w.at[i] = now
	}
}

// pace is how much was delivered a second in the last minutes: as many of them as
// it takes to have so many replies.
func (w *window) pace(t instant, replies uint32) float64 {
	w.advance(t)
	n := w.open[0]
	span := time.Duration(int64(t+w.shift) - w.at[0]*int64(time.Minute))
	for back := int64(1); back <= windowSlots && (n.replies() < replies || span < 15*time.Second); back++ {
		slot := &w.slots[0][(w.at[0]-back+windowSlots)%windowSlots]
		if slot.replies() == 0 {
			break // nothing was wanted
		}
		n.add(slot)
		span += time.Minute
	}
	return float64(n[delivered]) / max(span.Seconds(), 1)
}

// total is the count of a span, 0 to windows-1.
func (w *window) total(span int) counts {
	n := w.open[span]
	for i := range w.slots[span] {
		n.sum(&w.slots[span][i])
	}
	for shorter := range span {
		n.sum(&w.open[shorter]) // not yet in the slot that it will go to
	}
	return n
}

// sum adds up slots, of which there are few enough.
func (c *counts) sum(o *counts) {
	for i := range c {
		c[i] += o[i]
	}
}
