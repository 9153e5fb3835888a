package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
)

// row is one record in etcd.
type row[T any] struct {
	value T
	mod   int64     // the revision at which it last changed
	seen  time.Time // when this process first saw it so; monotonic
}

// tables is what a leader knows from etcd, as of one revision. What it writes
// itself comes in the same way as everything else, by the watch, so there is one
// truth and one order.
type tables struct {
	revision int64
	nodes    map[string]row[keyspace.Registration]
	members  map[string]row[keyspace.Member]
	sources  map[string]row[keyspace.Assignment]
	days     map[string]row[keyspace.Day]
	steering map[string]row[steeringRecord] // by carrier
	// decisions and learnt are about records that the tables do not hold; learnt are
	// their revisions.
	decisions map[string]decisionRow
	learnt    map[string]int64
	// unreadable are keys with records that this build cannot read. They are left
	// alone, and nothing is decided about what they name.
	unreadable map[string]error

	// What the ledger of budgets has not been told of yet.
	membersChanged bool
	daysChanged    map[string]bool
	// steeringChanged: what lies over policy is out of date.
	steeringChanged bool
	// steeringTold are the steering records that have been told of and not been
	// compared with what was decided since.
	steeringTold map[string]bool
}

// decisionRow is what has to be known of a decision to delete it some day.
type decisionRow struct {
	mod     int64
	passing bool
}

func decisionRowOf(kv *mvccpb.KeyValue) decisionRow {
	var d keyspace.Decision
	// One that cannot be read counts as one that lasts.
	return decisionRow{kv.ModRevision, json.Unmarshal(kv.Value, &d) == nil && d.Passing()}
}

// steeringRecord is what was decided, and how it is written.
type steeringRecord struct {
	keyspace.Steering
	raw []byte
}

// UnmarshalJSON keeps the text beside what it says.
func (r *steeringRecord) UnmarshalJSON(b []byte) error {
	r.raw = bytes.Clone(b)
	return json.Unmarshal(b, &r.Steering)
}

func newTables() *tables {
	return &tables{
		nodes:      map[string]row[keyspace.Registration]{},
		members:    map[string]row[keyspace.Member]{},
		sources:    map[string]row[keyspace.Assignment]{},
		days:       map[string]row[keyspace.Day]{},
		steering:   map[string]row[steeringRecord]{},
		decisions:  map[string]decisionRow{},
		learnt:     map[string]int64{},
		unreadable: map[string]error{},

		membersChanged: true, daysChanged: map[string]bool{}, steeringChanged: true, steeringTold: map[string]bool{},
	}
}

// put takes in a record, drop its end. Keys that belong to others are ignored.
func (t *tables) put(k keyspace.Keys, kv *mvccpb.KeyValue, now time.Time) {
	key := string(kv.Key)
	var err error
	t.note(k, key)
	switch {
	case within(key, k.Node("")):
		err = putRow(t.nodes, key[len(k.Node("")):], kv, now)
	case within(key, k.Member("")):
		err = putRow(t.members, key[len(k.Member("")):], kv, now)
	case within(key, k.Source("")):
		err = putRow(t.sources, key[len(k.Source("")):], kv, now)
	case within(key, k.Day("")):
		err = putRow(t.days, key[len(k.Day("")):], kv, now)
	case within(key, k.Steering("")):
		err = putRow(t.steering, key[len(k.Steering("")):], kv, now)
	case within(key, k.Decision("")):
		t.decisions[key[len(k.Decision("")):]] = decisionRowOf(kv)
		return
	case within(key, k.Learnt("")):
		t.learnt[key[len(k.Learnt("")):]] = kv.ModRevision
		return
	default:
		return
	}
	if delete(t.unreadable, key); err != nil {
		t.unreadable[key] = err
	}
}

// note remembers what the ledger has to be told.
func (t *tables) note(k keyspace.Keys, key string) {
	t.membersChanged = t.membersChanged || within(key, k.Node("")) || within(key, k.Member(""))
	if within(key, k.Day("")) {
		t.daysChanged[key[len(k.Day("")):]] = true
	}
	if within(key, k.Steering("")) {
		t.steeringChanged = true
		t.steeringTold[key[len(k.Steering("")):]] = true
	}
}

func within(key, prefix string) bool { return len(key) > len(prefix) && strings.HasPrefix(key, prefix) }

func putRow[T any](rows map[string]row[T], name string, kv *mvccpb.KeyValue, now time.Time) error {
	if have, ok := rows[name]; ok && have.mod == kv.ModRevision {
		return nil
	}
	r := row[T]{mod: kv.ModRevision, seen: now}
	if err := json.Unmarshal(kv.Value, &r.value); err != nil {
		delete(rows, name)
		return err
	}
	rows[name] = r
	return nil
}

