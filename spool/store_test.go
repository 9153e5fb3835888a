package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"hikyaku/spool"
	"hikyaku/spool/message"
)

// epoch is when the tests' clock begins.
var epoch = time.Date(2026, 4, 1, 9, 0, 0, 0, time.UTC)

// testClock is a clock that tests move.
type testClock struct {
	mu struct {
		sync.Mutex
		now time.Time
	}
}

func newClock() *testClock {
	c := &testClock{}
	c.mu.now = epoch
	return c
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.now
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.now = c.mu.now.Add(d)
}

func memOptions(fs vfs.FS, clock *testClock) spool.Options {
	return spool.Options{
		Dir: "spool", FS: fs, Now: clock.now, MemTableSize: 1 << 20, CacheSize: 1 << 20,
		FreeSpace: func(string) (uint64, uint64, error) { return 1 << 40, 1 << 40, nil },
	}
}

func open(t testing.TB, o spool.Options) *spool.Store {
	t.Helper()
	s, err := spool.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// maker makes submissions whose ids are in order and the same in each run.
type maker struct {
	n  uint64
	at time.Time
}

func (g *maker) id() message.ID {
	g.n++
	var id message.ID
	ms := uint64(g.at.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	for i := range 8 {
		id[8+i] = byte(g.n >> (56 - 8*i))
	}
	return id
}

func queue(dest string) message.QueueKey {
	return message.QueueKey{Destination: dest, Priority: message.Normal, Tenant: "acme", Stream: "news", Pool: "main", Job: "j1"}
}

// mail makes a message with one delivery for each destination.
func (g *maker) mail(dests ...string) *spool.Submission {
	m := &message.Message{
		ID: g.id(), Sender: "from@acme.example", Tenant: "acme", Stream: "news", Pool: "main", Job: "j1", Priority: message.Normal,
		Tags: []string{"a", "b"}, Metadata: []byte(`{"k":1}`), Accepted: g.at, From: "192.0.2.1", Via: "smtp", HeaderFrom: "acme.example",
		Deliveries: uint16(len(dests)), Raw: []byte(fmt.Sprintf("Subject: %d\r\n\r\nbody %d\r\n", g.n, g.n)),
	}
	sub := &spool.Submission{Message: m, Events: fmt.Appendf(nil, "accepted %s %d\n", m.ID, len(dests))}
	for i, dest := range dests {
		sub.Deliveries = append(sub.Deliveries, &message.Delivery{
			ID: message.DeliveryID{Message: m.ID, Index: uint16(i)}, Queue: queue(dest),
			Due: g.at.Add(time.Duration(g.n) * time.Millisecond), Accepted: g.at, Expires: g.at.Add(72 * time.Hour),
			Size: uint32(len(m.Raw)), Recipients: []message.Recipient{{Address: fmt.Sprintf("u%d@%s", g.n, dest), Notify: message.NotifyFailure}},
		})
	}
	return sub
}

func newMaker() *maker { return &maker{at: epoch} }

func ended(d *message.Delivery, st message.State) *spool.Transition {
	t := &spool.Transition{Delivery: d, Events: fmt.Appendf(nil, "%s %s\n", st, d.ID)}
	for _, r := range d.Recipients {
		t.Final = append(t.Final, spool.Final{
			Recipient: r.Address, State: st, At: epoch, Attempts: d.Attempts + 1,
			Reply: message.Reply{Code: 250, Enhanced: message.Enhanced{Class: 2}, Text: "ok", Phase: message.PhaseDot},
		})
	}
	return t
}

func later(d *message.Delivery, wait time.Duration) *spool.Transition {
	n := d.Clone()
	n.Due = d.Due.Add(wait)
	n.Attempts++
	n.Last = &message.LastAttempt{At: epoch, Source: "s1", Host: "mx.example [192.0.2.2]:25", Reply: message.Reply{Code: 451, Text: "later\nplease", Phase: message.PhaseRcpt}}
	return &spool.Transition{Delivery: d, Next: n, Events: fmt.Appendf(nil, "deferred %s\n", d.ID)}
}

func commit(s *spool.Store, t *spool.Transition) error {
	ch := make(chan error, 1)
	s.Commit(t, func(err error) { ch <- err })
	return <-ch
}

func mustAppend(t testing.TB, s *spool.Store, sub *spool.Submission) {
	t.Helper()
	if err := s.Append(context.Background(), sub); err != nil {
		t.Fatal(err)
	}
}

func mustCommit(t testing.TB, s *spool.Store, tr *spool.Transition) {
	t.Helper()
	if err := commit(s, tr); err != nil {
		t.Fatal(err)
	}
}

func mustVerify(t testing.TB, s *spool.Store) spool.Report {
	t.Helper()
	r, err := s.Verify(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK() {
		t.Fatalf("verify: %d problems:\n%s", r.ProblemCount, strings.Join(r.Problems, "\n"))
	}
	return r
}

func page(t testing.TB, s *spool.Store, q message.QueueKey) []*message.Delivery {
	t.Helper()
	ds, _, err := s.Page(q, spool.Cursor{}, epoch.Add(1000*time.Hour), 1000)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

var far = epoch.Add(1000 * time.Hour)

func TestAcceptedMailReadsBackAsGiven(t *testing.T) {
	clock, fs := newClock(), vfs.NewMem()
	s := open(t, memOptions(fs, clock))
	g := newMaker()
	sub := g.mail("a.example", "b.example")
	sub.Deliveries[1].Recipients[0].Vars = []byte(`{"n":"x"}`)
	sub.Deliveries[1].Recipients[0].ORcpt = "rfc822;x@b.example"
	mustAppend(t, s, sub)
	check := func(s *spool.Store) {
		m, err := s.Message(sub.Message.ID)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(sub.Message, m); d != "" {
			t.Error(d)
		}
		for i, dest := range []string{"a.example", "b.example"} {
			if d := cmp.Diff([]*message.Delivery{sub.Deliveries[i]}, page(t, s, queue(dest))); d != "" {
				t.Error(d)
			}
		}
		meta, err := s.MessageMeta(sub.Message.ID)
		if err != nil || meta.Raw != nil || meta.Sender != sub.Message.Sender {
			t.Errorf("meta: %+v, %v", meta, err)
		}
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, memOptions(fs, clock))
	check(s)
	mustVerify(t, s)
}

func TestContentGoesWithTheLastDelivery(t *testing.T) {
	for _, reopen := range []bool{false, true} {
		t.Run(fmt.Sprintf("reopen=%v", reopen), func(t *testing.T) {
			clock, fs := newClock(), vfs.NewMem()
			s := open(t, memOptions(fs, clock))
			sub := newMaker().mail("a.example", "b.example", "c.example")
			mustAppend(t, s, sub)
			for i, d := range sub.Deliveries {
				if _, err := s.Message(sub.Message.ID); err != nil {
					t.Fatalf("before delivery %d ended: %v", i, err)
				}
				mustCommit(t, s, ended(d, message.Delivered))
				mustVerify(t, s)
				if reopen {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					s = open(t, memOptions(fs, clock))
				}
			}
			if _, err := s.Message(sub.Message.ID); !errors.Is(err, spool.ErrNotFound) {
				t.Fatalf("content after the last delivery: %v", err)
			}
			if r := mustVerify(t, s); r.Messages != 0 || r.Deliveries != 0 || r.EndStates != 3 {
				t.Errorf("left over: %+v", r)
			}
		})
	}
}

func TestTransitionTwiceIsHarmless(t *testing.T) {
	s := open(t, memOptions(vfs.NewMem(), newClock()))
	sub := newMaker().mail("a.example", "b.example")
	mustAppend(t, s, sub)
	d := sub.Deliveries[0]
	retry := later(d, time.Minute)
	mustCommit(t, s, retry)
	if err := commit(s, later(d, time.Hour)); !errors.Is(err, spool.ErrGone) {
		t.Errorf("second move from the same place: %v, want ErrGone", err)
	}
	if err := commit(s, ended(d, message.Cancelled)); !errors.Is(err, spool.ErrGone) {
		t.Errorf("end from the old place: %v, want ErrGone", err)
	}
	mustCommit(t, s, ended(retry.Next, message.Bounced))
	if err := commit(s, ended(retry.Next, message.Bounced)); !errors.Is(err, spool.ErrGone) {
		t.Errorf("second end: %v, want ErrGone", err)
	}
	r := mustVerify(t, s)
	if r.Messages != 1 || r.Deliveries != 1 || r.EndStates != 1 {
		t.Errorf("after doubled transitions: %+v", r)
	}
	j, err := s.Job("acme", "j1")
	if err != nil || j.Accepted != 2 || j.Bounced != 1 || j.Cancelled != 0 || j.Queued() != 1 {
		t.Errorf("job: %+v, %v", j, err)
	}
}

// TestOldStandingWithTheSameDueTimeIsGone: a delivery whose due time came back
// to what it was, with fewer recipients, is not what it was.
func TestOldStandingWithTheSameDueTimeIsGone(t *testing.T) {
	s := open(t, memOptions(vfs.NewMem(), newClock()))
	sub := newMaker().mail("a.example")
	first := sub.Deliveries[0]
	first.Recipients = append(first.Recipients, message.Recipient{Address: "second@a.example"})
	mustAppend(t, s, sub)
	away := later(first, time.Minute)
	away.Next.Recipients = away.Next.Recipients[1:]
	away.Final = ended(first, message.Delivered).Final[:1]
	mustCommit(t, s, away)
	back := later(away.Next, -time.Minute)
	mustCommit(t, s, back)
	if err := commit(s, ended(first, message.Bounced)); !errors.Is(err, spool.ErrGone) {
		t.Errorf("end of both recipients, of whom one had ended: %v", err)
	}
	mustCommit(t, s, ended(back.Next, message.Bounced))
	if j, err := s.Job("acme", "j1"); err != nil || j.Queued() != 0 || j.Delivered != 1 || j.Bounced != 1 {
		t.Errorf("%+v %v", j, err)
	}
}

func TestTwoTransitionsOfOneDeliveryInOneBatch(t *testing.T) {
	s := open(t, memOptions(vfs.NewMem(), newClock()))
	sub := newMaker().mail("a.example")
	mustAppend(t, s, sub)
	const n = 20
	errs := make(chan error, n)
	for range n {
		s.Commit(ended(sub.Deliveries[0], message.Delivered), func(err error) { errs <- err })
	}
	won := 0
	for range n {
		switch err := <-errs; {
		case err == nil:
			won++
		case !errors.Is(err, spool.ErrGone):
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d equal transitions won, want 1", won, n)
	}
	mustVerify(t, s)
}

func TestSameDueTimeIsMovedOn(t *testing.T) {
	s := open(t, memOptions(vfs.NewMem(), newClock()))
	sub := newMaker().mail("a.example")
	mustAppend(t, s, sub)
	tr := later(sub.Deliveries[0], 0)
	mustCommit(t, s, tr)
	if got, want := tr.Next.Due, sub.Deliveries[0].Due.Add(time.Microsecond); !got.Equal(want) {
		t.Errorf("due %v, want %v", got, want)
	}
	if d := cmp.Diff([]*message.Delivery{tr.Next}, page(t, s, queue("a.example"))); d != "" {
		t.Error(d)
	}
	mustVerify(t, s)
}

func TestInvalidIsRefused(t *testing.T) {
	s := open(t, memOptions(vfs.NewMem(), newClock()))
	g := newMaker()
	for name, change := range map[string]func(*spool.Submission){
		"no content":       func(s *spool.Submission) { s.Message.Raw = nil },
		"two contents":     func(s *spool.Submission) { s.Message.Template = &message.Template{} },
		"no deliveries":    func(s *spool.Submission) { s.Deliveries = nil },
		"no recipients":    func(s *spool.Submission) { s.Deliveries[0].Recipients = nil },
		"zero in a name":   func(s *spool.Submission) { s.Deliveries[0].Queue.Job = "a\x00b" },
		"no destination":   func(s *spool.Submission) { s.Deliveries[0].Queue.Destination = "" },
		"long name":        func(s *spool.Submission) { s.Deliveries[0].Queue.Job = strings.Repeat("x", 2000) },
		"other message":    func(s *spool.Submission) { s.Deliveries[0].ID.Message = g.id() },
		"numbers repeated": func(s *spool.Submission) { s.Deliveries = append(s.Deliveries, s.Deliveries[0]) },
		"long key": func(s *spool.Submission) {
			s.Idempotency = &spool.Idempotency{Tenant: "t", Key: strings.Repeat("k", 600)}
		},
	} {
		sub := g.mail("a.example")
		change(sub)
		if err := s.Append(context.Background(), sub); !errors.Is(err, spool.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	sub := g.mail("a.example")
	sub.Deliveries[0].Recipients = append(sub.Deliveries[0].Recipients, message.Recipient{Address: "second@a.example"})
	mustAppend(t, s, sub)
	tr := ended(sub.Deliveries[0], message.Delivered)
	tr.Final = tr.Final[:1]
	if err := commit(s, tr); !errors.Is(err, spool.ErrInvalid) {
		t.Errorf("transition that forgets a recipient: %v, want ErrInvalid", err)
	}
	if r := mustVerify(t, s); r.Deliveries != 1 || r.Recipients != 2 {
		t.Errorf("%+v", r)
	}
}

func TestPartialEndKeepsTheRest(t *testing.T) {
	clock := newClock()
	s := open(t, memOptions(vfs.NewMem(), clock))
	sub := newMaker().mail("a.example")
	d := sub.Deliveries[0]
	d.Recipients = append(d.Recipients, message.Recipient{Address: "second@a.example"})
	mustAppend(t, s, sub)
	tr := later(d, time.Minute)
	tr.Next.Recipients = tr.Next.Recipients[1:]
	tr.Final = ended(d, message.Delivered).Final[:1]
	mustCommit(t, s, tr)
	st, err := s.Status(d.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(spool.Status{ID: d.ID, Queue: d.Queue, Queued: tr.Next, Final: tr.Final}, st); diff != "" {
		t.Error(diff)
	}
	last := ended(tr.Next, message.Expired)
	mustCommit(t, s, last)
	st, err = s.Status(d.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(spool.Status{ID: d.ID, Queue: d.Queue, Final: append(tr.Final, last.Final...)}, st); diff != "" {
		t.Error(diff)
	}
	clock.advance(50 * time.Minute)
	if err := s.Housekeep(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Status(d.ID); err != nil {
		t.Errorf("within retention: %v", err)
	}
	clock.advance(30 * time.Minute)
	if err := s.Housekeep(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Status(d.ID); !errors.Is(err, spool.ErrNotFound) {
		t.Errorf("after retention: %v, want ErrNotFound", err)
	}
	if r := mustVerify(t, s); r.EndStates != 0 {
		t.Errorf("end states after retention: %d", r.EndStates)
	}
}

func TestScheduledMailOutlivesStatusRetention(t *testing.T) {
	clock := newClock()
	s := open(t, memOptions(vfs.NewMem(), clock))
	sub := newMaker().mail("a.example")
	sub.Deliveries[0].Due = epoch.Add(7 * 24 * time.Hour)
	mustAppend(t, s, sub)
	clock.advance(6 * 24 * time.Hour)
	if err := s.Housekeep(); err != nil {
		t.Fatal(err)
	}
	st, err := s.Status(sub.Deliveries[0].ID)
	if err != nil || st.Queued == nil {
		t.Fatalf("after six days: %+v, %v", st, err)
	}
	clock.advance(24 * time.Hour)
	mustCommit(t, s, ended(sub.Deliveries[0], message.Delivered))
	if st, err = s.Status(sub.Deliveries[0].ID); err != nil || len(st.Final) != 1 {
		t.Fatalf("after its end: %+v, %v", st, err)
	}
}

func TestMessageStatusPages(t *testing.T) {
	s := open(t, memOptions(vfs.NewMem(), newClock()))
	var dests []string
	for i := range 30 {
		dests = append(dests, fmt.Sprintf("d%02d.example", i))
	}
	sub := newMaker().mail(dests...)
	mustAppend(t, s, sub)
	for i, d := range sub.Deliveries {
		if i%3 == 0 {
			mustCommit(t, s, ended(d, message.Delivered))
		}
	}
	var seen []uint16
	for from, more := uint16(0), true; more; {
		var sts []spool.Status
		var err error
		if sts, more, err = s.MessageStatus(sub.Message.ID, from, 7); err != nil {
			t.Fatal(err)
		}
		for _, st := range sts {
			if (st.Queued == nil) != (st.ID.Index%3 == 0) || (len(st.Final) == 1) != (st.ID.Index%3 == 0) {
				t.Errorf("status %+v", st)
			}
			seen = append(seen, st.ID.Index)
		}
		from = sts[len(sts)-1].ID.Index + 1
	}
	if len(seen) != 30 || !slices.IsSorted(seen) {
		t.Errorf("seen %v", seen)
	}
}

func TestPageIsOrderedAndResumes(t *testing.T) {
	s := open(t, memOptions(vfs.NewMem(), newClock()))
	g := newMaker()
	q := queue("a.example")
	for i := range 20 {
		sub := g.mail("a.example")
		sub.Deliveries[0].Due = epoch.Add(time.Duration((i*7)%20) * time.Second)
		mustAppend(t, s, sub)
		mustAppend(t, s, g.mail("a.example.org"))
	}
	var got []time.Duration
	var at spool.Cursor
	until := epoch.Add(14 * time.Second)
	for {
		ds, more, err := s.Page(q, at, until, 4)
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			t.Fatal("more must be true: the queue goes on after until")
		}
		if len(ds) == 0 {
			break
		}
		for _, d := range ds {
			got = append(got, d.Due.Sub(epoch)/time.Second)
			at = spool.Cursor{Due: d.Due, ID: d.ID}
		}
	}
	if want := []time.Duration{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	due, ok, err := s.NextDue(q, at)
	if err != nil || !ok || !due.Equal(epoch.Add(15*time.Second)) {
		t.Errorf("next due %v %v %v", due, ok, err)
	}
	ds, more, err := s.Page(q, at, far, 100)
	if err != nil || len(ds) != 5 || more {
		t.Errorf("last page: %d, more %v, %v", len(ds), more, err)
	}
	if _, ok, _ := s.NextDue(q, spool.Cursor{Due: ds[4].Due, ID: ds[4].ID}); ok {
		t.Error("something is due behind the last")
	}
}

func TestQueuesAndLists(t *testing.T) {
	s := open(t, memOptions(vfs.NewMem(), newClock()))
	g := newMaker()
	var want []message.QueueKey
	for _, dest := range []string{"a.example", "a.example.org", "b.example"} {
		for _, p := range []message.Priority{message.High, message.Low} {
			for _, job := range []string{"", "j1", "j2"} {
				q := message.QueueKey{Destination: dest, Priority: p, Tenant: "acme", Job: job}
				want = append(want, q)
				for range 5 {
					sub := g.mail(dest)
					sub.Deliveries[0].Queue = q
					mustAppend(t, s, sub)
				}
			}
		}
	}
	var got []message.QueueKey
	err := s.Queues(context.Background(), func(q message.QueueKey, first time.Time) error {
		got = append(got, q)
		if ds := page(t, s, q); len(ds) != 5 || !ds[0].Due.Equal(first) {
			t.Errorf("%v: first due %v, page of %d", q, first, len(ds))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, c := range []struct {
		scope message.Scope
		n     int
	}{
		{message.Scope{}, 90}, {message.Scope{Destination: "a.example"}, 30}, {message.Scope{Job: "j2"}, 30},
		{message.Scope{Destination: "b.example", Job: "j1"}, 10}, {message.Scope{Tenant: "none"}, 0},
	} {
		n := 0
		var at spool.Position
		for {
			ds, next, err := s.List(context.Background(), c.scope, at, 7)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range ds {
				if !c.scope.MatchesQueue(&d.Queue) {
					t.Errorf("%+v lists %+v", c.scope, d.Queue)
				}
			}
			n += len(ds)
			if at = next; at == "" {
				break
			}
		}
		if n != c.n {
			t.Errorf("%+v: %d deliveries, want %d", c.scope, n, c.n)
		}
	}
	if _, _, err := s.Destination(context.Background(), "a.example", "not a position!", 5); !errors.Is(err, spool.ErrInvalid) {
		t.Errorf("bad position: %v", err)
	}
}

func TestNoticeIsBornInTheSameBatch(t *testing.T) {
	s := open(t, memOptions(vfs.NewMem(), newClock()))
	g := newMaker()
	sub, dsn := g.mail("a.example"), g.mail("acme.example")
	mustAppend(t, s, sub)
	tr := ended(sub.Deliveries[0], message.Bounced)
	tr.Submit = []*spool.Submission{dsn}
	mustCommit(t, s, tr)
	if d := cmp.Diff(dsn.Deliveries, page(t, s, queue("acme.example"))); d != "" {
		t.Error(d)
	}
	again := ended(sub.Deliveries[0], message.Bounced)
	again.Submit = []*spool.Submission{g.mail("acme.example")}
	if err := commit(s, again); !errors.Is(err, spool.ErrGone) {
		t.Fatal(err)
	}
	if r := mustVerify(t, s); r.Messages != 1 {
		t.Errorf("a transition that was refused left its notice: %+v", r)
	}
}

func TestTemplateReadsBack(t *testing.T) {
	s := open(t, memOptions(vfs.NewMem(), newClock()))
	sub := newMaker().mail("a.example")
	sub.Message.Raw = nil
	sub.Message.Template = &message.Template{
		From: message.Address{Email: "a@b.example", Name: "名前"}, ReplyTo: &message.Address{Email: "r@b.example"}, Subject: "{{s}}", Text: "t", HTML: "<p>",
		Headers:     []message.Header{{Name: "X-A", Value: "1"}, {Name: "X-A", Value: ""}},
		Attachments: []message.Attachment{{Name: "a.bin", ContentType: "application/x", Content: bytes.Repeat([]byte{0, 1}, 5000)}},
		Inline:      []message.Attachment{{Name: "i.png", ContentID: "i1", Content: []byte{1}}},
		Missing:     "empty", Static: true, Date: epoch, MessageIDDomain: "b.example",
	}
	mustAppend(t, s, sub)
	m, err := s.Message(sub.Message.ID)
	if d := cmp.Diff(sub.Message, m); d != "" || err != nil {
		t.Error(d, err)
	}
}

func TestCountsAreExact(t *testing.T) {
	clock, fs := newClock(), vfs.NewMem()
	s := open(t, memOptions(fs, clock))
	g := newMaker()
	var old []*spool.Submission
	for range 300 {
		sub := g.mail("a.example", "b.example")
		mustAppend(t, s, sub)
		old = append(old, sub)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, memOptions(fs, clock)) // counts in the background while the rest goes on
	for i, sub := range old[:100] {
		mustCommit(t, s, ended(sub.Deliveries[0], message.Delivered))
		if i%2 == 0 {
			mustCommit(t, s, later(sub.Deliveries[1], time.Hour))
		}
	}
	mustAppend(t, s, g.mail("c.example"))
	waitFor(t, func() bool { return s.Stats().Counted })
	for dest, want := range map[string]int64{"a.example": 200, "b.example": 300, "c.example": 1, "d.example": 0} {
		if n, err := s.QueueLen(queue(dest), 1000); n != want || err != nil {
			t.Errorf("%s: %d, want %d, %v", dest, n, want, err)
		}
	}
	if st := s.Stats(); st.Deliveries != 501 || st.Queues != 3 {
		t.Errorf("%+v", st)
	}
	if n := s.TenantQueued("acme"); n != 501 {
		t.Errorf("tenant has %d", n)
	}
	var sum int64
	s.QueueLens(func(_ message.QueueKey, n int64) bool { sum += n; return true })
	if sum != 501 {
		t.Errorf("sum of queues %d", sum)
	}
}

// waitFor waits for a condition that another goroutine brings about.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the condition did not come about in 30 s")
		}
	}
}

func TestClosedStoreRefuses(t *testing.T) {
	s := open(t, memOptions(vfs.NewMem(), newClock()))
	sub := newMaker().mail("a.example")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(context.Background(), sub); !errors.Is(err, spool.ErrClosed) {
		t.Error(err)
	}
	if err := commit(s, ended(sub.Deliveries[0], message.Delivered)); !errors.Is(err, spool.ErrClosed) {
		t.Error(err)
	}
	if _, err := s.Message(sub.Message.ID); !errors.Is(err, spool.ErrClosed) {
		t.Error(err)
	}
	if err := s.Admit(); !errors.Is(err, spool.ErrClosed) {
		t.Error(err)
	}
	if m := s.Metrics(); m.Failed {
		t.Error("closed is not failed")
	}
}

func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}
