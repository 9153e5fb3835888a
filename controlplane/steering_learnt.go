package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
	"hikyaku/reputation/steer"
)

// What the controller has learnt beyond what is in force (rates that carriers took,
// days of warm-ups, counts) is kept for the next leader, sparingly: it is worth
// some minutes of learning anew and no more.
const (
	// learntAfter is the least time from one snapshot of a carrier to the next when
	// something was decided about it, and learntLater when only counts have changed.
	learntAfter = 30 * time.Second
	learntLater = 5 * time.Minute
	// learntAtOnce bounds the snapshots of one round.
	learntAtOnce = 512 << 10
	// leaveWithin bounds the last ones of a term, which ends by an order.
	leaveWithin = 2 * time.Second
	leaveTries  = 5
)

// learnt is what is known of the snapshot of one carrier.
type learnt struct {
	written []byte    // as etcd has it
	at      time.Time // when it was last looked at; monotonic
	decided bool      // something was decided since
}

// begin waits for policy and tables and makes the controller from them and from
// what was learnt before; false if the term ended meanwhile.
func (s *steering) begin(ctx context.Context) bool {
	o := s.o
	if err := o.reach(ctx, 1); err != nil {
		return false
	}
	for ctx.Err() == nil {
		if o.policyNow() == nil { // it is about to come
			pause(ctx, 10*time.Millisecond)
			continue
		}
		snapshots, err := s.readLearnt(ctx)
		if err == nil {
			s.restore(snapshots)
			return true
		}
		o.c.metrics.etcdErrors.Add(1)
		o.c.log.Warn("what was learnt about sources cannot be read; it is tried again", "error", err)
		pause(ctx, retryWait)
	}
	return false
}

// readLearnt reads all snapshots, a few at a time: together they may be large.
func (s *steering) readLearnt(ctx context.Context) (map[string][]byte, error) {
	const page = 20
	prefix := s.o.c.opt.Keys.Learnt("")
	end := clientv3.GetPrefixRangeEnd(prefix)
	found := map[string][]byte{}
	for from := prefix; ; {
		ask, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), askTimeout)
		got, err := s.o.c.opt.Client.Get(ask, from, clientv3.WithRange(end), clientv3.WithLimit(page))
		cancel()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", prefix, err)
		}
		for _, kv := range got.Kvs {
			found[string(kv.Key)[len(prefix):]] = kv.Value
			from = string(kv.Key) + "\x00"
		}
		if !got.More || len(got.Kvs) == 0 {
			return found, nil
		}
	}
}

// restore makes the controller. A snapshot that cannot be read costs what was
// learnt, and nothing that is in force: that is adopted from the records.
func (s *steering) restore(snapshots map[string][]byte) {
	set, now := s.o.policyNow(), s.o.c.opt.Now()
	ctl := steer.New(set, now)
	var bad []error
	for _, name := range slices.Sorted(maps.Keys(snapshots)) {
		if err := ctl.Restore(name, snapshots[name]); err != nil {
			bad = append(bad, err)
		}
	}
	s.o.mu.Lock()
	records := maps.Clone(s.o.mu.tables.steering)
	s.o.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(records)) {
		ctl.Adopt(name, records[name].value.Steering)
	}
	if err := errors.Join(bad...); err != nil {
		s.o.c.log.Error("some of what was learnt about sources is lost; it is learnt anew", "error", err)
		s.o.c.metrics.learntLost.Add(int64(len(bad)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.ctl, s.mu.set = ctl, set
	began := time.Now()
	for name, b := range snapshots {
		s.mu.learnt[name] = &learnt{written: b, at: began}
	}
	for name := range records {
		s.mu.dirty[name] = true // carriers that policy no longer has, among them
	}
	s.collectLocked(nil)
	s.o.c.log.Info("what was decided about sources goes on", "term", s.o.term, "carriers", len(records), "learnt", len(snapshots))
}

// snapshots are those that are due: all that have changed with last, else some.
func (s *steering) snapshots(last bool) (ws []write) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.o.mu.Lock()
	mods := maps.Clone(s.o.mu.tables.learnt)
	s.o.mu.Unlock()
	names := map[string]bool{keyspace.TenantSteering: true}
	for name := range s.mu.set.Carriers {
		names[name] = true
	}
	for name := range mods {
		names[name] = true // also of carriers that policy no longer has: those are deleted
	}
	now, size := time.Now(), 0
	for _, name := range slices.Sorted(maps.Keys(names)) {
		l := s.mu.learnt[name]
		if l == nil {
			l = &learnt{at: now}
			s.mu.learnt[name] = l
		}
		wait := learntLater
		if l.decided {
			wait = learntAfter
		}
		if !last && (now.Sub(l.at) < wait || size > learntAtOnce) || last && size > 4*learntAtOnce {
			continue
		}
		l.at, l.decided = now, false
		b := s.mu.ctl.Snapshot(name)
		if sameLearnt(b, l.written) && (b != nil || mods[name] == 0) {
			continue
		}
		size += len(b)
		ws = append(ws, write{key: s.o.c.opt.Keys.Learnt(name), mod: mods[name], value: b})
		l.written = b // or see unwritten
	}
	return ws
}

// unwritten forgets which snapshots etcd has, after a write that may have failed.
func (s *steering) unwritten() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.mu.learnt {
		l.written = nil
	}
}

// sameLearnt compares two snapshots but for when they were made.
func sameLearnt(a, b []byte) bool { return bytes.Equal(undated(a), undated(b)) }

func undated(b []byte) []byte {
	mark := []byte(`"at":"`)
	i := bytes.Index(b, mark)
	if i < 0 {
		return b
	}
	end := bytes.IndexByte(b[i+len(mark):], '"')
	if end < 0 {
		return b
	}
	return slices.Concat(b[:i], b[i+len(mark)+end:])
}

// leave writes what was decided and learnt when the term ends by an order, and
// leaves the rest to luck: a leader that is lost writes nothing.
//
// The order may come while a write of this term is under way, or before the watch
// has told of one: what the tables say is then older than what this term itself
// has written. They are read anew, and it is tried again.
func (s *steering) leave(ctx context.Context) {
	if errors.Is(context.Cause(ctx), errDeposed) || !s.o.keeper.Holds(time.Now()) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
	defer cancel()
	s.decide() // what was heard since the last round, too: nodes tell it once
	err := s.last(ctx)
	for try := 1; errors.Is(err, errConflict) && try < leaveTries; try++ {
		var t *tables
		if t, err = s.o.load(ctx); err != nil {
			break
		}
		s.o.setTables(t)
		s.unwritten()
		err = s.last(ctx)
	}
	if err != nil {
		s.o.c.log.Warn("what was decided and learnt about sources is not written whole", "term", s.o.term, "error", err)
	}
}

// last writes all that differs from the tables.
func (s *steering) last(ctx context.Context) error {
	ws := append(s.records("", true), s.decisions()...)
	ws = append(ws, s.snapshots(true)...)
	for _, batch := range batchesOf(ws) {
		if _, err := s.o.commit(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}
