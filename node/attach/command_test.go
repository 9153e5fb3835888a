package attach_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/attach"
)

// script writes a shell script and gives its path.
func script(t testing.TB, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "address")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// by is a source attached by a program.
func by(program string) *policy.Source {
	return &policy.Source{
		Address: "192.0.2.1", Attach: policy.AttachCommand,
		AttachCommand: []string{program, "add", "{address}", "{source} {epoch}", "$(touch /tmp/x)"},
		DetachCommand: []string{program, "del", "{address}", "{epoch}"},
	}
}

func TestCommands(t *testing.T) {
	logged := filepath.Join(t.TempDir(), "log")
	program := script(t, fmt.Sprintf(`printf '<%%s>' "$@" >>%s; echo "$HOME" >>%s`, logged, logged))
	m := newMachine(t)
	a := m.open(t, program)
	ctx := t.Context()
	must(t, a.Attach(ctx, "s", 7, by(program)))
	// The same way under a later epoch needs no detach between.
	must(t, a.Attach(ctx, "s", 8, by(program)))
	must(t, a.Detach(ctx, "s", 7, nil)) // too late
	// Another process does what was written down, whatever policy says now.
	next := m.open(t, program)
	must(t, next.Sweep(ctx, nil))
	must(t, next.Sweep(ctx, nil))
	got, err := os.ReadFile(logged)
	want := "<add><192.0.2.1><s 7><$(touch /tmp/x)>\n<add><192.0.2.1><s 8><$(touch /tmp/x)>\n<del><192.0.2.1><8>\n"
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	if n := a.Metrics().Commands + next.Metrics().Commands; n != 3 {
		t.Errorf("%d commands", n)
	}
}

// TestCommandsOutliveABoot: a program may have told another machine.
func TestCommandsOutliveABoot(t *testing.T) {
	program := script(t, `exit 0`)
	m := newMachine(t)
	must(t, m.open(t, program).Attach(t.Context(), "s", 1, by(program)))
	m.boot = "boot-2"
	next := m.open(t, program)
	if len(next.Attached()) != 1 {
		t.Fatal("it is forgotten")
	}
	must(t, next.Sweep(t.Context(), nil))
	if next.Metrics().Commands != 1 {
		t.Error("the detach command was not run")
	}
}

func TestOnlyListedProgramsAreRun(t *testing.T) {
	witness := filepath.Join(t.TempDir(), "ran")
	program := script(t, "touch "+witness)
	m := newMachine(t)
	a := m.open(t, "/usr/bin/true")
	s := by(program)
	err := a.Attach(t.Context(), "s", 1, s)
	if err == nil || !strings.Contains(err.Error(), "does not allow") {
		t.Errorf("%v", err)
	}
	s.AttachCommand[0] = "/usr/bin/true" // the other is not listed
	if err := a.Attach(t.Context(), "s", 1, s); err == nil {
		t.Error("a detach command that could not be run was taken")
	}
	if _, err := os.Stat(witness); err == nil || len(a.Attached()) != 0 {
		t.Error("it was run, or recorded")
	}
	// Taken from the list since, it is not run either, and stays on record.
	must(t, m.open(t, program).Attach(t.Context(), "s", 1, by(program)))
	later := m.open(t)
	if err := later.Sweep(t.Context(), nil); err == nil || len(later.Attached()) != 1 {
		t.Errorf("%v, %v", err, later.Attached())
	}
}

func TestAFailingCommandSaysWhatItSaid(t *testing.T) {
	program := script(t, `echo "no such"; printf '\033[31mnetwork\n' >&2; head -c 100000 /dev/zero | tr '\0' x; [ "$1" = del ] || exit 3`)
	m := newMachine(t)
	a := m.open(t, program)
	err := a.Attach(t.Context(), "s", 1, by(program))
	if err == nil || !strings.Contains(err.Error(), "exit status 3: no such [31mnetwork xxx") || len(err.Error()) > 2300 {
		t.Errorf("%.200v", err)
	}
	// What it did is not known, so it is undone.
	if len(a.Attached()) != 1 {
		t.Error("it is not recorded")
	}
	must(t, a.Detach(t.Context(), "s", 1, nil))
	if len(a.Attached()) != 0 {
		t.Error("it is recorded still")
	}
	if err := m.open(t, "/nowhere/program").Attach(t.Context(), "s", 1, by("/nowhere/program")); err == nil {
		t.Error("a program that is not there was run")
	}
}

// TestACommandThatHangsIsKilled: with all that it has started.
func TestACommandThatHangsIsKilled(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	program := script(t, `echo waiting; sleep 600 & echo $! >`+pid+`; wait`)
	m := newMachine(t)
	o := attach.Options{File: m.file, Logger: quiet, Programs: []string{program}, CommandTimeout: 500 * time.Millisecond}
	o.Use(m.k, m.boot)
	a, err := attach.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	err = a.Attach(t.Context(), "s", 1, by(program))
	if err == nil || !strings.Contains(err.Error(), "killed after 500ms: waiting") {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	b, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for began = time.Now(); alive(strings.TrimSpace(string(b))); <-tick.C {
		if time.Since(began) > 5*time.Second {
			t.Fatal("what it started lives on")
		}
	}
	// So does the end of the caller.
	ctx, cancel := context.WithCancelCause(t.Context())
	over := errors.New("over")
	timer := time.AfterFunc(50*time.Millisecond, func() { cancel(over) })
	defer timer.Stop()
	if err := a.Attach(ctx, "t", 1, &policy.Source{Address: "192.0.2.2", Attach: policy.AttachCommand, AttachCommand: []string{program}, DetachCommand: []string{program}}); !errors.Is(err, over) {
		t.Errorf("%v", err)
	}
}

// alive reports whether a process runs; one that nobody has waited for yet does
// not.
func alive(pid string) bool {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z")
}
