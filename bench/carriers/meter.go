package carriers

import (
	"time"

	"hikyaku/controlplane/policy"
)

// meter measures "at most rate × (W + tolerance) + burst in every span W"
// exactly, in one number. Think of a queue that each message enters and that is
// served at the rate: what is in it, as the time that serving it takes, is the
// largest excess of all spans that end now. So the bound holds for every span
// if and only if the queue never holds more than burst × interval + tolerance.
//
// A message has been sent some time between since and until. It is taken as
// sent at since, and the span ends at the latest until seen. That way a span
// holds only messages that certainly were sent in it, and what is reported is
// certain. Messages may come out of the order of since; then the marks behind
// are computed anew.
//
// The interval is rounded down to a nanosecond, which allows a little more: at
// 1,000 a second at most one in a million.
type meter struct {
	interval  time.Duration // Per / N
	room      time.Duration // burst × interval + tolerance
	burst     int64
	tolerance time.Duration

	marks   []mark // by at; never empty once used
	trimmed bool   // marks older than the first have been forgotten
	end     int64  // the latest until
	from    int64  // when the queue was last empty
	seen    int64  // messages since then, refused ones too
	peak    time.Duration
}

// mark is a message that counts: when it was sent, and what the queue held
// just after it. Nanoseconds since 1970.
type mark struct{ at, held int64 }

// maxMarks bounds what is remembered to put late messages in their place. One
// that was sent before all of them is let pass unjudged.
const maxMarks = 4096

func newMeter(r *policy.Rate, tolerance time.Duration) *meter {
	if r == nil {
		return nil
	}
	m := &meter{interval: r.Per / time.Duration(r.N), burst: r.BurstOrDefault(), tolerance: tolerance}
	m.room = time.Duration(m.burst)*m.interval + tolerance
	return m
}

// take counts a message that was sent between since and until. False means that
// it was too much; it does not count then. A nil meter takes everything.
func (m *meter) take(since, until time.Time) bool {
	if m == nil {
		return true
	}
	lo := since.UnixNano()
	m.end = max(m.end, until.UnixNano(), lo)
	i := len(m.marks)
	for i > 0 && m.marks[i-1].at > lo {
		i--
	}
	if i == 0 && m.trimmed {
		return true
	}
	first := m.after(i, lo, int64(m.interval))
	held, at := first, lo
	for _, k := range m.marks[i:] {
		held = max(0, held-(k.at-at)) + int64(m.interval)
		at = k.at
	}
	over := held - (m.end - at)
	if m.seen == 0 || first == int64(m.interval) && i == len(m.marks) {
		m.from, m.seen = lo, 0
	}
	m.seen++
	if over > int64(m.room) {
		return false
	}
	m.peak = max(m.peak, time.Duration(over))
	m.put(i, mark{lo, first})
	return true
}

// after is what the queue holds after one more message at the time at, behind
// the first i marks.
func (m *meter) after(i int, at, interval int64) int64 {
	if i == 0 {
		return interval
	}
	k := m.marks[i-1]
	return max(0, k.held-(at-k.at)) + interval
}

func (m *meter) put(i int, k mark) {
	if len(m.marks) >= 2*maxMarks {
		cut := len(m.marks) - maxMarks
		if i <= cut {
			return // older than all that is kept
		}
		m.marks = m.marks[:copy(m.marks, m.marks[cut:])]
		m.trimmed = true
		i -= cut
	}
	m.marks = append(m.marks, mark{})
	copy(m.marks[i+1:], m.marks[i:])
	m.marks[i] = k
	for j := i + 1; j < len(m.marks); j++ {
		m.marks[j].held = m.after(j, m.marks[j].at, int64(m.interval))
	}
}

// excess describes the span that was exceeded: how long it is, how many
// messages it allowed and how many were seen in it.
func (m *meter) excess() (window time.Duration, allowed, seen int64) {
	window = time.Duration(m.end - m.from)
	return window, m.permitted(window), m.seen
}

// permitted is how many messages a span of this length allows.
func (m *meter) permitted(span time.Duration) int64 {
	return int64((span+m.tolerance)/m.interval) + m.burst
}

// use is the largest share of the room that was ever taken.
func (m *meter) use() float64 {
	if m == nil {
		return 0
	}
	return float64(m.peak) / float64(m.room)
}

// dayMeter counts messages in the last 24 hours by whole minutes.
type dayMeter struct {
	most   int64
	total  int64
	minute int64 // the current one, since 1970
	counts [minutesOfDay]uint32
}

const minutesOfDay = 24 * 60

func newDayMeter(most int64) *dayMeter {
	if most == 0 {
		return nil
	}
	return &dayMeter{most: most}
}

// take counts a message unless it is too many. seen is how many there were with
// it. A nil meter takes everything.
func (d *dayMeter) take(now time.Time) (seen int64, ok bool) {
	if d == nil {
		return 0, true
	}
	minute := now.Unix() / 60
	for n := 0; d.minute < minute && n < minutesOfDay; n++ {
		d.minute++
		slot := &d.counts[d.minute%minutesOfDay]
		d.total -= int64(*slot)
		*slot = 0
	}
	d.minute = max(d.minute, minute)
	if d.total >= d.most {
		return d.total + 1, false
	}
	d.total++
	d.counts[d.minute%minutesOfDay]++
	return d.total, true
}