func (t *tables) drop(k keyspace.Keys, key string) {
	delete(t.unreadable, key)
	t.note(k, key)
	switch {
	case within(key, k.Node("")):
		delete(t.nodes, key[len(k.Node("")):])
	case within(key, k.Member("")):
		delete(t.members, key[len(k.Member("")):])
	case within(key, k.Source("")):
		delete(t.sources, key[len(k.Source("")):])
	case within(key, k.Day("")):
		delete(t.days, key[len(k.Day("")):])
	case within(key, k.Steering("")):
		delete(t.steering, key[len(k.Steering("")):])
	case within(key, k.Decision("")):
		delete(t.decisions, key[len(k.Decision("")):])
	case within(key, k.Learnt("")):
		delete(t.learnt, key[len(k.Learnt("")):])
	}
}

// readable reports whether the record under the key, if there is one, could be
// read.
func (t *tables) readable(key string) bool { return t.unreadable[key] == nil }

// since tells from when on rows of an older table have been as they are, for
// those that a full reload found unchanged.
func (t *tables) since(old *tables) {
	keepSeen(t.nodes, old.nodes)
	keepSeen(t.members, old.members)
	keepSeen(t.sources, old.sources)
	keepSeen(t.days, old.days)
	keepSeen(t.steering, old.steering)
	for key := range old.days {
		if _, ok := t.days[key]; !ok {
			t.daysChanged[key] = true // deleted meanwhile
		}
	}
	for name := range old.steering {
		t.steeringTold[name] = true
	}
}

func keepSeen[T any](rows, old map[string]row[T]) {
	for name, r := range rows {
		if o, ok := old[name]; ok && o.mod == r.mod {
			r.seen = o.seen
			rows[name] = r
		}
	}
}

// load reads everything at one revision.
func (o *office) load(ctx context.Context) (*tables, error) {
	k := o.c.opt.Keys
	var gets []clientv3.Op
	for _, prefix := range []string{k.Node(""), k.Member(""), k.Source(""), k.Day(""), k.Steering(""), k.Decision("")} {
		gets = append(gets, clientv3.OpGet(prefix, clientv3.WithPrefix()))
	}
	gets = append(gets, clientv3.OpGet(k.Learnt(""), clientv3.WithPrefix(), clientv3.WithKeysOnly())) // that they are there is enough
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), 3*askTimeout)
	defer cancel()
	got, err := o.c.opt.Client.Txn(ctx).Then(gets...).Commit()
	if err != nil {
		return nil, fmt.Errorf("read nodes, members, sources, days and decisions: %w", err)
	}
	t, now := newTables(), time.Now()
	t.revision = got.Header.Revision
	for _, r := range got.Responses {
		for _, kv := range r.GetResponseRange().Kvs {
			t.put(k, kv, now)
		}
	}
	return t, nil
}

// follow keeps the tables up to date until ctx ends. Whatever ends a watch
// (compaction, a member without a leader, a lost connection), everything is read
// again and a new one begins.
func (o *office) follow(ctx context.Context) {
	for ctx.Err() == nil {
		t, err := o.load(ctx)
		if err == nil {
			o.setTables(t)
			err = o.watch(ctx, t.revision+1)
		}
		if ctx.Err() == nil {
			o.c.metrics.etcdErrors.Add(1)
			o.c.log.Warn("what etcd holds is read again", "error", err)
			pause(ctx, retryWait)
		}
	}
}

func (o *office) watch(ctx context.Context, from int64) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	prefix := o.c.opt.Keys.Prefix()
	for w := range o.c.opt.Client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(from)) {
		if err := w.Err(); err != nil {
			return fmt.Errorf("watch %s: %w", prefix, err)
		}
		o.takeEvents(&w)
	}
	return fmt.Errorf("watch %s: %w", prefix, cmpErr(ctx.Err(), errWatchEnded))
}

// takeEvents brings the tables up to date. An answer of the watch may hold a
// part of a revision only if it is a fragment, which was not asked for.
func (o *office) takeEvents(w *clientv3.WatchResponse) {
	now, leader := time.Now(), o.c.opt.Keys.Leader()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range w.Events {
		if string(e.Kv.Key) == leader && (e.Type == clientv3.EventTypeDelete || e.Kv.CreateRevision != o.term) {
			o.depose()
		}
		if e.Type == clientv3.EventTypeDelete {
			o.mu.tables.drop(o.c.opt.Keys, string(e.Kv.Key))
		} else {
			o.mu.tables.put(o.c.opt.Keys, e.Kv, now)
		}
	}
	o.mu.tables.revision = max(o.mu.tables.revision, w.Header.Revision)
	o.tablesMovedLocked()
}

func (o *office) setTables(t *tables) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.tables != nil {
		t.since(o.mu.tables)
	}
	o.mu.tables = t
	o.tablesMovedLocked()
}

// tablesMovedLocked wakes those who wait for a revision, and the decisions.
func (o *office) tablesMovedLocked() {
	now := time.Now()
	o.steeredLocked(now)
	o.feedLocked(now)
	close(o.mu.moved)
	o.mu.moved = make(chan struct{})
	o.poke()
}

// reach waits until the tables are as new as a revision.
func (o *office) reach(ctx context.Context, revision int64) error {
	for {
		o.mu.Lock()
		have, moved := int64(0), o.mu.moved
		if o.mu.tables != nil {
			have = o.mu.tables.revision
		}
		o.mu.Unlock()
		if have >= revision {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for revision %d: %w", revision, ctx.Err())
		}
	}
}
