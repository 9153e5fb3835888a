package load

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// task is one message on its way, or what is left of it.
type task struct {
	msg      Message
	intended time.Duration // since the start of the run
	began    time.Duration // this attempt's first byte
	attempt  int           // the first is 0
	only     []int         // recipients of a further attempt; nil: all
	due      time.Duration // of a further attempt
	doubt    bool          // the answer to an earlier attempt was lost: a refusal now is not the whole truth
	refused  bool          // the last attempt was answered
	reset    bool          // RSET goes before MAIL
	state    []verdict     // of each recipient in this attempt
}

// verdict is what became of a recipient in one attempt.
type verdict uint8

const (
	unsent  verdict = iota // nothing of the content was sent: it cannot have been accepted
	unknown                // sent, and no answer
	yes
	later // refused for now
	no
)

func (t *task) count() int {
	if t.only != nil {
		return len(t.only)
	}
	return t.msg.Count
}

func (t *task) number(k int) int {
	if t.only != nil {
		return t.only[k]
	}
	return t.msg.First + k
}

// all gives every recipient that is still in state from the state to.
func (t *task) all(from, to verdict) {
	for k, v := range t.state {
		if v == from {
			t.state[k] = to
		}
	}
}

// feed is where one connection gets its messages from. It belongs to the
// connection's goroutine.
type feed struct {
	s        *Source
	c        *cursor
	reserved *position // taken before its time
	retries  []task    // in the order of their times; bounded by what is in flight
	free     [][]verdict
	over     bool // the cursor has no more
	timer    *time.Timer
}

// now is the time since the start of the run.
func (s *Source) now() time.Duration { return time.Since(s.began) }

// next is the next message to send. Without wait, it is one that is due now. With
// it, ok is false only when there will be none: all sent, time over, or ctx done.
func (f *feed) next(ctx context.Context, wait bool) (t task, ok bool) {
	for {
		now := f.s.now()
		if f.stopped(ctx) {
			f.abandon()
			return t, false
		}
		if len(f.retries) > 0 && f.retries[0].due <= now {
			t = f.retries[0]
			f.retries = slices.Delete(f.retries, 0, 1)
			return f.start(t, now), true
		}
		if f.reserved == nil && !f.over {
			p, took, more := f.c.take(now, !wait)
			f.over = !more
			if took {
				f.reserved = &p
			}
		}
		if f.reserved != nil && f.reserved.at <= now {
			t = task{msg: f.s.mix.Message(f.reserved.i), intended: f.reserved.at}
			f.reserved = nil
			return f.start(t, now), true
		}
		if !wait || f.reserved == nil && len(f.retries) == 0 && f.over {
			return t, false
		}
		until := time.Duration(1<<63 - 1)
		if f.reserved != nil {
			until = f.reserved.at
		}
		if len(f.retries) > 0 {
			until = min(until, f.retries[0].due)
		}
		f.sleep(ctx, until-now)
	}
}

func (f *feed) stopped(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	case <-f.s.stop:
		return true
	default:
		return false
	}
}

// sleep waits, or until the run stops.
func (f *feed) sleep(ctx context.Context, d time.Duration) {
	if f.timer == nil {
		f.timer = time.NewTimer(d)
	} else {
		f.timer.Reset(d)
	}
	select {
	case <-f.timer.C:
	case <-ctx.Done():
	case <-f.s.stop:
	}
	f.timer.Stop()
}

// start makes an attempt of t.
func (f *feed) start(t task, now time.Duration) task {
	t.began = now
	n := t.count()
	if k := len(f.free) - 1; k >= 0 && cap(f.free[k]) >= n {
		t.state, f.free = f.free[k][:n], f.free[:k]
		clear(t.state)
	} else {
		t.state = make([]verdict, n)
	}
	f.s.count.inFlight.Add(1)
	if t.attempt > 0 {
		f.s.count.retried.Add(int64(n))
		return t
	}
	f.s.count.offered.Add(int64(n))
	if l := f.s.o.Ledger; l != nil {
		for k := range n {
			l.Offered(t.number(k))
		}
	}
	return t
}

const maxFree = 8

// finish books what became of an attempt, and keeps what is to be tried again.
func (f *feed) finish(t *task, size int) {
	s := f.s
	now := s.now()
	accepted, tried := 0, t.state
	var again, notSent, doubtful []int
	for k, v := range tried {
		n := t.number(k)
		retry := f.mayRetry(t)
		switch {
		case v == yes:
			accepted++
			if s.o.Ledger != nil {
				s.o.Ledger.Accepted(n, now+s.offset)
			}
		case v == unknown && s.o.Resend && retry:
			if !s.o.Idempotent {
				s.count.resent.Add(1)
			}
			doubtful = append(doubtful, n)
		case v == later && retry:
			again = append(again, n)
		case v == unsent && retry:
			notSent = append(notSent, n)
		case v == no, v == later:
			s.refuse(n, t.doubt)
		default:
			s.count.unknown.Add(1)
		}
	}
	if accepted > 0 {
		s.count.accepted.Add(int64(accepted))
		s.count.messages.Add(1)
		s.count.bytes.Add(int64(size))
		s.service.Record(now - t.began)
		if s.o.Rate > 0 {
			s.intended.Record(now - t.intended)
		}
	}
	f.retry(task{only: again, refused: true, doubt: t.doubt}, t, now)
	f.retry(task{only: notSent, doubt: t.doubt}, t, now)
	f.retry(task{only: doubtful, doubt: true}, t, now)
	s.count.inFlight.Add(-1)
	if t.state = nil; len(f.free) < maxFree {
		f.free = append(f.free, tried)
	}
}

// retry keeps r, recipients of the message of last, for a further attempt.
func (f *feed) retry(r task, last *task, now time.Duration) {
	if r.only == nil {
		return
	}
	r.msg, r.intended, r.attempt, r.due = last.msg, last.intended, last.attempt+1, now+f.s.backoff(last)
	i, _ := slices.BinarySearchFunc(f.retries, r.due, func(t task, due time.Duration) int { return cmp.Compare(t.due, due) })
	f.retries = slices.Insert(f.retries, i, r)
}

func (f *feed) mayRetry(t *task) bool {
	return t.attempt+1 < f.s.o.Attempts && len(f.retries) < maxRetries
}

// maxRetries bounds the further attempts that wait at a connection: it stops
// taking new messages for them long before (next prefers them), so this is met
// only where the server refuses everything.
const maxRetries = 1000

// backoff is the wait before the next attempt, spread a little so that what was
// refused together does not come back together.
func (s *Source) backoff(t *task) time.Duration {
	d := min(s.o.Backoff<<min(t.attempt, 20), maxBackoff)
	return d + time.Duration(s.mix.Chance(^t.msg.Index)*float64(d)/4)
}

// refuse books a recipient that is not tried again. After an answer that was
// lost, a refusal is no proof that the server does not have the message.
func (s *Source) refuse(n int, doubt bool) {
	if doubt {
		s.count.unknown.Add(1)
		return
	}
	s.count.refused.Add(1)
	if s.o.Ledger != nil {
		s.o.Ledger.Refused(n)
	}
}

// abandon ends the further attempts when the run stops.
func (f *feed) abandon() {
	for i := range f.retries {
		for _, n := range f.retries[i].only {
			f.s.refuse(n, f.retries[i].doubt || !f.retries[i].refused)
		}
	}
	f.retries = nil
}
