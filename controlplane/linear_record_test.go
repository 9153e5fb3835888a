package controlplane_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane"
	"hikyaku/controlplane/keyspace"
)

// recorder keeps a history of operations on one cluster's records.
type recorder struct {
	keys    keyspace.Keys
	begin   time.Time
	sources []string // names, of the history
	mu      struct {
		sync.Mutex
		history []porcupine.Operation
		count   map[string]int // verbs, and outcomes of writes
		clients int
		flying  map[int]flight // writes that were sent and not answered, by their clients
	}
}

// flight is a write under way. Who reads meanwhile may see it.
type flight struct {
	called time.Time
	steps  []step
}

func newRecorder(keys keyspace.Keys) *recorder {
	r := &recorder{keys: keys, begin: time.Now()}
	r.mu.count, r.mu.flying = map[string]int{}, map[int]flight{}
	return r
}

// client is a number for one that makes operations.
func (r *recorder) client() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.clients++
	return r.mu.clients - 1
}

// note adds an operation that was called at a time and has returned now.
func (r *recorder) note(client int, called time.Time, s step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noteLocked(client, called, s)
}

func (r *recorder) noteLocked(client int, called time.Time, s step) {
	now := time.Since(r.begin)
	op := porcupine.Operation{ClientId: client, Input: s, Call: int64(called.Sub(r.begin)), Return: int64(now)}
	if s.end == unknown {
		op.Return = never
	}
	r.mu.history = append(r.mu.history, op)
	r.mu.count[string(s.verb)]++
	r.mu.count[string(s.end)]++
}

// replaced notes for each source that a process has taken the place of another,
// or may have.
func (r *recorder) replaced(client int, called time.Time, lease int64, err error) {
	for _, name := range r.sources {
		s := step{key: r.keys.Source(name), verb: comes, source: keyspace.Assignment{Source: name, Lease: lease}}
		if err != nil {
			s.end = unknown
		}
		r.note(client, called, s)
	}
}

// operations are the history so far. What is under way may have been done.
func (r *recorder) operations() ([]porcupine.Operation, map[string]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	history := slices.Clone(r.mu.history)
	for _, f := range r.mu.flying {
		for _, s := range f.steps {
			s.end = unknown
			history = append(history, porcupine.Operation{ClientId: r.mu.clients, Input: s, Call: int64(f.called.Sub(r.begin)), Return: never})
			r.mu.clients++
		}
	}
	return history, maps.Clone(r.mu.count)
}

// sent notes a write that goes out, by a number for it.
func (r *recorder) sent(called time.Time, steps []step) int {
	number := r.client()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.flying[number] = flight{called, slices.Clone(steps)}
	return number
}

// ended notes what became of a write: err says that nobody knows.
func (r *recorder) ended(number, client int, answer *clientv3.TxnResponse, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.mu.flying[number]
	delete(r.mu.flying, number)
	for _, s := range f.steps {
		by := client
		switch {
		case err != nil:
			s.end, by = unknown, r.mu.clients
			r.mu.clients++
		case answer.Succeeded:
			s.end, s.rev = done, answer.Header.Revision
		default:
			s.end = refused
		}
		r.noteLocked(by, f.called, s)
	}
}

// decode is the record of a key as a step; false for other keys.
func (r *recorder) decode(key string, value []byte) (s step, ok bool) {
	s.key = key
	switch {
	case strings.HasPrefix(key, r.keys.Source("")):
		s.source.Source = strings.TrimPrefix(key, r.keys.Source(""))
		if value == nil {
			return s, true
		}
		return s, json.Unmarshal(value, &s.source) == nil
	case strings.HasPrefix(key, r.keys.Day("")):
		var d keyspace.Day
		if value == nil {
			return s, true
		}
		if json.Unmarshal(value, &d) != nil {
			return s, false
		}
		for _, slot := range d.Slots {
			s.n += slot.N
		}
		return s, true
	}
	return s, false
}

// read reads a record as anybody does, and notes it. Without an answer there is
// nothing to note.
func (r *recorder) read(ctx context.Context, client int, kv clientv3.KV, key string) {
	called := time.Now()
	got, err := kv.Get(ctx, key)
	if err != nil {
		return
	}
	s, _ := r.decode(key, nil)
	if len(got.Kvs) > 0 {
		s, _ = r.decode(key, got.Kvs[0].Value)
		s.mod = got.Kvs[0].ModRevision
	}
	s.verb = reads
	r.note(client, called, s)
}

