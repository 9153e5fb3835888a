package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"

	"hikyaku/spool/message"
)

// outbox stands in for the spool: it keeps lines until they are acked.
type outbox struct {
	mu    sync.Mutex
	lines map[uint64][]byte
	last  uint64
	acked uint64
	log   *Log
}

func newOutbox() *outbox { return &outbox{lines: map[uint64][]byte{}} }

func (o *outbox) refill(after uint64, fn func(uint64, []byte) error) error {
	o.mu.Lock()
	var seqs []uint64
	for s := range o.lines {
		if s > after {
			seqs = append(seqs, s)
		}
	}
	o.mu.Unlock()
	slices.Sort(seqs)
	for _, s := range seqs {
		o.mu.Lock()
		l := o.lines[s]
		o.mu.Unlock()
		if err := fn(s, l); err != nil {
			return err
		}
	}
	return nil
}

func (o *outbox) ack(upTo uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.acked = max(o.acked, upTo)
	for s := range o.lines {
		if s <= upTo {
			delete(o.lines, s)
		}
	}
}

func (o *outbox) ackedSeq() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.acked
}

// commit is a transition of the spool: durable in the outbox, then written.
func (o *outbox) commit(lines []byte) uint64 {
	o.mu.Lock()
	o.last++
	seq := o.last
	o.lines[seq] = lines
	o.mu.Unlock()
	if o.log != nil {
		o.log.Write(seq, lines)
	}
	return seq
}

// crash is the outbox after a power cut: acks may or may not have reached it.
func (o *outbox) crash() *outbox {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := &outbox{lines: map[uint64][]byte{}, last: o.last, acked: o.acked}
	for s, l := range o.lines {
		c.lines[s] = l
	}
	return c
}

// open opens the log on fs and replays, as package node does.
func (o *outbox) open(t testing.TB, fs FS, change func(*Options)) *Log {
	t.Helper()
	opt := Options{Dir: "log", FS: fs, Refill: o.refill, Acked: o.ack}
	if change != nil {
		change(&opt)
	}
	l, err := Open(opt)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	o.ack(l.LastSeq())
	if err := o.refill(l.LastSeq(), func(seq uint64, lines []byte) error { l.Write(seq, lines); return nil }); err != nil {
		t.Fatal(err)
	}
	o.log = l
	return l
}

var epoch = time.Date(2026, 11, 22, 10, 15, 0, 0, time.UTC)

// event is one line; n is told apart by tag, id and time.
func event(n int, change func(*message.Event)) []byte {
	var ids message.IDs
	id := ids.New(epoch.Add(time.Duration(n) * time.Second))
	e := message.Event{
		Type: message.EventDelivered, Time: epoch.Add(time.Duration(n) * time.Second), ID: message.DeliveryID{Message: id},
		Tenant: "shop", Job: "news-1", Tags: []string{fmt.Sprintf("n%d", n)}, Sender: "news@shop.example",
		Recipient: fmt.Sprintf("user%d@example.com", n), Destination: "example.com", Carrier: "default", Source: "a1",
		Reply: message.Reply{Code: 250, Text: "Ok: queued as 4X" + strings.Repeat("z", n%7), Phase: message.PhaseDot},
	}
	if change != nil {
		change(&e)
	}
	return e.AppendJSON(nil)
}

// tags returns the tag of every line in the log, in order.
func tags(t testing.TB, l *Log) []string {
	t.Helper()
	var out []string
	_, err := l.Search(t.Context(), Query{}, func(r *message.EventRecord, _ []byte) error {
		out = append(out, r.Tags[0])
		return nil
	})
	if err != nil {
		t.Fatalf("search: %v", err)
	}
	return out
}

func wantTags(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("n%d", i))
	}
	return out
}

// exactlyOnce fails unless the log holds lines 0…n-1, each once, in order.
func exactlyOnce(t testing.TB, l *Log, n int) {
	t.Helper()
	if got := tags(t, l); !slices.Equal(got, wantTags(n)) {
		t.Fatalf("log holds %d lines %v, want %d each once and in order", len(got), got, n)
	}
}

