package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

func TestCLIPageIsUpToDate(t *testing.T) {
	var out, errOut bytes.Buffer
	if code := run([]string{"docs"}, strings.NewReader(""), &out, &errOut); code != 0 {
		t.Fatal(errOut.String())
	}
	got, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, out.Bytes()) {
		t.Error("docs/cli.md is out of date: run \"go run ./tools/docgen\"")
	}
}

// TestEveryCommandExplainsItself: each has a group (or a parent that has one),
// a short text and, if it takes arguments, a check of them.
func TestEveryCommandExplainsItself(t *testing.T) {
	root := newRootCmd(&cli.Call{})
	var walk func(cmd *cobra.Command, top bool)
	walk = func(cmd *cobra.Command, top bool) {
		path := cmd.CommandPath()
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: the short text is %q: want one line without a full stop", path, cmd.Short)
		}
		if top && !cmd.Hidden && cmd.GroupID == "" {
			t.Errorf("%s is in no group of the help", path)
		}
		if cmd.Runnable() && cmd.Args == nil {
			t.Errorf("%s does not check its arguments", path)
		}
		for _, sub := range cmd.Commands() {
			walk(sub, false)
		}
	}
	for _, cmd := range root.Commands() {
		walk(cmd, true)
	}
}
