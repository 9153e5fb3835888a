package spool_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"hikyaku/spool"
	"hikyaku/spool/message"
)

const transferGolden = "testdata/v1-transfers.txt"

var (
	goldenPeer = spool.Peer{Name: "b", Spool: "00112233445566aa"}
	goldenPast = spool.Action{ID: "p1", Kind: "cancel", Scope: message.Scope{Job: "j1"}, Reason: "why", Created: epoch}
)

// writeTransfers brings about each record that transfers have: one open offer,
// one that has gone, a receipt, a fence and an order that is through.
func writeTransfers(t *testing.T, s *spool.Store) (offered, gone, came *message.Delivery) {
	t.Helper()
	g := newMaker()
	subs := []*spool.Submission{g.mail("a.example"), g.mail("b.example")}
	appendAll(t, s, subs)
	offered, gone = subs[0].Deliveries[0], subs[1].Deliveries[0]
	for i, d := range []*message.Delivery{gone, offered} {
		p, err := s.Pack([]*message.Delivery{d}, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		tr, err := s.BeginTransfer(goldenPeer, p)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := s.FinishTransfer(tr.Number, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	// What comes is packed by another spool.
	other := open(t, memOptions(vfs.NewMem(), newClock()))
	sub := g.mail("c.example")
	appendAll(t, other, []*spool.Submission{sub})
	tr, wire := offerAll(t, other, s, queued(t, other))
	p, err := spool.ParseParcel(wire)
	if err != nil {
		t.Fatal(err)
	}
	p.From, p.Number, p.Floor = goldenPeer, 7, 3
	if got, err := s.Receive(p, nil); got != spool.Stored || err != nil {
		t.Fatal(got, err)
	}
	if got, err := s.AskTransfer(goldenPeer, 9); got != spool.Fenced || err != nil {
		t.Fatal(got, err)
	}
	if err := other.FinishTransfer(tr.Number, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.PutAction(context.Background(), goldenPast); err != nil {
		t.Fatal(err)
	}
	if err := s.RetireAction(context.Background(), goldenPast); err != nil {
		t.Fatal(err)
	}
	return offered, gone, sub.Deliveries[0]
}

// TestTransferRecordsAreWrittenAsEver: a change here is a change of the format
// on disk and needs another version number.
func TestTransferRecordsAreWrittenAsEver(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, memOptions(fs, newClock()))
	writeTransfers(t, s)
	mustVerify(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got := dumpRaw(t, fs)
	if *rewrite {
		if err := os.WriteFile(transferGolden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(transferGolden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); d != "" {
		t.Error(d)
	}
}

// TestTransferRecordsAreRead is the upgrade test.
func TestTransferRecordsAreRead(t *testing.T) {
	fs, clock := vfs.NewMem(), newClock()
	loadLines(t, fs, transferGolden)
	s := open(t, memOptions(fs, clock))
	mustVerify(t, s)
	fresh := open(t, memOptions(vfs.NewMem(), newClock()))
	offered, gone, came := writeTransfers(t, fresh)
	want := []spool.Transfer{{Number: 2, To: goldenPeer, Created: epoch, Deliveries: 1, Recipients: 1}}
	if d := cmp.Diff(want, s.Transfers()); d != "" {
		t.Error(d)
	}
	if ds, err := s.TransferDeliveries(2); err != nil || cmp.Diff([]*message.Delivery{offered}, ds) != "" {
		t.Errorf("of the transfer: %v, %v", ds, err)
	}
	st, err := s.Status(gone.ID)
	if d := cmp.Diff(spool.Status{ID: gone.ID, Queue: gone.Queue, Gone: &spool.Gone{To: goldenPeer, At: epoch, Recipients: 1}}, st); d != "" || err != nil {
		t.Error(d, err)
	}
	if st, err := s.Status(came.ID); err != nil || cmp.Diff(came, st.Queued) != "" {
		t.Errorf("what came: %+v, %v", st, err)
	}
	for n, want := range map[uint64]spool.Answer{2: spool.Forgotten, 7: spool.Had, 9: spool.Fenced, 8: spool.Fenced} {
		if got, err := s.AskTransfer(goldenPeer, n); got != want || err != nil {
			t.Errorf("transfer %d: %q, %v; want %q", n, got, err, want)
		}
	}
	past := goldenPast
	past.Expires = epoch.Add(spool.PastRetention)
	as, err := s.PastActions()
	if d := cmp.Diff([]spool.Action{past}, as); d != "" || err != nil {
		t.Error(d, err)
	}
	// And all that expires does.
	clock.advance(spool.PastRetention + time.Hour)
	if err := s.Housekeep(); err != nil {
		t.Fatal(err)
	}
	r, err := s.Verify(nil)
	if err != nil || r.Gone != 0 || r.PastOrders != 0 || r.Transfers != 1 || r.Receipts != 3 {
		t.Errorf("after a week: %+v, %v", r, err)
	}
}

// loadLines puts what dumpRaw wrote into an empty spool.
func loadLines(t *testing.T, fs vfs.FS, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := fs.MkdirAll("spool", 0o700); err != nil {
		t.Fatal(err)
	}
	tamper(t, fs, func(db *pebble.DB) {
		sc := bufio.NewScanner(bytes.NewReader(text))
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

// TestOlderProgramRefuses: a spool that has offered something must not be
// opened by a program that would send it. What older programs look at is the
// format; this one must not go on with one it does not know.
func TestOlderProgramRefuses(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, memOptions(fs, newClock()))
	appendAll(t, s, []*spool.Submission{newMaker().mail("a.example")})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	format := func() string {
		for line := range strings.Lines(dumpRaw(t, fs)) {
			if strings.HasPrefix(line, fmt.Sprintf("!%x ", "format")) {
				return line
			}
		}
		return ""
	}
	before := format()
	s = open(t, memOptions(fs, newClock()))
	writeTransfers(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if after := format(); before == "" || after == before {
		t.Errorf("the format was %q and is %q", before, after)
	}
}

// TestDamagedOfferStopsTheStart: nobody knows then which deliveries may not be
// sent. The tools still open it.
func TestDamagedOfferStopsTheStart(t *testing.T) {
	fs := vfs.NewMem()
	loadLines(t, fs, transferGolden)
	damage(t, fs, "t\x00\x00\x00\x00\x00\x00\x00\x02", 5)
	if s, err := spool.Open(memOptions(fs, newClock())); err == nil || !strings.Contains(err.Error(), "may be on another node") {
		t.Fatalf("opened: %v, %v", s, err)
	}
	o := memOptions(fs, newClock())
	o.ReadOnly = true
	s := open(t, o)
	if r, err := s.Verify(nil); err != nil || r.ProblemCount != 1 {
		t.Errorf("%v %+v", err, r)
	}
}

// TestUnfitMailStaysBehind: what no node would take is not offered, and the
// rest goes.
func TestUnfitMailStaysBehind(t *testing.T) {
	a, b, _ := twoSpools(t)
	g := newMaker()
	good, bare, odd := g.mail("a.example"), g.mail("a.example"), g.mail("a.example", "b.example")
	bare.Message.Raw = []byte("Subject: x\r\n\r\nbare\nline\r\n")
	odd.Deliveries[1].Recipients[0].Vars = []byte("no json")
	appendAll(t, a, []*spool.Submission{good, bare, odd})
	all := queued(t, a)
	missing := *all[0]
	missing.Due = missing.Due.Add(time.Second) // not as it stands
	p, err := a.Pack(append(all, &missing), 1<<20)
	if err != nil || len(p.Unfit) != 2 || len(p.Gone) != 1 || p.Deliveries() != 2 || len(p.Items) != 2 {
		t.Fatalf("%v: %d unfit, %d gone, %d in it", err, len(p.Unfit), len(p.Gone), p.Deliveries())
	}
	tr, err := a.BeginTransfer(peerOf(b, "b"), p)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := receive(t, b, a.Encode(p, &tr, "a")); got != spool.Stored || err != nil {
		t.Fatal(got, err)
	}
	if err := a.FinishTransfer(tr.Number, nil); err != nil {
		t.Fatal(err)
	}
	if r := verified(t, a); r.Deliveries != 2 {
		t.Errorf("%d stayed", r.Deliveries)
	}
	// The message whose other delivery went is on both.
	for _, s := range []*spool.Store{a, b} {
		if _, err := s.Message(odd.Message.ID); err != nil {
			t.Error(err)
		}
	}
	// A parcel is no larger than asked for, but for its first message.
	p, err = b.Pack(queued(t, b), 1)
	if err != nil || p.Deliveries() != 1 || len(p.Rest) != 1 {
		t.Errorf("%v: %d in it, %d left", err, p.Deliveries(), len(p.Rest))
	}
}
