package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// write brings etcd to what was decided: the records of the carriers that have
// changed, the decisions, and now and then what was learnt. What is not written
// for whatever reason is written by the next round, from how things stand then.
func (s *steering) write(ctx context.Context) { _ = s.writeAll(ctx, "", nil) }

// writeAll is write with the record of one carrier before all others, whatever its
// pace, and another write in the same transaction.
func (s *steering) writeAll(ctx context.Context, first string, with *write) error {
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-ctx.Done():
		return fmt.Errorf("wait for a write under way: %w", ctx.Err())
	}
	ws := s.records(first, false)
	if with != nil {
		ws = slices.Insert(ws, min(1, len(ws)), *with)
	}
	ws = append(ws, s.decisions()...)
	ws = append(ws, s.snapshots(false)...)
	if len(ws) == 0 {
		return nil
	}
	err := s.o.commitAll(ctx, ws)
	if err != nil && !errors.Is(err, errDeposed) {
		s.unwritten()
		s.o.c.log.Warn("what was decided about sources could not be written whole; it is tried again", "term", s.o.term, "error", err)
	}
	return err
}

// records are the steering records that differ from what etcd holds and are due;
// that of first, if it is among them, comes first and is always due, and with last
// all are.
func (s *steering) records(first string, last bool) (ws []write) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.toldLocked(); len(s.mu.dirty) == 0 {
		return nil
	}
	done := s.warmedUpLocked()
	s.o.mu.Lock()
	defer s.o.mu.Unlock()
	now := time.Now()
	for _, name := range slices.Sorted(maps.Keys(s.mu.dirty)) {
		record := withDone(s.mu.ctl.Steering(name), done[name])
		w, cut, differs := s.differsLocked(name, record)
		if !differs {
			continue
		}
		if !last && name != first {
			have := s.o.mu.tables.steering[name].value.Steering
			if now.Sub(s.mu.wrote[name]) < patience(&have, &record, len(w.value)) {
				continue // a later round has it, with what else has changed by then
			}
		}
		if s.mu.wrote[name] = now; cut > 0 {
			s.o.c.metrics.lanesCut.Add(int64(cut))
			s.o.c.log.Warn("more was decided at a carrier than a record holds: the least of it is not in force", "carrier", name, "sources", cut)
		}
		if name == first {
			ws = slices.Insert(ws, 0, w)
		} else {
			ws = append(ws, w)
		}
	}
	return ws
}

// toldLocked has the records compared that the watch has told of: they may not be
// what was written last, where the answer to a write was lost or somebody else has
// changed one.
func (s *steering) toldLocked() {
	s.o.mu.Lock()
	defer s.o.mu.Unlock()
	maps.Copy(s.mu.dirty, s.o.mu.tables.steeringTold)
	clear(s.o.mu.tables.steeringTold)
}

// differsLocked is the write that brings a record to what was decided; false when
// etcd has it so, or it is left alone, with an alarm, until somebody has looked at
// it. It needs the office's lock too.
func (s *steering) differsLocked(name string, record keyspace.Steering) (w write, cut int, differs bool) {
	t, key := s.o.mu.tables, s.o.c.opt.Keys.Steering(name)
	if !t.readable(key) {
		return w, 0, false
	}
	have, exists := t.steering[name]
	value, cut := encodeSteering(record)
	if value == nil && !exists || exists && bytes.Equal(value, have.value.raw) {
		delete(s.mu.dirty, name)
		return w, 0, false
	}
	return write{key: key, mod: have.mod, value: value}, cut, true
}

// waits reports whether a carrier's record is still to be written.
func (s *steering) waits(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.toldLocked(); !s.mu.dirty[name] {
		return false
	}
	record := withDone(s.mu.ctl.Steering(name), s.warmedUpLocked()[name])
	s.o.mu.Lock()
	defer s.o.mu.Unlock()
	_, _, differs := s.differsLocked(name, record)
	return differs
}

// warmedUpLocked are the sources whose warm-up is over, by carrier.
func (s *steering) warmedUpLocked() map[string][]keyspace.SteeredLane {
	done := map[string][]keyspace.SteeredLane{}
	for _, p := range s.mu.ctl.Progress(s.o.c.opt.Now()) {
		if p.Done {
			done[p.Carrier] = append(done[p.Carrier], keyspace.SteeredLane{Source: p.Source, Course: policy.Course{State: policy.StateHealthy, Reason: fmt.Sprintf("warm-up %s is over", p.WarmUp)}})
		}
	}
	return done
}

// decisions are those that etcd does not have yet, and the oldest that are one too
// many then. There are two kinds, each with a bound of its own: on a bad day of a
// large cluster rates change four thousand times a minute, and nobody's hold may
// go by for that.
func (s *steering) decisions() (ws []write) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.o
	o.mu.Lock()
	defer o.mu.Unlock()
	known := o.mu.tables.decisions
	s.mu.pending = slices.DeleteFunc(s.mu.pending, func(d keyspace.Decision) bool { _, ok := known[d.ID]; return ok })
	n := map[bool]int{}
	for i := range s.mu.pending {
		d := &s.mu.pending[i]
		n[d.Passing()]++
		ws = append(ws, putRecord(o.c.opt.Keys.Decision(d.ID), 0, d))
	}
	for _, d := range known {
		n[d.passing]++
	}
	over := map[bool]int{true: n[true] - keyspace.MaxDecisions, false: n[false] - keyspace.MaxDecisions}
	if over[true] <= 0 && over[false] <= 0 {
		return ws
	}
	left := batchWrites
	for _, id := range slices.Sorted(maps.Keys(known)) {
		if d := known[id]; over[d.passing] > 0 && left > 0 {
			over[d.passing]--
			left--
			ws = append(ws, write{key: o.c.opt.Keys.Decision(id), mod: d.mod})
		}
	}
	return ws
}