func flush(t testing.TB, l *Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := l.Flush(ctx); err != nil {
		t.Fatalf("flush: %v; %+v", err, l.Metrics())
	}
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func TestWrittenIsReadAndPlainZstd(t *testing.T) {
	dir := t.TempDir()
	o := newOutbox()
	l := o.open(t, nil, func(o *Options) { o.Dir = dir; o.BlockBytes = 2000 })
	var all []byte
	for i := range 50 {
		line := event(i, nil)
		all = append(all, line...)
		o.commit(line)
	}
	closeLog(t, l)
	if o.acked != 50 || len(o.lines) != 0 {
		t.Fatalf("acked %d, %d left in the outbox", o.acked, len(o.lines))
	}
	segs, err := filepath.Glob(filepath.Join(dir, "*.jsonl.zst"))
	if err != nil || len(segs) != 1 {
		t.Fatalf("segments %v, %v", segs, err)
	}
	f, err := (osFS{}).Open(segs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, _ := f.Size()
	z, err := zstd.NewReader(io.NewSectionReader(f, 0, size))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	got, err := io.ReadAll(z)
	if err != nil || !bytes.Equal(got, all) {
		t.Fatalf("plain zstd reads %d bytes, want %d: %v", len(got), len(all), err)
	}

	again := newOutbox()
	l = again.open(t, nil, func(o *Options) { o.Dir = dir })
	defer closeLog(t, l)
	if l.LastSeq() != 50 {
		t.Errorf("LastSeq = %d", l.LastSeq())
	}
	exactlyOnce(t, l, 50)
	if _, err := Open(Options{Dir: dir, Refill: o.refill}); !errors.Is(err, ErrInUse) {
		t.Errorf("second open: %v, want ErrInUse", err)
	}
}

// cutPoint is a state of the segment file: its durable length and the ack.
type cutPoint struct {
	size  int
	acked uint64
}

// recordedLog writes n lines in several synced flushes and returns the file
// system, the length after each ack, and the outbox as it was.
func recordedLog(t *testing.T, n int, perFlush int) (*memFS, []cutPoint, map[uint64][]byte) {
	fs := newMemFS()
	o := newOutbox()
	l := o.open(t, fs, func(o *Options) { o.BlockBytes = 700 })
	sent := map[uint64][]byte{}
	points := []cutPoint{{}}
	for i := range n {
		line := event(i, nil)
		sent[o.commit(line)] = line
		if i%perFlush == perFlush-1 {
			flush(t, l)
			points = append(points, cutPoint{len(fs.files[fs.names(segmentSuffix)[0]].synced), o.ackedSeq()})
		}
	}
	closeLog(t, l)
	return fs, points, sent
}

// Kill the process at every byte of the file: whatever is left of it, reopening
// and replaying gives every line exactly once, and no acked line is missing.
func TestTornAtEveryByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 6
		fs, points, sent := recordedLog(t, n, 3)
		name := fs.names(segmentSuffix)[0]
		whole := fs.files[name].data
		for cut := range len(whole) + 1 {
			var acked uint64
			next := 0 // end of the flush that the cut is in
			for i, p := range points {
				if p.size <= cut {
					acked, next = p.acked, points[min(i+1, len(points)-1)].size
				}
			}
			// Three ways in which the bytes after the last sync can be torn.
			images := [][]byte{
				whole[:cut],
				append(slices.Clone(whole[:cut]), make([]byte, min(40, len(whole)-cut))...),
				nil,
			}
			if cut < next { // a page of this flush is lost, its later ones are there
				hole := slices.Clone(whole[:next])
				clear(hole[cut:min(cut+30, len(hole))])
				images[2] = hole
			}
			for k, image := range images {
				if image == nil || (k > 0 && cut%5 != 0) {
					continue
				}
				crashed := newMemFS()
				crashed.files[name] = &memNode{name: name, data: slices.Clone(image), durable: true}
				o := newOutbox()
				o.last = n
				for seq, line := range sent {
					if seq > acked {
						o.lines[seq] = line
					}
				}
				l := o.open(t, crashed, nil)
				if l.LastSeq() < acked {
					t.Fatalf("cut %d/%d: LastSeq %d, but %d was acked", cut, k, l.LastSeq(), acked)
				}
				flush(t, l)
				exactlyOnce(t, l, n)
				closeLog(t, l)
			}
		}
	})
}

func TestTornTailIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, _, _ := recordedLog(t, 8, 4)
		name := fs.names(segmentSuffix)[0]
		torn := []byte("half a block that never was finished")
		fs.files[name].data = append(fs.files[name].data, torn...)
		o := newOutbox()
		l := o.open(t, fs, nil)
		defer closeLog(t, l)
		exactlyOnce(t, l, 8)
		aside := fs.names(tornSuffix)
		if len(aside) != 1 || !bytes.Equal(fs.files[aside[0]].data, torn) || l.Metrics().TornTails != 1 {
			t.Errorf("torn files %v, metrics %+v", aside, l.Metrics())
		}
	})
}

// Damage to what was durable once is stepped over and counted, not cut off.
func TestRotInsideIsSteppedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, points, _ := recordedLog(t, 12, 4)
		name := fs.names(segmentSuffix)[0]
		size := len(fs.files[name].data)
		fs.files[name].data[points[1].size+200] ^= 0x40 // in the second flush; a third follows
		o := newOutbox()
		l := o.open(t, fs, nil)
		defer closeLog(t, l)
		got := tags(t, l)
		if len(got) >= 12 || len(got) < 8 || got[0] != "n0" || got[len(got)-1] != "n11" {
			t.Errorf("read %v, want all but the damaged block", got)
		}
		if m := l.Metrics(); m.DamagedBytes == 0 || m.TornTails != 0 || l.LastSeq() != 12 {
			t.Errorf("metrics %+v, last %d", m, l.LastSeq())
		}
		if len(fs.files[name].data) != size {
			t.Error("the segment was changed")
		}
	})
}

// crashLoses runs a log, cuts the power after the ack and reports whether an
// acked line is gone.
func crashLoses(t *testing.T, unsafe bool) bool {
	fs := newMemFS()
	o := newOutbox()
	l := o.open(t, fs, func(opt *Options) { opt.UnsafeNoSync = unsafe })
	for i := range 10 {
		o.commit(event(i, nil))
	}
	flush(t, l)
	after, box := fs.crash(0), o.crash()
	closeLog(t, l)
	l = box.open(t, after, nil)
	defer closeLog(t, l)
	flush(t, l)
	return !slices.Equal(tags(t, l), wantTags(10))
}

func TestAckedSurvivesPowerCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if crashLoses(t, false) {
			t.Error("an acked line is gone after a power cut")
		}
	})
}

// The negative control: without the sync the same test must go red.
func TestPowerCutTestNoticesMissingSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if !crashLoses(t, true) {
			t.Error("sync is off and the power-cut test did not notice")
		}
	})
}

// Power cuts at every step of a longer story, with part of the unsynced bytes.
func TestPowerCutAtEveryOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 30
		for _, keep := range []int{0, 1, 100, 1 << 20} {
			fs := newMemFS()
			o := newOutbox()
			type image struct {
				fs  *memFS
				box *outbox
			}
			var images []image
			fs.fail = func(op, name string) error {
				if op != "open" {
					images = append(images, image{fs.crash(keep), o.crash()})
				}
				return nil
			}
			l := o.open(t, fs, func(o *Options) { o.BlockBytes = 900; o.SegmentBytes = 1500 })
			for i := range n {
				o.commit(event(i, nil))
				if i%5 == 4 {
					flush(t, l)
				}
			}
			closeLog(t, l)
			for i, im := range images {
				l := im.box.open(t, im.fs, nil)
				flush(t, l)
				if got := tags(t, l); !slices.Equal(got, wantTags(int(im.box.last))) {
					t.Fatalf("keep %d, operation %d of %d: %v, want %d", keep, i, len(images), got, im.box.last)
				}
				closeLog(t, l)
			}
		}
	})
}

