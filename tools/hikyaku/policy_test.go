package main

import (
	"net/http"
	"net/http/httptest"
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
