package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hikyaku/spool"
	"hikyaku/spool/message"
)

// The crash-point test: run a workload on a file system that can say what a
// disk holds after the power fails, take such an image at each operation that
// changes a file, open each image, and check it against what had been
// acknowledged and what had been asked for at that moment.

// ledger is what the workload asked for and what it was answered.
type ledger struct {
	mu struct {
		sync.Mutex
		l ledgerState
	}
}

// ledgerState maps a delivery or message to how far the workload had come.
type ledgerState struct {
	offered  map[message.ID]*spool.Submission
	accepted map[message.ID]bool
	ending   map[message.DeliveryID]bool // its last transition was asked for
	ended    map[message.DeliveryID]bool // and acknowledged
	moves    map[message.DeliveryID]int  // reschedules acknowledged
	asked    map[message.DeliveryID]int  // reschedules asked for
	keys     map[string]bool             // idempotency keys acknowledged
	logged   string                      // events handed over by OnEvents
	acking   uint64                      // outbox acknowledged up to here, at most
	seqOf    map[uint64]string
}

func newLedger() *ledger {
	l := &ledger{}
	l.mu.l = ledgerState{
		offered: map[message.ID]*spool.Submission{}, accepted: map[message.ID]bool{},
		ending: map[message.DeliveryID]bool{}, ended: map[message.DeliveryID]bool{},
		moves: map[message.DeliveryID]int{}, asked: map[message.DeliveryID]int{},
		keys: map[string]bool{}, seqOf: map[uint64]string{},
	}
	return l
}

func (l *ledger) note(fn func(*ledgerState)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn(&l.mu.l)
}

func (l *ledger) copy() ledgerState {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.mu.l
	s.offered, s.accepted, s.keys = maps.Clone(s.offered), maps.Clone(s.accepted), maps.Clone(s.keys)
	s.ending, s.ended = maps.Clone(s.ending), maps.Clone(s.ended)
	s.moves, s.asked, s.seqOf = maps.Clone(s.moves), maps.Clone(s.asked), maps.Clone(s.seqOf)
	return s
}

// image is a disk after a crash, with what was true before and after it was
// taken: acknowledged comes from before, asked for from after.
type image struct {
	at            int
	op            string
	fs            *vfs.MemFS
	before, after ledgerState
}

// crashFS takes images. It wraps the operations that change something.
type crashFS struct {
	vfs.FS
	mem    *vfs.MemFS
	ledger *ledger
	want   func(op int) []vfs.CrashCloneCfg // images to take at an operation
	mu     struct {
		sync.Mutex
		ops    int
		images []image
	}
}

func (c *crashFS) crash(op string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.ops++
	for _, cfg := range c.want(c.mu.ops) {
		before := c.ledger.copy()
		fs := c.mem.CrashClone(cfg)
		c.mu.images = append(c.mu.images, image{c.mu.ops, op, fs, before, c.ledger.copy()})
	}
}

func (c *crashFS) wrap(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &crashFile{File: f, c: c, name: name}, nil
}

func (c *crashFS) Create(name string, cat vfs.DiskWriteCategory) (vfs.File, error) {
	c.crash("create " + name)
	f, err := c.FS.Create(name, cat)
	return c.wrap(name, f, err)
}

func (c *crashFS) ReuseForWrite(old, name string, cat vfs.DiskWriteCategory) (vfs.File, error) {
	c.crash("reuse " + name)
	f, err := c.FS.ReuseForWrite(old, name, cat)
	return c.wrap(name, f, err)
}

func (c *crashFS) OpenReadWrite(name string, cat vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	c.crash("open " + name)
	f, err := c.FS.OpenReadWrite(name, cat, opts...)
	return c.wrap(name, f, err)
}

func (c *crashFS) OpenDir(name string) (vfs.File, error) {
	f, err := c.FS.OpenDir(name)
	return c.wrap(name, f, err)
}

func (c *crashFS) Link(old, name string) error {
	c.crash("link " + name)
	return c.FS.Link(old, name)
}

func (c *crashFS) Rename(old, name string) error {
	c.crash("rename " + name)
	return c.FS.Rename(old, name)
}

func (c *crashFS) Remove(name string) error {
	c.crash("remove " + name)
	return c.FS.Remove(name)
}

func (c *crashFS) MkdirAll(name string, perm os.FileMode) error {
	c.crash("mkdir " + name)
	return c.FS.MkdirAll(name, perm)
}