func TestFailedSyncIsNotAcked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newMemFS()
		o := newOutbox()
		var broken atomic.Bool
		fs.fail = func(op, name string) error {
			if broken.Load() && (op == "sync" || op == "truncate") {
				return errors.New("input/output error")
			}
			return nil
		}
		l := o.open(t, fs, nil)
		for i := range 5 {
			o.commit(event(i, nil))
		}
		flush(t, l)
		broken.Store(true)
		for i := 5; i < 10; i++ {
			o.commit(event(i, nil))
		}
		time.Sleep(10 * time.Second) // virtual
		if m := l.Metrics(); o.ackedSeq() != 5 || m.LastError == "" || m.Errors == 0 {
			t.Errorf("acked %d with sync failing; %+v", o.ackedSeq(), m)
		}
		exactlyOnce(t, l, 5) // readers are not shown what may be taken back
		broken.Store(false)
		for i := 10; i < 12; i++ {
			o.commit(event(i, nil))
		}
		flush(t, l)
		exactlyOnce(t, l, 12)
		synctest.Wait() // Flush returns at the ack; the cycle that acked forgets its error a moment later
		if m := l.Metrics(); m.LastError != "" || m.Lagging {
			t.Errorf("after the disk came back: %+v", m)
		}
		closeLog(t, l)
	})
}

func TestFullDiskAndFullBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newMemFS()
		o := newOutbox()
		var full atomic.Bool
		full.Store(true)
		fs.fail = func(op, name string) error {
			if full.Load() && op == "write" {
				return errors.New("no space left on device")
			}
			return nil
		}
		const n = 400
		l := o.open(t, fs, func(o *Options) { o.BufferBytes = 4000; o.BlockBytes = 1000 })
		for i := range n {
			o.commit(event(i, nil))
			if m := l.Metrics(); m.BufferedBytes > 4000 {
				t.Fatalf("%d bytes buffered, bound is 4000", m.BufferedBytes)
			}
		}
		time.Sleep(5 * time.Second)
		if m := l.Metrics(); !m.Lagging || m.Acked != 0 || m.LastError == "" {
			t.Fatalf("with a full disk: %+v", m)
		}
		full.Store(false)
		flush(t, l)
		exactlyOnce(t, l, n)
		if m := l.Metrics(); m.Lagging || m.Refilled == 0 || m.Lags == 0 {
			t.Errorf("after catching up: %+v", m)
		}
		o.commit(event(n, nil))
		flush(t, l)
		exactlyOnce(t, l, n+1)
		closeLog(t, l)
	})
}

// The outbox can show a commit before it is durable. The log must not.
func TestRefillStopsAtWhatWasWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newMemFS()
		o := newOutbox()
		l := o.open(t, fs, func(o *Options) { o.BufferBytes = 1; o.BlockBytes = 1 })
		seventh := event(6, nil)
		o.mu.Lock()
		o.lines[7] = seventh // visible, not committed
		o.mu.Unlock()
		for i := range 6 {
			o.commit(event(i, nil))
		}
		flush(t, l)
		exactlyOnce(t, l, 6)
		l.Write(7, seventh)
		flush(t, l)
		exactlyOnce(t, l, 7)
		closeLog(t, l)
	})
}

// Under a steady load something new comes during every read of the outbox. The
// log must get out of its lag all the same.
func TestCatchesUpUnderSteadyLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newMemFS()
		o := newOutbox()
		var full atomic.Bool
		full.Store(true)
		fs.fail = func(op, name string) error {
			if full.Load() && op == "write" {
				return errors.New("no space left on device")
			}
			return nil
		}
		var reads, n int
		var l *Log
		l = o.open(t, fs, func(opt *Options) {
			opt.BufferBytes = 2000
			opt.Refill = func(after uint64, fn func(uint64, []byte) error) error {
				err := o.refill(after, fn)
				if reads++; reads > 20 {
					t.Error("still lagging after 20 reads of the outbox")
					return errors.New("give up")
				}
				n++
				o.commit(event(n-1, nil))
				return err
			}
		})
		for range 30 {
			n++
			o.commit(event(n-1, nil))
		}
		time.Sleep(time.Second)
		full.Store(false)
		flush(t, l)
		closeLog(t, l)
		l = newOutbox().open(t, fs, nil)
		exactlyOnce(t, l, n)
		closeLog(t, l)
	})
}

func TestDuplicateNumbersAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox()
		l := o.open(t, newMemFS(), nil)
		for i := range 3 {
			seq := o.commit(event(i, nil))
			l.Write(seq, event(i, nil))
		}
		flush(t, l)
		exactlyOnce(t, l, 3)
		if m := l.Metrics(); m.Duplicates != 3 {
			t.Errorf("duplicates = %d", m.Duplicates)
		}
		closeLog(t, l)
	})
}

