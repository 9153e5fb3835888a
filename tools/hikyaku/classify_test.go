package main

import (
	"encoding/binary"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rogpeppe/go-internal/txtar"
)

// TestClassifyScripts runs "hikyaku classify" as an operator would type it. It
// asks no node.
func TestClassifyScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/classify",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HIKYAKU_API", "http://127.0.0.1:1")
			e.Setenv("EVENTS", e.Getenv("WORK")+"/log")
			e.Setenv("SEGMENT", e.Getenv("WORK")+"/segment.zst")
			if err := writeEvents(e.Getenv("EVENTS")); err != nil {
				return err
			}
			return writeSegment(t, e.Getenv("SEGMENT"))
		},
	})
}

// writeSegment writes the events of the script as the event log does: a skippable
// frame, then a frame with the lines.
func writeSegment(t *testing.T, name string) error {
	t.Helper()
	a, err := txtar.ParseFile("testdata/classify/replay.txtar")
	if err != nil {
		return err
	}
	var lines []byte
	for _, f := range a.Files {
		if f.Name == "same.jsonl" {
			lines = f.Data
		}
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		return err
	}
	head := binary.LittleEndian.AppendUint32([]byte{0x50, 0x2a, 0x4d, 0x18}, 3)
	return os.WriteFile(name, z.EncodeAll(lines, append(head, "abc"...)), 0o600)
}
