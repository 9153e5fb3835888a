package embedded_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"hikyaku/controlplane/store/embedded"
)

var quiet = slog.New(slog.DiscardHandler)

func start(t testing.TB, o embedded.Options) *embedded.Server {
	t.Helper()
	if o.Logger == nil {
		o.Logger = quiet
	}
	s, err := embedded.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func dial(t testing.TB, endpoints ...string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func get(t testing.TB, c *clientv3.Client, key string) string {
	t.Helper()
	r, err := c.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Kvs) == 0 {
		return ""
	}
	return string(r.Kvs[0].Value)
}

// etcd takes a list of members apart at its commas and equals signs, also where
// they stand in the path of a socket.
func TestDirectoryWithAnOddName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a,b=c d")
	c := dial(t, start(t, embedded.Options{Dir: dir}).Endpoints()...)
	if _, err := c.Put(t.Context(), "k", "v"); err != nil || get(t, c, "k") != "v" {
		t.Errorf("put: %v, then %q", err, get(t, c, "k"))
	}
}

func TestAloneKeepsDataPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	s := start(t, embedded.Options{Dir: dir})
	c := dial(t, s.Endpoints()...)
	if _, err := c.Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if !strings.HasPrefix(s.Endpoints()[0], "unix://"+dir) {
		t.Errorf("one that is alone listens at %s", s.Endpoints()[0])
	}
	c.Close()
	s.Close()
	began := time.Now()
	s = start(t, embedded.Options{Dir: dir})
	t.Logf("ready %s after a start on data", time.Since(began).Round(time.Millisecond))
	if v := get(t, dial(t, s.Endpoints()...), "k"); v != "v" {
		t.Errorf("after a restart: %q", v)
	}
}

func TestLongPathsAndPorts(t *testing.T) {
	deep := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	s := start(t, embedded.Options{Dir: deep})
	get(t, dial(t, s.Endpoints()...), "k")
	s.Close()
	if path := strings.TrimPrefix(s.Endpoints()[0], "unix://"); exists(filepath.Dir(path)) {
		t.Errorf("%s was left behind", filepath.Dir(path))
	}
	s = start(t, embedded.Options{Dir: t.TempDir(), Listen: "http://127.0.0.1:0"})
	if e := s.Endpoints()[0]; !strings.HasPrefix(e, "http://127.0.0.1:") || strings.HasSuffix(e, ":0") {
		t.Errorf("endpoint %s", e)
	}
	get(t, dial(t, s.Endpoints()...), "k")
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// freePort is an address that nobody listened at a moment ago.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestThreeMembersOutliveOne(t *testing.T) {
	members, dirs := map[string]string{}, map[string]string{}
	for i := range 3 {
		name := fmt.Sprintf("m%d", i)
		dirs[name] = t.TempDir()
		members[name] = "http://" + freePort(t)
	}
	servers := map[string]*embedded.Server{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for name, dir := range dirs {
		wg.Go(func() {
			s, err := embedded.Start(t.Context(), embedded.Options{Dir: dir, Name: name, Peer: members[name], Members: members, Logger: quiet, StartTimeout: 30 * time.Second})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			servers[name] = s
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	defer func() {
		for _, s := range servers {
			s.Close()
		}
	}()
	c := dial(t, append(servers["m1"].Endpoints(), servers["m2"].Endpoints()...)...)
	if _, err := c.Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	servers["m0"].Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		_, err := c.Put(ctx, "k", "w")
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	if v := get(t, c, "k"); v != "w" {
		t.Error(v)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	start(t, embedded.Options{Dir: dir})
	if s, err := embedded.Start(t.Context(), embedded.Options{Dir: dir, Logger: quiet, StartTimeout: 3 * time.Second}); err == nil {
		s.Close()
		t.Error("a directory was opened twice")
	}
}

func TestWarningsReachTheLog(t *testing.T) {
	var b bytes.Buffer
	l := slog.New(slog.NewTextHandler(&b, nil))
	s := start(t, embedded.Options{Dir: t.TempDir(), Logger: l})
	s.Close()
	if strings.Contains(b.String(), "level=INFO") {
		t.Errorf("etcd talks: %s", b.String())
	}
}

// BenchmarkIdle measures what an idle member takes of the processor.
func BenchmarkIdle(b *testing.B) {
	start(b, embedded.Options{Dir: b.TempDir()})
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	const span = 2 * time.Second
	var used time.Duration
	for b.Loop() {
		before := cpu()
		<-time.After(span)
		used += cpu() - before
	}
	b.ReportMetric(100*used.Seconds()/(float64(b.N)*span.Seconds()), "%-of-a-core")
}