// A new spool counts from 1 again; its events must not be taken for old ones.
func TestNewSpoolBesideOldLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newMemFS()
		o := newOutbox()
		l := o.open(t, fs, func(o *Options) { o.Store = "01jd-a" })
		for i := range 5 {
			o.commit(event(i, nil))
		}
		closeLog(t, l)
		o = newOutbox()
		l = o.open(t, fs, func(o *Options) { o.Store = "01jd-b" })
		if l.LastSeq() != 0 {
			t.Errorf("LastSeq of another store = %d", l.LastSeq())
		}
		for i := 5; i < 8; i++ {
			o.commit(event(i, nil))
		}
		flush(t, l)
		exactlyOnce(t, l, 8)
		closeLog(t, l)
	})
}

func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newMemFS()
		o := newOutbox()
		var back atomic.Int64
		now := func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
		l := o.open(t, fs, func(o *Options) { o.SegmentBytes = 1000; o.BlockBytes = 500; o.Now = now })
		n := 0
		add := func(k int) {
			for range k {
				o.commit(event(n, nil))
				n++
			}
			flush(t, l)
			time.Sleep(time.Second)
		}
		add(8)
		add(8)
		bySize := len(fs.names(segmentSuffix))
		if bySize < 2 {
			t.Fatalf("%d segments after two times 1000 bytes", bySize)
		}
		back.Store(int64(24 * time.Hour)) // the clock steps back: names must still go up
		add(8)
		back.Store(0)
		add(1)
		time.Sleep(2 * time.Hour)
		add(1)
		if got := len(fs.names(segmentSuffix)); got <= bySize+1 {
			t.Errorf("%d segments, %d before an hour passed", got, bySize)
		}
		exactlyOnce(t, l, n)
		closeLog(t, l)
		// Sidecars only save time.
		for _, name := range fs.names(indexSuffix) {
			delete(fs.files, name)
		}
		l = o.open(t, fs, nil)
		exactlyOnce(t, l, n)
		closeLog(t, l)
	})
}

func FuzzRecovery(f *testing.F) {
	fs := newMemFS()
	o := newOutbox()
	l, err := Open(Options{Dir: "log", FS: fs, Refill: o.refill, BlockBytes: 600, SyncInterval: time.Millisecond})
	if err != nil {
		f.Fatal(err)
	}
	o.log = l
	for i := range 9 {
		o.commit(event(i, nil))
		if i%3 == 2 {
			flush(f, l)
		}
	}
	if err := l.Close(); err != nil {
		f.Fatal(err)
	}
	name := fs.names(segmentSuffix)[0]
	whole := fs.files[name].data
	f.Add(uint16(0), []byte{0})
	f.Add(uint16(100), []byte("garbage"))
	f.Add(uint16(len(whole)-3), []byte{0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add(uint16(4), []byte{0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, at uint16, patch []byte) {
		image := slices.Clone(whole)
		off := int(at) % len(image)
		image = append(image[:off], append(slices.Clone(patch), image[min(len(image), off+len(patch)):]...)...)
		crashed := newMemFS()
		crashed.files[name] = &memNode{name: name, data: image, durable: true}
		box := newOutbox()
		l, err := Open(Options{Dir: "log", FS: crashed, Refill: box.refill, SyncInterval: time.Millisecond})
		if err != nil {
			t.Fatalf("damage must never stop the log: %v", err)
		}
		before := tags(t, l)
		// What was there before the damage is still there.
		if sound := wantTags(9); len(before) > 9 || !subset(before, sound) {
			t.Fatalf("read %v", before)
		}
		box.last, box.log = 100, l
		box.commit(event(100, nil))
		flush(t, l)
		if after := tags(t, l); len(after) != len(before)+1 || after[len(after)-1] != "n100" {
			t.Fatalf("after writing on: %v", after)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func subset(a, b []string) bool {
	for _, v := range a {
		if !slices.Contains(b, v) {
			return false
		}
	}
	return true
}

// Who waits for the log does not wait for the next tick.
func TestFlushIsPrompt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox()
		l := o.open(t, newMemFS(), nil)
		o.commit(event(0, nil))
		began := time.Now()
		flush(t, l)
		if d := time.Since(began); d != 0 {
			t.Errorf("flush took %v of virtual time", d)
		}
		exactlyOnce(t, l, 1)
		closeLog(t, l)
	})
}
