package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// write brings etcd to what was decided: the records of the carriers that have
// changed, the decisions, and now and then what was learnt. What is not written
// for whatever reason is written by the next round, from how things stand then.
func (s *steering) write(ctx context.Context) {
	ws := s.records()
	ws = append(ws, s.decisions()...)
	ws = append(ws, s.snapshots(false)...)
	if len(ws) == 0 {
		return
	}
	switch err := s.o.commitAll(ctx, ws); {
	case err == nil, errors.Is(err, errDeposed):
	default:
		s.unwritten()
		s.o.c.log.Warn("what was decided about sources could not be written whole; it is tried again", "term", s.o.term, "error", err)
	}
}

// records are the steering records that differ from what etcd holds.
func (s *steering) records() (ws []write) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.dirty) == 0 {
		return nil
	}
	done := s.warmedUpLocked()
	want := map[string][]byte{}
	for name := range s.mu.dirty {
		want[name] = encodeSteering(s.mu.ctl.Steering(name), done[name])
	}
	o := s.o
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		key := o.c.opt.Keys.Steering(name)
		have, exists := o.mu.tables.steering[name]
		switch {
		case !o.mu.tables.readable(key):
			continue // it is left alone, with an alarm, until somebody has looked at it
		case want[name] == nil && !exists, exists && bytes.Equal(want[name], have.value.raw):
			delete(s.mu.dirty, name)
			continue
		}
		ws = append(ws, write{key: key, mod: have.mod, value: want[name]})
	}
	return ws
}

// encodeSteering is a record as it is written; nil is none. done are sources whose
// warm-up is over: they must be told from those about which nothing was decided,
// since for these the first day counts.
func encodeSteering(r keyspace.Steering, done []keyspace.SteeredLane) []byte {
	for _, l := range done {
		has := slices.ContainsFunc(r.Lanes, func(x keyspace.SteeredLane) bool { return x.Source == l.Source && x.Site == "" })
		if !has && len(r.Lanes) < keyspace.MaxSteered {
			r.Lanes = append(r.Lanes, l)
		}
	}
	r.Lanes, r.Holds = r.Lanes[:min(len(r.Lanes), keyspace.MaxSteered)], r.Holds[:min(len(r.Holds), keyspace.MaxSteered)]
	if len(r.Lanes)+len(r.Holds) == 0 {
		return nil
	}
	b, err := json.Marshal(r)
	if err != nil {
		panic("BUG: encode what was decided: " + err.Error())
	}
	return b
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
// many then.
func (s *steering) decisions() (ws []write) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.o
	o.mu.Lock()
	defer o.mu.Unlock()
	known := o.mu.tables.decisions
	s.mu.pending = slices.DeleteFunc(s.mu.pending, func(d keyspace.Decision) bool { _, ok := known[d.ID]; return ok })
	for i := range s.mu.pending {
		ws = append(ws, putRecord(o.c.opt.Keys.Decision(s.mu.pending[i].ID), 0, &s.mu.pending[i]))
	}
	over := len(known) + len(s.mu.pending) - keyspace.MaxDecisions
	if over <= 0 {
		return ws
	}
	for _, id := range slices.Sorted(maps.Keys(known))[:min(over, len(known), batchWrites)] {
		ws = append(ws, write{key: o.c.opt.Keys.Decision(id), mod: known[id]})
	}
	return ws
}
