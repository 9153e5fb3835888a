package spool_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hikyaku/spool"
	"hikyaku/spool/message"
)

// copyDir copies the files of a live store as they lie there, as an operator
// would after stopping it.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestOfflineToolsOnACopy(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir})
	g := newMaker()
	var subs []*spool.Submission
	for range 10 {
		sub := g.mail("a.example", "b.example")
		mustAppend(t, s, sub)
		subs = append(subs, sub)
	}
	mustCommit(t, s, ended(subs[0].Deliveries[0], message.Delivered))
	retry := later(subs[1].Deliveries[0], time.Hour)
	mustCommit(t, s, retry)
	cp := copyDir(t, dir)
	before := listing(t, cp)

	var heard int64
	r, err := spool.Verify(cp, func(n int64) { heard = n })
	if err != nil || !r.OK() || r.Deliveries != 19 || r.Messages != 10 || r.Destinations != 2 || r.Queues != 2 || r.EndStates != 1 || heard == 0 {
		t.Errorf("verify: %+v, %v, heard %d", r, err, heard)
	}
	sum, err := spool.OfflineStats(cp)
	if err != nil || sum.Deliveries != 19 || sum.Node != s.NodeID() || sum.DiskBytes == 0 {
		t.Errorf("stats: %+v, %v", sum, err)
	}
	if d := cmp.Diff([]spool.DestinationCount{{Destination: "b.example", Deliveries: 10}, {Destination: "a.example", Deliveries: 9}}, sum.Top); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]spool.TenantCount{{Tenant: "acme", Deliveries: 19}}, sum.Tenants); d != "" {
		t.Error(d)
	}
	var out bytes.Buffer
	if err := spool.Dump(cp, &out, message.Scope{Destination: "a.example"}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 9 {
		t.Fatalf("%d lines:\n%s", len(lines), out.String())
	}
	var last spool.DumpedDelivery
	if err := json.Unmarshal([]byte(lines[8]), &last); err != nil {
		t.Fatal(err)
	}
	if last.ID != retry.Next.ID || last.Attempts != 1 || last.Sender == nil || *last.Sender != "from@acme.example" || last.Last.Reply.Code != 451 {
		t.Errorf("last line: %s", lines[8])
	}
	if d := cmp.Diff(before, listing(t, cp)); d != "" {
		t.Errorf("the tools changed the copy:\n%s", d)
	}
}

// listing gives the files of a directory with their contents' lengths.
func listing(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	files := map[string]int64{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = info.Size()
	}
	return files
}

func TestReadOnlyStoreRefusesWrites(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir})
	sub := newMaker().mail("a.example")
	mustAppend(t, s, sub)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, spool.Options{Dir: dir, ReadOnly: true})
	for name, err := range map[string]error{
		"append":    s.Append(t.Context(), newMaker().mail("a.example")),
		"commit":    commit(s, ended(sub.Deliveries[0], message.Delivered)),
		"admit":     s.Admit(),
		"action":    s.PutAction(t.Context(), spool.Action{ID: "a"}),
		"outbox":    s.AckOutbox(1),
		"housekeep": s.Housekeep(),
	} {
		if err == nil || !strings.Contains(err.Error(), "read-only") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if st, err := s.Status(sub.Deliveries[0].ID); err != nil || st.Queued == nil {
		t.Errorf("status: %+v, %v", st, err)
	}
}
