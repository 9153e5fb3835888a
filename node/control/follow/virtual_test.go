package follow_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
	"hikyaku/node/control/follow"
)

// fake is an etcd in memory, for what a real one does not do on demand: be
// silent, answer late, end a watch for a compaction.
type fake struct {
	clientv3.KV
	mu      sync.Mutex
	keys    keyspace.Keys
	values  map[string]string
	mods    map[string]int64
	rev     int64
	head    keyspace.Head
	silent  bool
	deaf    bool // watches hear nothing
	asked   int
	watches []fakeWatch
}

type fakeWatch struct {
	key string
	ch  chan clientv3.WatchResponse
}

func newFake(t testing.TB, key keyspace.Key) *fake {
	keys, _ := keyspace.New("")
	c, err := keyspace.NewCluster(key, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(c)
	return &fake{keys: keys, values: map[string]string{keys.Cluster(): string(b)}, mods: map[string]int64{}, rev: 1}
}

func (f *fake) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if f.silent {
		f.mu.Unlock()
		<-ctx.Done()
		f.mu.Lock()
		return nil, ctx.Err()
	}
	op := clientv3.OpGet(key, opts...)
	end := string(op.RangeBytes())
	r := &clientv3.GetResponse{}
	r.Header = &etcdserverpb.ResponseHeader{Revision: f.rev}
	for _, k := range slices.Sorted(maps.Keys(f.values)) {
		if k == key || end != "" && k > key && k < end {
			r.Kvs = append(r.Kvs, &mvccpb.KeyValue{Key: []byte(k), Value: []byte(f.values[k]), ModRevision: max(1, f.mods[k])})
		}
	}
	r.Count = int64(len(r.Kvs))
	return r, nil
}

func (f *fake) Watch(ctx context.Context, key string, _ ...clientv3.OpOption) clientv3.WatchChan {
	f.mu.Lock()
	defer f.mu.Unlock()
	ch := make(chan clientv3.WatchResponse, 16)
	f.watches = append(f.watches, fakeWatch{key, ch})
	return ch
}

// apply makes a revision and tells the watches.
func (f *fake) apply(t testing.TB, records ...keyspace.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rev++
	for k, v := range forged(t, f.keys, f.head, records) {
		f.values[k], f.mods[k] = v, f.rev
	}
	f.head, _ = keyspace.DecodeHead([]byte(f.values[f.keys.PolicyHead()]))
	if !f.deaf {
		f.tell(f.keys.PolicyHead(), clientv3.WatchResponse{Events: []*clientv3.Event{{}}})
	}
}

// steer puts a record about a carrier, or deletes it, and tells the watches.
func (f *fake) steer(carrier, value string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rev++
	k := f.keys.Steering(carrier)
	e := &clientv3.Event{Kv: &mvccpb.KeyValue{Key: []byte(k), Value: []byte(value), ModRevision: f.rev}}
	if f.values[k], f.mods[k] = value, f.rev; value == "" {
		e.Type = clientv3.EventTypeDelete
		delete(f.values, k)
		delete(f.mods, k)
	}
	if !f.deaf {
		f.tell(f.keys.Steering(""), clientv3.WatchResponse{Header: &etcdserverpb.ResponseHeader{Revision: f.rev}, Events: []*clientv3.Event{e}})
	}
}

// tell tells the watches of a key, or all of them.
func (f *fake) tell(key string, r clientv3.WatchResponse) {
	for _, w := range f.watches {
		if key == "" || w.key == key {
			w.ch <- r
		}
	}
}

// end ends all watches, as etcd does for a compaction.
func (f *fake) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tell("", clientv3.WatchResponse{Canceled: true, CompactRevision: f.rev})
	for _, w := range f.watches {
		close(w.ch)
	}
	f.watches = nil
}

func (f *fake) set(fn func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn(f)
}

func source(name string) keyspace.Record {
	return keyspace.Record{Kind: "Source", Name: name, Spec: []byte(`{}`)}
}

func TestFollowingInVirtualTime(t *testing.T) {
	key, _ := keyspace.NewKey()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e := newFake(t, key)
		o := follow.Options{Client: e, Keys: e.keys, Key: key, DataDir: dir, Logger: quiet, Wait: 3 * time.Second}
		e.apply(t, source("a"))
		f, err := follow.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		at := func(want int64, what string) {
			t.Helper()
			synctest.Wait()
			if got := f.Snapshot().Revision; got != want {
				t.Errorf("%s: revision %d, want %d", what, got, want)
			}
		}
		e.apply(t, source("b"))
		at(2, "told by the watch")
		e.set(func(e *fake) { e.deaf = true })
		e.apply(t, source("c"))
		at(2, "not told")
		time.Sleep(5 * time.Second)
		at(3, "a watch that says nothing is found out within 5s")
		e.set(func(e *fake) { e.deaf = false })
		e.end()
		e.apply(t, source("d"))
		time.Sleep(200 * time.Millisecond)
		at(4, "begun again after a compaction")
		// Ten minutes of silence: asked again and again, but not in a storm.
		e.set(func(e *fake) { e.silent, e.asked = true, 0 })
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		e.set(func(e *fake) {
			if e.asked < 100 || e.asked > 260 { // of policy, and of what was decided
				t.Errorf("%d questions in ten minutes", e.asked)
			}
			e.silent = false
		})
		if s := f.Status(); s.Connected || s.Age < 9*time.Minute || s.Age > 11*time.Minute || s.Revision != 4 {
			t.Errorf("%+v", s)
		}
		e.apply(t, source("e"))
		time.Sleep(15 * time.Second)
		at(5, "back after the silence")
		if s := f.Status(); !s.Connected || s.Age > 10*time.Second || s.Alarm != "" {
			t.Errorf("%+v", s)
		}
		// etcd itself goes back without its policy: the watch begins again.
		e.set(func(e *fake) { e.rev -= 3 })
		before := f.Metrics().Reconnected
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if f.Metrics().Reconnected != before+1 {
			t.Error("a watch from a revision that etcd has lost was kept")
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		e := newFake(t, key)
		e.silent = true
		o := follow.Options{Client: e, Keys: e.keys, Key: key, DataDir: dir, Logger: quiet, Wait: 3 * time.Second}
		began := time.Now()
		f, err := follow.Open(t.Context(), o)
		if err != nil || time.Since(began) != 3*time.Second || f.Snapshot().Revision != 5 {
			t.Errorf("with a silent etcd: after %s: %v", time.Since(began), err)
		}
		f.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := follow.Open(ctx, o); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a start that was called off: %v", err)
		}
	})
}
