package spool_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	gocmp "github.com/google/go-cmp/cmp"

	"hikyaku/spool"
	"hikyaku/spool/message"
)

// model is the store as a reader would explain it: maps in memory.
type model struct {
	messages map[message.ID]*message.Message
	queued   map[message.DeliveryID]*message.Delivery
	finals   map[message.DeliveryID][]spool.Final
	job      [5]int64 // accepted, delivered, bounced, expired, cancelled
}

func (m *model) append(sub *spool.Submission) {
	m.messages[sub.Message.ID] = sub.Message
	for _, d := range sub.Deliveries {
		m.queued[d.ID] = d
		m.job[0] += int64(len(d.Recipients))
	}
}

func (m *model) commit(t *spool.Transition) error {
	d := m.queued[t.Delivery.ID]
	if o := t.Delivery; d == nil || !d.Due.Equal(o.Due) || d.Queue != o.Queue || d.Attempts != o.Attempts || len(d.Recipients) != len(o.Recipients) {
		return spool.ErrGone
	}
	delete(m.queued, d.ID)
	if t.Next != nil {
		m.queued[d.ID] = t.Next
	}
	m.finals[d.ID] = append(m.finals[d.ID], t.Final...)
	for _, f := range t.Final {
		m.job[f.State]++
	}
	for _, sub := range t.Submit {
		m.append(sub)
	}
	for id := range m.queued {
		if id.Message == d.ID.Message {
			return nil
		}
	}
	delete(m.messages, d.ID.Message)
	return nil
}

// queues gives what is queued by queue, each in the order of due times.
func (m *model) queues() map[message.QueueKey][]*message.Delivery {
	qs := map[message.QueueKey][]*message.Delivery{}
	for _, d := range m.queued {
		qs[d.Queue] = append(qs[d.Queue], d)
	}
	for _, q := range qs {
		slices.SortFunc(q, func(a, b *message.Delivery) int {
			return cmp.Or(a.Due.Compare(b.Due), slices.Compare(a.ID.Message[:], b.ID.Message[:]), cmp.Compare(a.ID.Index, b.ID.Index))
		})
	}
	return qs
}

// TestRandomOperationsMatchTheModel does what it names, with restarts and, now
// and then, a crash that drops what is not synced.
func TestRandomOperationsMatchTheModel(t *testing.T) {
	steps, seeds := 300, uint64(4)
	if long() {
		steps, seeds = 2000, 20
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runModel(t, seed, steps) })
	}
}

type modelRun struct {
	t     *testing.T
	rng   *rand.Rand
	clock *testClock
	fs    *vfs.MemFS
	s     *spool.Store
	g     *maker
	m     *model
	old   []*message.Delivery // standings that are over
}

func runModel(t *testing.T, seed uint64, steps int) {
	r := &modelRun{t: t, rng: rand.New(rand.NewPCG(seed, 2)), clock: newClock(), fs: vfs.NewCrashableMem(), g: newMaker(), m: &model{
		messages: map[message.ID]*message.Message{}, queued: map[message.DeliveryID]*message.Delivery{}, finals: map[message.DeliveryID][]spool.Final{},
	}}
	r.open()
	for i := range steps {
		r.step()
		if i%50 == 49 {
			r.compare()
		}
	}
	r.compare()
	for _, id := range slices.Collect(keysOf(r.m.queued)) {
		r.commit(ended(r.m.queued[id], message.Delivered))
	}
	r.compare()
	if err := r.s.Close(); err != nil {
		t.Fatal(err)
	}
}

func keysOf[K comparable, V any](m map[K]V) func(func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (r *modelRun) open() {
	o := memOptions(r.fs, r.clock)
	o.MemTableSize, o.Logger = 64<<10, testLogger(r.t)
	var err error
	if r.s, err = spool.Open(o); err != nil {
		r.t.Fatal(err)
	}
}

func (r *modelRun) mail() *spool.Submission {
	dests := make([]string, 1+r.rng.IntN(4)*r.rng.IntN(2))
	for i := range dests {
		dests[i] = fmt.Sprintf("d%d.example", r.rng.IntN(6))
	}
	sub := r.g.mail(dests...)
	for _, d := range sub.Deliveries {
		d.Queue.Priority = message.Priority(r.rng.IntN(3))
		d.Due = epoch.Add(time.Duration(r.rng.IntN(1000)) * time.Second)
		for range r.rng.IntN(3) {
			d.Recipients = append(d.Recipients, message.Recipient{Address: fmt.Sprintf("x%d@%s", r.rng.IntN(99), d.Queue.Destination)})
		}
	}
	return sub
}

func (r *modelRun) pick() *message.Delivery {
	if len(r.m.queued) == 0 {
		return nil
	}
	ids := slices.SortedFunc(keysOf(r.m.queued), func(a, b message.DeliveryID) int {
		return cmp.Or(slices.Compare(a.Message[:], b.Message[:]), cmp.Compare(a.Index, b.Index))
	})
	return r.m.queued[ids[r.rng.IntN(len(ids))]]
}

func (r *modelRun) step() {
	switch n := r.rng.IntN(100); {
	case n < 35:
		sub := r.mail()
		mustAppend(r.t, r.s, sub)
		r.m.append(sub)
	case n < 75:
		if d := r.pick(); d != nil {
			r.commit(r.transition(d))
		}
	case n < 85 && len(r.old) > 0: // once more what is over
		r.commit(ended(r.old[r.rng.IntN(len(r.old))], message.Cancelled))
	case n < 95:
		r.checkOne()
	case n < 98:
		if err := r.s.Close(); err != nil {
			r.t.Fatal(err)
		}
		r.open()
	default: // the power fails; all that was answered is there again
		image := r.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.rng.IntN(101), RNG: r.rng})
		if err := r.s.Close(); err != nil {
			r.t.Fatal(err)
		}
		r.fs = image
		r.open()
	}
}

