package store_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
	"hikyaku/controlplane/store/embedded"
)

// etcd is one embedded member for all tests of the package; each takes a prefix
// of its own.
var etcd = sync.OnceValues(func() (*clientv3.Client, error) {
	dir, err := tempDir()
	if err != nil {
		return nil, err
	}
	s, err := embedded.Start(context.Background(), embedded.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	atExit = append(atExit, func() { s.Close() })
	return store.Connect(context.Background(), store.ConnectOptions{Endpoints: s.Endpoints()})
})

func client(t testing.TB) *clientv3.Client {
	t.Helper()
	c, err := etcd()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// world is a prefix and a key.
type world struct {
	client *clientv3.Client
	keys   keyspace.Keys
	key    keyspace.Key
}

func newWorld(t testing.TB) world {
	t.Helper()
	keys, err := keyspace.New("/" + keyspace.NewID() + "/")
	if err != nil {
		t.Fatal(err)
	}
	key, _ := keyspace.NewKey()
	return world{client(t), keys, key}
}

func (w world) options() store.Options {
	return store.Options{Keys: w.keys, Key: w.key, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return start }}
}

func (w world) open(t testing.TB, o store.Options) *store.Etcd {
	t.Helper()
	e, err := store.OpenEtcd(t.Context(), w.client, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// dump is every byte under the prefix, uncompressed.
func (w world) dump(t testing.TB) string {
	t.Helper()
	resp, err := w.client.Get(t.Context(), w.keys.Prefix(), clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, kv := range resp.Kvs {
		if z, err := gzip.NewReader(bytes.NewReader(kv.Value)); err == nil {
			if kv.Value, err = io.ReadAll(z); err != nil {
				t.Fatal(err)
			}
		}
		fmt.Fprintf(&b, "%s %s\n", kv.Key, kv.Value)
	}
	return b.String()
}

func TestEtcdKeepsRevisions(t *testing.T) {
	w := newWorld(t)
	e := w.open(t, w.options())
	if e.Snapshot().Revision != 0 || e.Snapshot().Pools["default"] == nil {
		t.Fatalf("an empty store must hold the defaults at revision 0: %+v", e.Snapshot())
	}
	if r := put(t, e, "r", route("a.jp", "hunter2")); r.Revision != 1 || r.Effects[0].Action != store.Created {
		t.Errorf("%+v", r)
	}
	if r := put(t, e, "r", route("a.jp", "hunter2")); r.Revision != 1 || r.Effects[0].Action != store.Unchanged {
		t.Errorf("the same again must change nothing: %+v", r)
	}
	if r := put(t, e, "r", route("b.jp", "")); r.Revision != 2 || r.Effects[0].Action != store.Changed || !r.Effects[0].SecretChanged {
		t.Errorf("%+v", r)
	}
	other := w.open(t, w.options())
	got, err := other.Get(t.Context(), policy.KindRoute, "r")
	if err != nil || got.Revision != 2 || got.Spec.(*policy.Route).Domains[0] != "b.jp" || other.Snapshot().Revision != 2 {
		t.Errorf("after opening again: %+v %v", got, err)
	}
	h, err := e.History(t.Context(), 1)
	if err != nil || len(h) != 1 || h[0].Revision != 2 || h[0].Author != "ann" || h[0].Reason != "test" || !h[0].Time.Equal(start) ||
		len(h[0].Effects) != 1 || h[0].Effects[0] != (store.EffectName{Action: store.Changed, Kind: "Route", Name: "r"}) {
		t.Errorf("history: %+v %v", h, err)
	}
	if _, err := e.Rollback(t.Context(), store.Rollback{To: 1}); err != nil {
		t.Fatal(err)
	}
	got, _ = e.Get(t.Context(), policy.KindRoute, "r")
	if got.Spec.(*policy.Route).Password.Reveal() != "hunter2" {
		t.Error("rollback lost the password")
	}
	if _, err := e.Rollback(t.Context(), store.Rollback{To: 77}); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}
