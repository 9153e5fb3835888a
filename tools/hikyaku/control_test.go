package main

import (
	"context"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"hikyaku/controlplane/access"
)

// TestControlScripts runs the commands that ask a control plane as an operator
// would type them. Each script has a cluster of its own: three nodes, of which
// osaka-1 is down, behind the real API and guard.
func TestControlScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/control",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			b := newAdminBed(t, e.Getenv("WORK")+"/.store")
			b.seed(t)
			e.Setenv("HIKYAKU_API", b.url)
			e.Setenv("TZ", "UTC")
			for _, role := range access.Roles() {
				e.Setenv("KEY_"+strings.ToUpper(strings.ReplaceAll(string(role), "-", "_")), b.keys[role])
			}
			e.Values["bed"] = b
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"up": func(ts *testscript.TestScript, down bool, args []string) { scriptUp(ts, args[0], !down) },
			"behind": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Value("bed").(*adminBed).cluster.Revision(args[0], 1)
			},
			"breaklog": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Value("bed").(*adminBed).audit.Break("audit record 3 is missing")
			},
			"ordered": scriptOrdered,
		},
	})
}

// scriptUp brings a node back, or takes it away. What comes back answers where
// tokyo-1 does.
func scriptUp(ts *testscript.TestScript, node string, up bool) {
	b := ts.Value("bed").(*adminBed)
	b.cluster.Live(node, up)
	ns, err := b.cluster.Nodes(context.Background())
	ts.Check(err)
	for _, n := range ns {
		if n.Name == "tokyo-1" {
			b.cluster.Peer(node, n.Peer)
		}
	}
}

// scriptOrdered checks the orders about nodes and sources that were given.
func scriptOrdered(ts *testscript.TestScript, _ bool, args []string) {
	got := strings.Join(ts.Value("bed").(*adminBed).cluster.Asked(), "\n")
	for _, want := range args {
		if !strings.Contains(got, want) {
			ts.Fatalf("the cluster was asked\n%s\nand not %q", got, want)
		}
	}
}
