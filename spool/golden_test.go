package spool_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"hikyaku/controlplane/policy"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

const goldenFile = "testdata/v1.txt"

// goldenMail is what the fixture holds: every field of every record is set in
// one place and empty in another.
func goldenMail() (full, bare, template, gone *spool.Submission) {
	g := newMaker()
	full = g.mail("a.example", "b.example")
	full.Message.Body, full.Message.Return, full.Message.UTF8 = message.BodyBinaryMIME, message.ReturnHeaders, true
	full.Message.EnvID = "env+1"
	r := &full.Deliveries[0].Recipients[0]
	r.Name, r.Notify, r.ORcpt, r.Vars, r.Metadata = "名前", message.NotifyDelay, "rfc822;x", []byte(`{"v":1}`), []byte(`{"m":2}`)
	full.Idempotency = &spool.Idempotency{Tenant: "acme", Key: "key-1", BodyHash: [32]byte{7}, Expires: far, Answer: []byte(`{"ok":true}`)}

	bare = g.mail("[192.0.2.1]")
	bare.Message = &message.Message{ID: bare.Message.ID, Raw: []byte{}}
	d := bare.Deliveries[0]
	d.Queue = message.QueueKey{Destination: "[192.0.2.1]"}
	d.Accepted, d.Expires, d.Size = time.Time{}, time.Time{}, 0
	d.Recipients = []message.Recipient{{}}
	bare.Events = nil

	template = g.mail("c.example")
	template.Message.Raw = nil
	template.Message.Template = &message.Template{
		From: message.Address{Email: "a@b.example", Name: "A"}, ReplyTo: &message.Address{Email: "r@b.example"}, Subject: "{{s}}", Text: "t", HTML: "<p>",
		Headers:     []message.Header{{Name: "X-A", Value: "1"}},
		Attachments: []message.Attachment{{Name: "a.bin", ContentType: "application/x", Content: []byte{0, 1, 2}}},
		Inline:      []message.Attachment{{Name: "i.png", ContentType: "image/png", ContentID: "i1", Content: []byte{3}}},
		Missing:     "keep", Static: true, Date: epoch, MessageIDDomain: "b.example",
	}
	gone = g.mail("d.example")
	return full, bare, template, gone
}

var goldenAction = spool.Action{ID: "a1", Kind: "hold", Scope: message.Scope{Tenant: "acme"}, Reason: "why", Author: "op", Created: epoch}

func goldenOrder() spool.JobOrder {
	return spool.JobOrder{State: spool.JobPaused, Rate: &policy.Rate{N: 10, Per: time.Minute}, Reason: "r", Author: "op", Updated: epoch}
}

// writeGolden brings the fixture about through the API.
func writeGolden(t *testing.T, s *spool.Store) {
	full, bare, template, gone := goldenMail()
	for _, sub := range []*spool.Submission{full, bare, template, gone} {
		mustAppend(t, s, sub)
	}
	mustCommit(t, s, later(full.Deliveries[1], time.Hour))
	mustCommit(t, s, ended(gone.Deliveries[0], message.Bounced))
	if err := s.PutJob(context.Background(), "acme", "j1", goldenOrder()); err != nil {
		t.Fatal(err)
	}
	if err := s.PutAction(context.Background(), goldenAction); err != nil {
		t.Fatal(err)
	}
	if err := s.AckOutbox(1); err != nil {
		t.Fatal(err)
	}
}

// dumpRaw gives every record as a line of two hexadecimal words, the key with
// its kind as a letter. The random node id is left out.
func dumpRaw(t *testing.T, fs vfs.FS) string {
	var b strings.Builder
	tamper(t, fs, func(db *pebble.DB) {
		it, err := db.NewIter(nil)
		if err != nil {
			t.Fatal(err)
		}
		for ok := it.First(); ok; ok = it.Next() {
			if string(it.Key()) != "!node" {
				fmt.Fprintf(&b, "%c%x %x\n", it.Key()[0], it.Key()[1:], it.Value())
			}
		}
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
	})
	return b.String()
}

// TestRecordsOfVersion1AreWrittenAsEver: a change here is a change of the
// format on disk and needs another version number.
func TestRecordsOfVersion1AreWrittenAsEver(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, memOptions(fs, newClock()))
	writeGolden(t, s)
	mustVerify(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got := dumpRaw(t, fs)
	if *rewrite {
		if err := os.WriteFile(goldenFile, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); d != "" {
		t.Error(d)
	}
}

// TestRecordsOfVersion1AreRead is the upgrade test: a spool written by version
// 1 must read back whole, for ever.
func TestRecordsOfVersion1AreRead(t *testing.T) {
	fs, clock := vfs.NewMem(), newClock()
	loadGolden(t, fs)
	s := open(t, memOptions(fs, clock))
	mustVerify(t, s)
	full, bare, template, gone := goldenMail()
	for _, sub := range []*spool.Submission{full, bare, template} {
		m, err := s.Message(sub.Message.ID)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(sub.Message, m); d != "" {
			t.Error(d)
		}
	}
	moved := later(full.Deliveries[1], time.Hour).Next
	for _, d := range []*message.Delivery{full.Deliveries[0], moved, bare.Deliveries[0], template.Deliveries[0]} {
		st, err := s.Status(d.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d, st.Queued); diff != "" {
			t.Error(diff)
		}
	}
	st, err := s.Status(gone.Deliveries[0].ID)
	want := spool.Status{ID: gone.Deliveries[0].ID, Queue: gone.Deliveries[0].Queue, Final: ended(gone.Deliveries[0], message.Bounced).Final}
	if d := cmp.Diff(want, st); d != "" || err != nil {
		t.Error(d, err)
	}
	k, ok, err := s.Idempotency("acme", "key-1")
	if d := cmp.Diff(full.Idempotency, k); d != "" || !ok || err != nil {
		t.Error(d, ok, err)
	}
	j, err := s.Job("acme", "j1")
	wantJob := spool.JobRecord{Tenant: "acme", Job: "j1", JobOrder: goldenOrder(), Accepted: 4, Bounced: 1, Created: epoch, Activity: epoch}
	if d := cmp.Diff(wantJob, j); d != "" || err != nil {
		t.Error(d, err)
	}
	as, err := s.Actions()
	if d := cmp.Diff([]spool.Action{goldenAction}, as); d != "" || err != nil {
		t.Error(d, err)
	}
	var seqs []uint64
	if err := s.Outbox(0, func(seq uint64, _ []byte) error { seqs = append(seqs, seq); return nil }); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]uint64{2, 3, 4, 5}, seqs); d != "" {
		t.Error(d)
	}
}

func loadGolden(t *testing.T, fs vfs.FS) {
	f, err := os.Open(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := fs.MkdirAll("spool", 0o700); err != nil {
		t.Fatal(err)
	}
	tamper(t, fs, func(db *pebble.DB) {
		sc := bufio.NewScanner(f)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			key, value, ok := bytes.Cut(sc.Bytes(), []byte(" "))
			k, kerr := hex.DecodeString(string(key[1:]))
			v, verr := hex.DecodeString(string(value))
			if !ok || kerr != nil || verr != nil {
				t.Fatalf("line %q", sc.Text())
			}
			if err := db.Set(append([]byte{key[0]}, k...), v, pebble.NoSync); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(sc.Err(), db.LogData(nil, pebble.Sync)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestNewerFormatIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	loadGolden(t, fs)
	damage(t, fs, "!format", 2)
	if s, err := spool.Open(memOptions(fs, newClock())); err == nil {
		t.Errorf("opened: %v", s.Close())
	}
}
