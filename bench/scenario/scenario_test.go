package scenario_test

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"hikyaku/bench/report"
	"hikyaku/bench/scenario"
	"hikyaku/controlplane/policy"
)

// small is each scenario in a few seconds: what it takes to see that all of it
// works, not how fast.
var small = map[string]scenario.Params{
	"capacity": {Messages: 2000, Duration: policy.Duration(300 * time.Millisecond)},
	"signed":   {Messages: 600},
	"large":    {Messages: 200},
	"bulk":     {Messages: 12_000},
	"fairness": {Messages: 12_000, Rate: 20, Duration: policy.Duration(2 * time.Second)},
	"dead":     {Messages: 1500, Backlog: 200},
	"backlog":  {Backlog: 5000, Domains: 50},
	"longtail": {Messages: 1000},
	"carriers": {Rate: 150, Duration: policy.Duration(6 * time.Second), Settle: policy.Duration(time.Second), Restarts: 1},
	"soak":     {Rate: 300, Duration: policy.Duration(3 * time.Second)},
	"scale":    {Messages: 1500, Nodes: 2},
	"limits":   {Messages: 1500},

	"reputation": {Messages: 5_000, Rate: 50, Duration: policy.Duration(2 * time.Second), Settle: policy.Duration(time.Second)},
}

func do(t *testing.T, name string, p scenario.Params) (*report.Report, error) {
	t.Helper()
	s, ok := scenario.Find(name)
	if !ok {
		t.Fatalf("no scenario %q", name)
	}
	var out io.Writer = io.Discard
	if testing.Verbose() {
		out = os.Stderr
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	return s.Do(ctx, scenario.Env{Out: out, Version: "test"}, p)
}

// TestEachScenario runs all of them, small: each must end with a balanced
// ledger, its figures, and a report that can be written and read again.
func TestEachScenario(t *testing.T) {
	for _, s := range scenario.All() {
		t.Run(s.Name, func(t *testing.T) {
			p, ok := small[s.Name]
			if !ok {
				t.Fatal("no small form of it here")
			}
			r, err := do(t, s.Name, p)
			if err != nil {
				t.Fatal(err)
			}
			if r.Ledger == nil || !r.Ledger.Balanced || len(r.Figures) == 0 || len(r.Series) == 0 || len(r.Processes) < 2 {
				t.Fatalf("an empty report: %+v", r)
			}
			jsonPath, htmlPath, err := r.Write(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := report.Read(jsonPath); err != nil {
				t.Fatal(err)
			}
			if page, err := os.ReadFile(htmlPath); err != nil || len(page) < 10_000 {
				t.Fatalf("page of %d bytes, %v", len(page), err)
			}
			for _, f := range r.Figures {
				t.Logf("%-60s %12.1f %s", f.Name, f.Value, f.Unit)
			}
		})
	}
}

// TestWaysIn: TLS, short connections and a signature, one at a time and all of
// them, change what is measured and are named in the report.
func TestWaysIn(t *testing.T) {
	p := small["large"]
	p.Size, p.TLS, p.PerConnection, p.DKIM, p.Pipelining = 4096, true, 7, "ed25519", "plain"
	r, err := do(t, "large", p)
	if err != nil {
		t.Fatal(err)
	}
	if r.Mode["tls in"] != "yes" || r.Mode["dkim"] != "ed25519" || r.Flags["per_connection"] != "7" {
		t.Fatalf("mode %v, flags %v", r.Mode, r.Flags)
	}
}

// TestTheLedgerSeesABrokenReceiver are the negative controls, with the real
// product in between: one recipient of thousands.
func TestTheLedgerSeesABrokenReceiver(t *testing.T) {
	for fault, want := range map[string]string{"drop": "were received by nobody: [96]", "double": "duplicate", "alter": "other content than was sent"} {
		t.Run(fault, func(t *testing.T) {
			p := small["large"]
			p.Fault, p.Size = fault, 4096
			r, err := do(t, "large", p)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("want an error about %q, got %v", want, err)
			}
			if r == nil || r.Ledger.Balanced {
				t.Fatal("the report says that the ledger balances")
			}
		})
	}
}
