package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestBenchScripts runs the load suite's commands as an operator would type
// them, with real nodes and few messages.
func TestBenchScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/bench", RequireExplicitExec: true})
}
