package follow_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
	"hikyaku/controlplane/store/embedded"
	"hikyaku/node/control/follow"
)

var quiet = slog.New(slog.DiscardHandler)

// world is an etcd with a control plane's store, and a key.
type world struct {
	client *clientv3.Client
	server *embedded.Server
	dir    string
	keys   keyspace.Keys
	key    keyspace.Key
	store  *store.Etcd
}

func startEtcd(t testing.TB, dir string) (*embedded.Server, *clientv3.Client) {
	t.Helper()
	s, err := embedded.Start(t.Context(), embedded.Options{Dir: dir, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	c, err := store.Connect(t.Context(), store.ConnectOptions{Endpoints: s.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return s, c
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	w.server, w.client = startEtcd(t, w.dir)
	w.keys, _ = keyspace.New("")
	w.key, _ = keyspace.NewKey()
	var err error
	if w.store, err = store.OpenEtcd(t.Context(), w.client, store.Options{Keys: w.keys, Key: w.key, Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	return w
}

func (w *world) options(dir string) follow.Options {
	return follow.Options{Client: w.client, Keys: w.keys, Key: w.key, DataDir: dir, Logger: quiet, Wait: 3 * time.Second}
}

func open(t testing.TB, o follow.Options) *follow.Follower {
	t.Helper()
	f, err := follow.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func (w *world) put(t testing.TB, name, password string) int64 {
	t.Helper()
	r, err := w.store.Apply(t.Context(), store.Batch{Author: "ann", Changes: []store.Change{{Kind: "Route", Name: name, Spec: &policy.Route{
		Domains: []string{name + ".jp"}, Hosts: []string{"relay.example.net"}, Username: "u", Password: policy.NewSecret(password),
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	return r.Revision
}

// reaches waits until the follower has a revision in force.
func reaches(t testing.TB, f *follow.Follower, revision int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got := make(chan int64, 64)
	stop := f.Subscribe(func(s *policy.Set) {
		select {
		case got <- s.Revision:
		default:
		}
	})
	defer stop()
	for {
		select {
		case r := <-got:
			if r >= revision {
				return
			}
		case <-ctx.Done():
			t.Fatalf("revision %d does not arrive: %+v", revision, f.Status())
		}
	}
}

func TestFollowsEachRevision(t *testing.T) {
	w := newWorld(t)
	w.put(t, "a", "hunter2")
	f := open(t, w.options(t.TempDir()))
	if f.Snapshot().Revision != 1 || f.Snapshot().Routes["a"].Password.Reveal() != "hunter2" {
		t.Fatalf("%+v", f.Snapshot())
	}
	for i := range 10 {
		reaches(t, f, w.put(t, string(rune('b'+i)), "x"))
	}
	if s := f.Status(); s.Revision != 11 || !s.Connected || s.Alarm != "" || s.Age > time.Minute {
		t.Errorf("%+v", s)
	}
}
