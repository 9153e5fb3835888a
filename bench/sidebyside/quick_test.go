package sidebyside

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestQuickLookIsWritten(t *testing.T) {
	needPeers(t)
	if testing.Short() {
		t.Skip("runs three comparisons")
	}
	q, err := RunQuick(t.Context(), QuickOptions{Rounds: 1, Target: 100 * time.Millisecond, Version: "v1", Commit: "0123456789abcdef", Dirty: true})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "results")
	files, err := q.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 3 || !strings.HasSuffix(files[0], "-0123456789-dirty.jsonl") || files[2] != filepath.Join(dir, "latest.md") {
		t.Errorf("files %v", files)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		var l quickLine
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			t.Fatalf("%s: %v", s.Bytes(), err)
		}
		if l.PerSecond.Median <= 0 || l.Commit != "0123456789abcdef" || !l.Dirty || l.Cores == 0 {
			t.Errorf("%+v", l)
		}
		got[l.Work+"/"+l.Candidate] = l.OfBare.Median
	}
	for _, want := range []string{"smtp-source → smtp-sink/bare", "smtp-source → smtp-sink/postfix", "smtp-source → smtp-sink/hikyaku",
		"own source → own sink/hikyaku", "own source → own sink, signed Ed25519/hikyaku"} {
		if got[want] <= 0 {
			t.Errorf("%s: of the bare limit %v", want, got[want])
		}
	}
	md, err := os.ReadFile(files[2])
	if err != nil || strings.Count(string(md), "\n|") != 9 || !strings.Contains(string(md), "0123456789abcdef with changes") {
		t.Errorf("%v\n%s", err, md)
	}
}

var noneSigned = regexp.MustCompile(`^0 of [1-9][0-9]* messages that were looked at were signed`)

// A comparison that is to be signed and is not must not give figures.
func TestUnsignedIsNotTakenForSigned(t *testing.T) {
	r, err := Run(t.Context(), Options{Source: Own, Sink: Own, Only: []string{Bare, "hikyaku"}, Messages: 50, Rounds: 1, Signed: true, SkipProbe: true})
	if err != nil {
		t.Fatal(err)
	}
	if w := r.Row("hikyaku"); !noneSigned.MatchString(w.Failed) || len(w.Runs) > 0 {
		t.Errorf("%+v", w)
	}
}