type crashFile struct {
	vfs.File
	c    *crashFS
	name string
}

func (f *crashFile) Write(p []byte) (int, error) {
	f.c.crash("write " + f.name)
	return f.File.Write(p)
}

func (f *crashFile) WriteAt(p []byte, off int64) (int, error) {
	f.c.crash("write " + f.name)
	return f.File.WriteAt(p, off)
}

func (f *crashFile) Sync() error {
	f.c.crash("sync " + f.name)
	return f.File.Sync()
}

func (f *crashFile) SyncData() error {
	f.c.crash("sync " + f.name)
	return f.File.SyncData()
}

func (f *crashFile) SyncTo(n int64) (bool, error) {
	f.c.crash("sync " + f.name)
	return f.File.SyncTo(n)
}

// runWorkload accepts, reschedules and ends mail from a few clients at once:
// messages of one and of several deliveries, notices, idempotency keys, outbox
// acknowledgements. The memtable is small, so that there are flushes and
// compactions among the operations.
func runWorkload(t *testing.T, fs vfs.FS, l *ledger, messages int, unsafe bool) {
	o := memOptions(fs, newClock())
	o.MemTableSize, o.UnsafeNoSync = 32<<10, unsafe
	s := open(t, o)
	s.OnEvents(func(seq uint64, events []byte) {
		l.note(func(st *ledgerState) { st.logged += string(events); st.seqOf[seq] = string(events) })
		if seq%7 == 0 {
			l.note(func(st *ledgerState) { st.acking = max(st.acking, seq-2) })
			// The last events come after the last answers, when Close may have begun.
			if err := s.AckOutbox(seq - 2); err != nil && !errors.Is(err, spool.ErrClosed) {
				t.Error(err)
			}
		}
	})
	g := newMaker()
	var subs []*spool.Submission
	for i := range messages {
		dests := [][]string{{"a.example"}, {"a.example", "b.example", "c.example"}, {"b.example"}}[i%3]
		sub := g.mail(dests...)
		sub.Message.Raw = bytes.Repeat(sub.Message.Raw, 1+i%40)
		if i%5 == 0 {
			sub.Idempotency = &spool.Idempotency{Tenant: "acme", Key: sub.Message.ID.String(), Expires: epoch.Add(time.Hour), Answer: []byte("a")}
		}
		subs = append(subs, sub)
	}
	notices := make(chan *spool.Submission, messages)
	for range messages {
		notices <- g.mail("acme.example")
	}
	const clients = 4
	var wg sync.WaitGroup
	for c := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := c; i < len(subs); i += clients {
				carry(t, s, l, subs[i], i, notices)
			}
		}()
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// carry takes one message through its life; some stay queued.
func carry(t *testing.T, s *spool.Store, l *ledger, sub *spool.Submission, i int, notices chan *spool.Submission) {
	id := sub.Message.ID
	l.note(func(st *ledgerState) { st.offered[id] = sub })
	if err := s.Append(context.Background(), sub); err != nil {
		t.Error(err)
		return
	}
	l.note(func(st *ledgerState) {
		st.accepted[id] = true
		if sub.Idempotency != nil {
			st.keys[sub.Idempotency.Key] = true
		}
	})
	for n, d := range sub.Deliveries {
		for range (i + n) % 3 {
			tr := later(d, time.Minute)
			l.note(func(st *ledgerState) { st.asked[d.ID]++ })
			if err := commit(s, tr); err != nil {
				t.Error(err)
			}
			l.note(func(st *ledgerState) { st.moves[d.ID]++ })
			d = tr.Next
		}
		if i%4 == 3 {
			continue
		}
		tr := ended(d, message.Delivered)
		if i%6 == 1 && n == 0 {
			tr = ended(d, message.Bounced)
			dsn := <-notices
			tr.Submit = []*spool.Submission{dsn}
			l.note(func(st *ledgerState) { st.offered[dsn.Message.ID] = dsn })
		}
		l.note(func(st *ledgerState) { st.ending[d.ID] = true })
		if err := commit(s, tr); err != nil {
			t.Error(err)
		}
		l.note(func(st *ledgerState) {
			st.ended[d.ID] = true
			for _, n := range tr.Submit {
				st.accepted[n.Message.ID] = true
			}
		})
	}
}

