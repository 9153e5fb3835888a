package events

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"
)

// Options set up a Log. Dir and Refill are required.
type Options struct {
	Dir string
	FS  FS // nil is the system's
	// Store tells whose sequence numbers these are, for the case that the spool
	// is replaced and counts from 1 again beside an old log. Any name that stays
	// with the spool, as spool.Store.NodeID; "" when it has none.
	Store string
	// Refill reads the outbox: all records after a number, in order. The log
	// calls it from its own goroutine when it lags (spool.Store.Outbox).
	Refill func(after uint64, fn func(seq uint64, lines []byte) error) error
	// Acked is told that everything up to a number is durable here. Called from
	// the log's own goroutine, without locks. May be nil.
	Acked func(upTo uint64)

	SegmentBytes   int64         // a segment is sealed at this size. Default 64 MiB
	SegmentAge     time.Duration // or at this age. Default 1h
	Retention      time.Duration // sealed segments older than this go. Default 7 days
	RetentionBytes int64         // the oldest go beyond this. Default 20 GiB
	// HardBytes is where segments go although a consumer still needs them.
	// Default twice RetentionBytes.
	HardBytes    int64
	BufferBytes  int           // lines held in memory before the log lags. Default 8 MiB
	BlockBytes   int           // JSON in a block. Default 1 MiB
	SyncInterval time.Duration // default 500ms, at most 1s

	Logger *slog.Logger
	Now    func() time.Time
	// UnsafeNoSync acks before anything was synced. It exists so that the crash
	// tests can show that they notice.
	UnsafeNoSync bool
}

func (o *Options) withDefaults() error {
	if o.Dir == "" || o.Refill == nil {
		return errors.New("event log: Dir and Refill are required")
	}
	if o.FS == nil {
		o.FS = osFS{}
	}
	def := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&o.SegmentBytes, 64<<20)
	def((*int64)(&o.SegmentAge), int64(time.Hour))
	def((*int64)(&o.Retention), int64(7*24*time.Hour))
	def(&o.RetentionBytes, 20<<30)
	def(&o.HardBytes, 2*o.RetentionBytes)
	def((*int64)(&o.SyncInterval), int64(500*time.Millisecond))
	o.SyncInterval = min(o.SyncInterval, time.Second)
	if o.BufferBytes <= 0 {
		o.BufferBytes = 8 << 20
	}
	if o.BlockBytes <= 0 {
		o.BlockBytes = 1 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Log is the event log of a node. Its one goroutine, the flusher, is started
// by Open and waited for by Close.
type Log struct {
	o    Options
	lock io.Closer
	// store is Options.Store as the format keeps it.
	store uint64
	wake  chan struct{} // capacity 1: the buffer holds a block's worth
	urge  chan struct{} // capacity 1: somebody waits for a sync
	stop  chan struct{}
	done  chan struct{}
	w     writer // owned by the flusher

	mu struct {
		sync.Mutex
		closed    bool
		fill      batch  // what Write collected since the flusher last took it
		seen      uint64 // highest number given to Write
		lagging   bool
		segments  []*segment // oldest first; values are replaced, never edited
		acked     uint64
		changed   chan struct{} // closed and replaced when readers can see more
		consumers map[string]*consumerState
		m         Metrics
	}
}

// batch is lines with the ends of their sequence numbers.
type batch struct {
	lines []byte
	marks []mark
}

// mark says that the lines up to end belong to numbers up to seq.
type mark struct {
	end int
	seq uint64
}

func (b *batch) add(seq uint64, lines []byte) {
	b.lines = append(b.lines, lines...)
	b.marks = append(b.marks, mark{len(b.lines), seq})
}

func (b *batch) reset() { b.lines, b.marks = b.lines[:0], b.marks[:0] }

// Open recovers the log in Options.Dir and starts it. The caller then replays
// what the log lacks, before new writes begin:
//
//	log, err := events.Open(o)
//	err = store.AckOutbox(log.LastSeq())
//	err = store.Outbox(log.LastSeq(), func(seq uint64, lines []byte) error { log.Write(seq, lines); return nil })
//	store.OnEvents(log.Write)
func Open(o Options) (*Log, error) {
	if err := o.withDefaults(); err != nil {
		return nil, err
	}
	if err := o.FS.MkdirAll(filepath.Join(o.Dir, consumerDir)); err != nil {
		return nil, fmt.Errorf("create event log: %w", err)
	}
	lock, err := o.FS.Lock(filepath.Join(o.Dir, "LOCK"))
	if err != nil {
		return nil, err
	}
	l := &Log{
		o: o, lock: lock,
		wake: make(chan struct{}, 1), urge: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	if o.Store != "" {
		l.store = hashID([]byte(o.Store))
	}
	l.mu.changed = make(chan struct{})
	l.mu.consumers = map[string]*consumerState{}
	l.w.enc = newEncoder()
	err = l.recover()
	if err == nil {
		err = l.loadConsumers()
	}
	if err != nil {
		return nil, errors.Join(err, l.w.close(), lock.Close())
	}
	go l.run() // stopped and waited for by Close
	return l, nil
}

// LastSeq is the last durable number found at Open or acked since: the outbox
// is needed only after it.
func (l *Log) LastSeq() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.acked
}

// Write takes the lines of one committed transition. Numbers go up; one that
// was already taken is ignored. It never blocks and never fails: lines beyond
// the buffer are dropped here and read again from the outbox. lines is copied.
func (l *Log) Write(seq uint64, lines []byte) {
	l.mu.Lock()
	wake := false
	switch {
	case seq <= l.mu.seen:
		l.mu.m.Duplicates++
	case l.mu.lagging:
		l.mu.seen = seq
	case len(l.mu.fill.lines) > 0 && len(l.mu.fill.lines)+len(lines) > l.o.BufferBytes:
		l.mu.seen, l.mu.lagging = seq, true
		l.mu.m.Lags++
		wake = true
	default:
		l.mu.seen = seq
		l.mu.fill.add(seq, lines)
		wake = len(l.mu.fill.lines) >= l.o.BlockBytes
	}
	l.mu.Unlock()
	if wake {
		select {
		case l.wake <- struct{}{}:
		default: // already awake
		}
	}
}

// Close writes and syncs what is buffered and stops. If the disk refuses, the
// lines stay in the outbox and the error says so.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.mu.closed {
		l.mu.Unlock()
		return nil
	}
	l.mu.closed = true
	l.mu.Unlock()
	close(l.stop)
	<-l.done
	err := l.w.err
	return errors.Join(err, l.w.close(), l.lock.Close())
}