// tap is how a control plane's transactions go to etcd: noted, and on a bad way.
type tap struct {
	clientv3.KV
	r      *recorder
	client int
	// bare leaves the comparisons out: a writer that trusts what it believes.
	bare bool
	// lose: of so many transactions one request gets lost, and one reply; 0 none.
	lose int
	mu   struct {
		sync.Mutex
		sent int
		gate *gate
	}
}

// gate holds up one transaction, as a process that is stopped between its
// decision and its writing does.
type gate struct {
	key    string        // a part of one that it writes
	caught chan struct{} // closed when it has one
	open   chan struct{} // closed to let it go
	passed chan struct{} // closed when it has been answered
}

func newGate(key string) *gate {
	return &gate{key, make(chan struct{}), make(chan struct{}), make(chan struct{})}
}

// tapped puts a tap before a control plane's etcd.
func (r *recorder) tapped(into **tap, lose int) func(*controlplane.Options) {
	return func(o *controlplane.Options) {
		*into = &tap{KV: o.Client.KV, r: r, client: r.client(), lose: lose}
		o.Client.KV = *into
	}
}

// hold puts a gate before the next transaction that writes a key like it.
func (t *tap) hold(g *gate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.gate = g
}

// Txn implements clientv3.KV.
func (t *tap) Txn(ctx context.Context) clientv3.Txn { return &tappedTxn{t: t, ctx: ctx} }

type tappedTxn struct {
	t          *tap
	ctx        context.Context
	ifs        []clientv3.Cmp
	then, dont []clientv3.Op
}

func (x *tappedTxn) If(cs ...clientv3.Cmp) clientv3.Txn   { x.ifs = cs; return x }
func (x *tappedTxn) Then(ops ...clientv3.Op) clientv3.Txn { x.then = ops; return x }
func (x *tappedTxn) Else(ops ...clientv3.Op) clientv3.Txn { x.dont = ops; return x }

// errLost is what a process sees of a request or a reply that got lost.
var errLost = errors.New("lost on the way, says the test")

// Commit implements clientv3.Txn.
func (x *tappedTxn) Commit() (*clientv3.TxnResponse, error) {
	t := x.t
	steps := x.steps()
	if len(steps) == 0 {
		return t.KV.Txn(x.ctx).If(x.ifs...).Then(x.then...).Else(x.dont...).Commit()
	}
	number := t.r.sent(time.Now(), steps)
	ctx, held, request, reply := x.way(steps)
	if held != nil {
		// What was sent before the deadline arrives after it.
		close(held.caught)
		<-held.open
		defer close(held.passed)
	}
	var answer *clientv3.TxnResponse
	err := errLost
	if !request {
		txn := t.KV.Txn(ctx)
		if !t.bare {
			txn = txn.If(x.ifs...)
		}
		answer, err = txn.Then(x.then...).Else(x.dont...).Commit()
		if reply && err == nil {
			answer, err = nil, errLost
		}
	}
	t.r.ended(number, t.client, answer, err)
	return answer, err
}

// way says what happens to a transaction: a gate that holds it up, or what of it
// gets lost.
func (x *tappedTxn) way(steps []step) (ctx context.Context, held *gate, request, reply bool) {
	t := x.t
	t.mu.Lock()
	defer t.mu.Unlock()
	ctx = x.ctx
	if g := t.mu.gate; g != nil && strings.Contains(steps[0].key, g.key) {
		held, t.mu.gate = g, nil
		ctx = context.WithoutCancel(ctx)
	}
	t.mu.sent++
	nth := t.mu.sent % max(t.lose, 1)
	return ctx, held, t.lose > 0 && nth == 0, t.lose > 0 && nth == t.lose/2
}

// steps are the writes of the records that are looked at, as they were decided.
func (x *tappedTxn) steps() (out []step) {
	mods, term := map[string]int64{}, int64(0)
	for i := range x.ifs {
		c := &x.ifs[i]
		if key := string(c.KeyBytes()); key == x.t.r.keys.Leader() {
			term = c.GetCompare().GetCreateRevision()
		} else {
			mods[key] = c.GetCompare().GetModRevision()
		}
	}
	for _, op := range x.then {
		if !op.IsPut() {
			continue // a day's record goes when all in it is a day old
		}
		if s, ok := x.t.r.decode(string(op.KeyBytes()), op.ValueBytes()); ok {
			s.verb, s.term, s.mod = writes, term, mods[s.key]
			out = append(out, s)
		}
	}
	return out
}