// check opens an image and returns what is wrong with it.
func (im *image) check(t *testing.T) (faults []string) {
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Sprintf("op %d (%s): ", im.at, im.op)+fmt.Sprintf(format, args...))
	}
	s, err := spool.Open(memOptions(im.fs, newClock()))
	if err != nil {
		fault("open: %v", err)
		return faults
	}
	defer func() {
		if err := s.Close(); err != nil {
			fault("close: %v", err)
		}
	}()
	r, err := s.Verify(nil)
	if err != nil || !r.OK() || r.Quarantined != 0 {
		fault("verify: %v %v", err, r.Problems)
	}
	found := im.deliveries(s, fault)
	stand := im.statuses(s, fault)
	im.checkMessages(s, found, stand, fault)
	im.checkEvents(s, found, stand, fault)
	return faults
}

// deliveries lists what is queued; none may be a phantom.
func (im *image) deliveries(s *spool.Store, fault func(string, ...any)) map[message.DeliveryID]*message.Delivery {
	found := map[message.DeliveryID]*message.Delivery{}
	ds, _, err := s.List(context.Background(), message.Scope{}, "", 1<<20)
	if err != nil {
		fault("list: %v", err)
	}
	for _, d := range ds {
		found[d.ID] = d
		if im.after.offered[d.ID.Message] == nil {
			fault("phantom delivery %s", d.ID)
		}
	}
	return found
}

// statuses asks for every delivery that was offered; absent ones are unknown.
func (im *image) statuses(s *spool.Store, fault func(string, ...any)) map[message.DeliveryID]spool.Status {
	stand := map[message.DeliveryID]spool.Status{}
	for id, sub := range im.after.offered {
		sts, _, err := s.MessageStatus(id, 0, len(sub.Deliveries))
		if err != nil {
			fault("status of %s: %v", id, err)
		}
		for _, st := range sts {
			stand[st.ID] = st
		}
	}
	return stand
}

func (im *image) checkMessages(s *spool.Store, found map[message.DeliveryID]*message.Delivery, stand map[message.DeliveryID]spool.Status, fault func(string, ...any)) {
	b, a := &im.before, &im.after
	for id, sub := range a.offered {
		for _, d := range sub.Deliveries {
			now := found[d.ID]
			st, known := stand[d.ID]
			switch {
			case b.ended[d.ID] && (now != nil || len(st.Final) != 1):
				fault("%s: its end was acknowledged, but it stands at %+v", d.ID, st)
			case b.accepted[id] && !a.ending[d.ID] && now == nil:
				fault("%s: accepted, never ended, but lost", d.ID)
			case b.accepted[id] && !known:
				fault("%s: accepted, but unknown", d.ID)
			}
			if now == nil {
				continue
			}
			if n := int(now.Attempts); n < b.moves[d.ID] || n > a.asked[d.ID] {
				fault("%s: rescheduled %d times, acknowledged %d, asked %d", d.ID, n, b.moves[d.ID], a.asked[d.ID])
			}
			m, err := s.Message(id)
			if err != nil || !bytes.Equal(m.Raw, sub.Message.Raw) {
				fault("%s: content: %v", d.ID, err)
			}
		}
		if k := sub.Idempotency; k != nil {
			_, ok, err := s.Idempotency(k.Tenant, k.Key)
			_, known := stand[sub.Deliveries[0].ID]
			if err != nil || b.keys[k.Key] && !ok || ok != known {
				fault("idempotency key of %s: %v %v, message known: %v", id, ok, err, known)
			}
		}
	}
}

