package store_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/store"
	"hikyaku/controlplane/store/embedded"
)

func TestConnectRefuses(t *testing.T) {
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk.pem")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		o    store.ConnectOptions
		want string
	}{
		"no endpoints":        {store.ConnectOptions{}, "no endpoints"},
		"nobody there":        {store.ConnectOptions{Endpoints: []string{"http://127.0.0.1:1"}, DialTimeout: 200 * time.Millisecond}, "no endpoint"},
		"a bad authority":     {store.ConnectOptions{Endpoints: []string{"https://127.0.0.1:1"}, CAFile: junk}, "holds no certificate"},
		"a missing authority": {store.ConnectOptions{Endpoints: []string{"https://127.0.0.1:1"}, CAFile: junk + "x"}, "read the certificate authority"},
		"a bad certificate":   {store.ConnectOptions{Endpoints: []string{"https://127.0.0.1:1"}, CertFile: junk, KeyFile: junk}, "read the certificate"},
		"plain with TLS":      {store.ConnectOptions{Endpoints: []string{"http://127.0.0.1:1"}, CAFile: junk}, "not https"},
		"a missing password":  {store.ConnectOptions{Endpoints: []string{"http://127.0.0.1:1"}, Username: "u", PasswordFile: junk + "x"}, "read the password"},
	} {
		c, err := store.Connect(t.Context(), tt.o)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
		if c != nil {
			c.Close()
		}
	}
	c, err := store.Connect(t.Context(), store.ConnectOptions{Endpoints: []string{"http://127.0.0.1:1"}, DialTimeout: 200 * time.Millisecond, Lazy: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := store.CheckVersions(t.Context(), c, 200*time.Millisecond); !errors.Is(err, store.ErrNoAnswer) {
		t.Error(err)
	}
}

// TestUserOfThePrefixIsEnough: with etcd's own access control on, a user who may
// read and write below the prefix can do all that is needed.
func TestUserOfThePrefixIsEnough(t *testing.T) {
	s, err := embedded.Start(t.Context(), embedded.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	root, err := store.Connect(t.Context(), store.ConnectOptions{Endpoints: s.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	w := newWorld(t)
	ctx := context.Background()
	for _, step := range []func() error{
		func() error { _, err := root.RoleAdd(ctx, "hikyaku"); return err },
		func() error {
			_, err := root.RoleGrantPermission(ctx, "hikyaku", w.keys.Prefix(), w.keys.Prefix()[:len(w.keys.Prefix())-1]+"0", 2)
			return err
		},
		func() error { _, err := root.UserAdd(ctx, "hikyaku", "secret"); return err },
		func() error { _, err := root.UserGrantRole(ctx, "hikyaku", "hikyaku"); return err },
		func() error { _, err := root.UserAdd(ctx, "root", "root"); return err },
		func() error { _, err := root.RoleAdd(ctx, "root"); return err },
		func() error { _, err := root.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := root.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := store.ConnectOptions{Endpoints: s.Endpoints(), Username: "hikyaku", PasswordFile: password}
	if w.client, err = store.Connect(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	defer w.client.Close()
	e := w.open(t, w.options())
	defer e.Close()
	apply(t, e, source(1))
	if err := e.AppendAudit(t.Context(), store.Entry{Action: "hold"}); err != nil {
		t.Error(err)
	}
	if _, err := e.VerifyAudit(t.Context()); err != nil {
		t.Error(err)
	}
	if err := e.Compact(t.Context()); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(password, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := store.Connect(t.Context(), o); err == nil || strings.Contains(err.Error(), "wrong\n") {
		t.Errorf("a wrong password: %v", err)
		if c != nil {
			c.Close()
		}
	}
}