// transition ends some recipients and keeps others, moves to another queue,
// bears a notice.
func (r *modelRun) transition(d *message.Delivery) *spool.Transition {
	all := ended(d, message.State(1+r.rng.IntN(4)))
	n := r.rng.IntN(len(d.Recipients) + 1)
	tr := &spool.Transition{Delivery: d, Final: all.Final[:n], Events: all.Events}
	if n < len(d.Recipients) {
		tr.Next = d.Clone()
		tr.Next.Recipients = tr.Next.Recipients[n:]
		tr.Next.Attempts++
		tr.Next.Due = d.Due.Add(time.Duration(r.rng.IntN(3)-1) * time.Minute)
		if r.rng.IntN(5) == 0 {
			tr.Next.Queue.Priority = message.Priority(r.rng.IntN(3))
		}
	}
	if r.rng.IntN(8) == 0 {
		tr.Submit = append(tr.Submit, r.mail())
	}
	return tr
}

func (r *modelRun) commit(tr *spool.Transition) {
	got := commit(r.s, tr)
	want := r.m.commit(tr)
	if !errors.Is(got, want) {
		r.t.Fatalf("transition of %s: %v, want %v", tr.Delivery.ID, got, want)
	}
	r.old = append(r.old, tr.Delivery)
}

// checkOne asks for one delivery by its id.
func (r *modelRun) checkOne() {
	if len(r.old) == 0 {
		return
	}
	id := r.old[r.rng.IntN(len(r.old))].ID
	st, err := r.s.Status(id)
	if err != nil {
		r.t.Fatal(err)
	}
	if d := gocmp.Diff(r.m.queued[id], st.Queued); d != "" {
		r.t.Error(d)
	}
	if d := gocmp.Diff(r.m.finals[id], st.Final); d != "" {
		r.t.Error(d)
	}
}

func (r *modelRun) compare() {
	j, err := r.s.Job("acme", "j1")
	if got := [5]int64{j.Accepted, j.Delivered, j.Bounced, j.Expired, j.Cancelled}; got != r.m.job && (err == nil || r.m.job[0] > 0) {
		r.t.Errorf("job %v, want %v (%v)", got, r.m.job, err)
	}
	rep := mustVerify(r.t, r.s)
	if rep.Deliveries != int64(len(r.m.queued)) || rep.Messages != int64(len(r.m.messages)) {
		r.t.Fatalf("%d deliveries of %d messages, want %d of %d", rep.Deliveries, rep.Messages, len(r.m.queued), len(r.m.messages))
	}
	want := r.m.queues()
	got := map[message.QueueKey][]*message.Delivery{}
	if err := r.s.Queues(context.Background(), func(q message.QueueKey, first time.Time) error {
		got[q] = page(r.t, r.s, q)
		if !got[q][0].Due.Equal(first) {
			r.t.Errorf("%v: first due %v, want %v", q, first, got[q][0].Due)
		}
		return nil
	}); err != nil {
		r.t.Fatal(err)
	}
	if d := gocmp.Diff(want, got); d != "" {
		r.t.Fatal(d)
	}
	for id, m := range r.m.messages {
		have, err := r.s.Message(id)
		if d := gocmp.Diff(m, have); d != "" || err != nil {
			r.t.Fatal(d, err)
		}
	}
	waitFor(r.t, func() bool { return r.s.Stats().Counted })
	if n := r.s.Stats().Deliveries; n != int64(len(r.m.queued)) {
		r.t.Errorf("counted %d, want %d", n, len(r.m.queued))
	}
}