// checkEvents: what the log has, with the outbox replayed over it, must tell
// exactly the story that the store tells, and the job counters as well.
func (im *image) checkEvents(s *spool.Store, found map[message.DeliveryID]*message.Delivery, stand map[message.DeliveryID]spool.Status, fault func(string, ...any)) {
	all := maps.Clone(im.before.seqOf)
	var lowest uint64
	err := s.Outbox(0, func(seq uint64, events []byte) error {
		if lowest == 0 {
			lowest = seq
		}
		if had, ok := all[seq]; ok && had != string(events) {
			fault("outbox %d differs from what was handed over", seq)
		}
		all[seq] = string(events)
		return nil
	})
	if err != nil {
		fault("outbox: %v", err)
	}
	for seq, events := range im.after.seqOf {
		if all[seq] == "" && seq <= im.after.acking {
			all[seq] = events // handed over and acknowledged while the image was taken
		}
	}
	accepted, deferred, ended := 0, map[string]int{}, map[string]int{}
	for _, seq := range slices.Sorted(maps.Keys(all)) {
		for line := range strings.Lines(all[seq]) {
			f := strings.Fields(line)
			switch f[0] {
			case "accepted":
				accepted++
			case "deferred":
				deferred[f[1]]++
			default:
				ended[f[1]]++
			}
		}
	}
	j, err := s.Job("acme", "j1")
	if err != nil && !errors.Is(err, spool.ErrNotFound) {
		fault("job: %v", err)
	}
	known := 0
	var recipients int64
	for id, sub := range im.after.offered {
		here := 0
		for _, d := range sub.Deliveries {
			st, ok := stand[d.ID]
			if !ok {
				continue
			}
			here++
			if st.Queued != nil && deferred[d.ID.String()] != int(st.Queued.Attempts) {
				fault("%s: %d deferred events, %d attempts", d.ID, deferred[d.ID.String()], st.Queued.Attempts)
			}
			if (st.Queued == nil) != (ended[d.ID.String()] == 1) {
				fault("%s: %d end events, but queued is %v", d.ID, ended[d.ID.String()], st.Queued != nil)
			}
		}
		if here != 0 && here != len(sub.Deliveries) {
			fault("%s: %d of %d deliveries", id, here, len(sub.Deliveries))
		}
		if here > 0 {
			known++
			recipients += int64(here)
		}
	}
	if known != accepted || j.Accepted != recipients || j.Queued() != int64(len(found)) || int(j.Delivered+j.Bounced) != len(ended) {
		fault("%d messages known, %d accepted events; job %+v, %d queued, %d ended", known, accepted, j, len(found), len(ended))
	}
}

// crashImages runs the workload and takes images.
func crashImages(t *testing.T, messages int, unsafe bool, want func(op int) []vfs.CrashCloneCfg) ([]image, int) {
	mem := vfs.NewCrashableMem()
	l := newLedger()
	c := &crashFS{FS: mem, mem: mem, ledger: l, want: want}
	runWorkload(t, c, l, messages, unsafe)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.images, c.mu.ops
}

// long is whether the exhaustive form of a test is asked for (make test-long).
func long() bool { return os.Getenv("HIKYAKU_LONG") != "" }

// TestCrashAtEveryFileOperation takes, at each operation on a file, an image
// without anything unsynced and images with a random part of it. The short
// form checks an even choice of shortImages of them.
func TestCrashAtEveryFileOperation(t *testing.T) {
	messages, rounds := 60, 1
	percents := []int{0, 50, 0}
	if long() {
		messages, rounds, percents = 90, 12, []int{0, 10, 50, 90}
	}
	images, faults, tables := 0, 0, 0
	for round := range rounds {
		rng := rand.New(rand.NewPCG(uint64(round), 1))
		ims, ops := crashImages(t, messages, false, func(int) (cfgs []vfs.CrashCloneCfg) {
			for _, p := range percents {
				cfgs = append(cfgs, vfs.CrashCloneCfg{UnsyncedDataPercent: p, RNG: rng})
			}
			return cfgs
		})
		created, skip := 0, 1
		if !long() {
			skip = max(1, len(ims)/shortImages)
		}
		for i := range ims {
			if i%skip != 0 {
				continue
			}
			images++
			if strings.HasSuffix(ims[i].op, ".sst") {
				created++
			}
			for _, f := range ims[i].check(t) {
				if faults++; faults <= 20 { // the rest says no more
					t.Errorf("seed %d: %s", round, f)
				}
			}
			ims[i] = image{}
		}
		t.Logf("round %d: %d operations, %d images, %d checked so far", round, ops, len(ims), images)
		tables += created
	}
	if images < shortImages || tables == 0 {
		t.Errorf("only %d images, %d of a flush or compaction: the workload no longer covers what it should", images, tables)
	}
}

// TestCrashCheckerSeesLoss is the negative control: acknowledged before the
// sync, mail gets lost, and the same checker must say so.
func TestCrashCheckerSeesLoss(t *testing.T) {
	ims, _ := crashImages(t, 24, true, func(int) []vfs.CrashCloneCfg { return []vfs.CrashCloneCfg{{}} })
	lost := 0
	for i := range ims {
		for _, f := range ims[i].check(t) {
			if strings.Contains(f, "lost") || strings.Contains(f, "unknown") || strings.Contains(f, "its end was acknowledged") {
				lost++
			}
		}
	}
	if lost == 0 {
		t.Fatal("with the sync switched off, no image shows a loss: the checker is blind")
	}
	t.Logf("%d losses seen in %d images", lost, len(ims))
}
