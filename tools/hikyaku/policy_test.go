package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/controlplane/store"
	"hikyaku/node/api"
)

// TestMain lets scripts run this program as "exec hikyaku", in a process of its
// own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"hikyaku": main})
}

// TestPolicyScripts runs the commands that look at policy and change it as an
// operator would type them. Each script has an empty store of its own behind
// the real API and guard.
func TestPolicyScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/policy",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			f, err := store.OpenFile(e.Getenv("WORK")+"/.store", store.Options{
				Now: func() time.Time { return time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC) },
			})
			if err != nil {
				return err
			}
			mux := http.NewServeMux()
			policyapi.Register(mux, policyapi.Options{Store: f})
			srv := httptest.NewServer(api.Guard(mux, api.GuardOptions{MaxBody: policyapi.MaxBody}))
			e.Defer(func() {
				srv.Close()
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			})
			e.Setenv("HIKYAKU_API", srv.URL)
			e.Setenv("TZ", "UTC")
			return nil
		},
	})
}

func TestTableCleansForeignText(t *testing.T) {
	var out bytes.Buffer
	for _, tt := range []struct {
		color bool
		in    string
		want  string
	}{
		{false, "a\x1b[2Jb", `a\x1b[2Jb`},
		{true, "a\x1b[2Jb", `a\x1b[2Jb`},
		{true, "\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"},
		{false, "\x1b[31mred", `\x1b[31mred`},
		{true, "\x1b]0;title\x07", `\x1b]0;title\x07`},
		{true, "\x1b[", `\x1b[`},
		{false, "two\nlines", "two lines"},
		{false, "\u009b2J", `\x9b2J`},
	} {
		out.Reset()
		c := &cli{color: tt.color}
		if err := c.table(&out, []string{"X"}, [][]string{{tt.in}}); err != nil {
			t.Fatal(err)
		}
		_, row, _ := strings.Cut(out.String(), "\n")
		if row != tt.want+"\n" {
			t.Errorf("%q (colour %v): %q, want %q", tt.in, tt.color, row, tt.want)
		}
	}
}

func TestTableAligns(t *testing.T) {
	var out bytes.Buffer
	c := &cli{color: true}
	if err := c.table(&out, []string{"NAME", ">N"}, [][]string{{"日本", "5"}, {c.paint("ok", green), "100"}}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if lines[1] != "日本    5" || lines[2] != "\x1b[32mok\x1b[0m    100" {
		t.Errorf("%q", out.String())
	}
}