// Flush makes everything given to Write so far durable and visible to readers,
// or waits for it until ctx ends. While the disk fails it is tried at ticks.
func (l *Log) Flush(ctx context.Context) error {
	l.mu.Lock()
	want := l.mu.seen
	l.mu.Unlock()
	for asked := false; ; {
		l.mu.Lock()
		acked, changed := l.mu.acked, l.mu.changed
		l.mu.Unlock()
		if acked >= want {
			return nil
		}
		if !asked {
			asked = true
			select {
			case l.urge <- struct{}{}:
			default: // somebody else asked
			}
		}
		select {
		case <-changed:
		case <-l.done:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ErrClosed is returned by readers of a log that was closed.
var ErrClosed = errors.New("event log is closed")

// Metrics is a snapshot of the log's counters and gauges.
type Metrics struct {
	Records       uint64 // lines written
	Blocks        uint64
	ContentBytes  uint64 // JSON written
	FileBytes     uint64 // after compression
	Syncs         uint64
	SyncTime      time.Duration // all syncs together
	SyncMax       time.Duration // the longest
	Lags          uint64        // times the buffer was full or had to be read again
	Refilled      uint64        // lines read again from the outbox
	Duplicates    uint64        // numbers given twice and ignored
	Errors        uint64        // writes, syncs and removals that failed
	LastError     string        // "" once a write succeeded again
	TornTails     uint64        // tails moved aside at Open
	DamagedBytes  int64         // bytes inside segments that are no block
	RemovedBytes  int64         // by retention
	Seen          uint64        // highest number given
	Acked         uint64        // highest durable number
	Lagging       bool
	BufferedBytes int
	Segments      int
	DiskBytes     int64
	Oldest        time.Time // begin of the oldest segment
	Consumers     []ConsumerMetrics
}

// Metrics returns a snapshot.
func (l *Log) Metrics() Metrics {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.mu.m
	m.Seen, m.Acked, m.Lagging = l.mu.seen, l.mu.acked, l.mu.lagging
	m.BufferedBytes = len(l.mu.fill.lines)
	m.Segments = len(l.mu.segments)
	for _, s := range l.mu.segments {
		m.DiskBytes += s.Bytes
		m.DamagedBytes += s.damaged
	}
	if len(l.mu.segments) > 0 {
		m.Oldest = l.mu.segments[0].start
	}
	m.Consumers = l.consumerMetricsLocked()
	return m
}
