package spool_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hikyaku/spool"
	"hikyaku/spool/message"
)

// twoSpools are the ends of a transfer.
func twoSpools(t *testing.T) (a, b *spool.Store, clock *testClock) {
	t.Helper()
	clock = newClock()
	return open(t, memOptions(vfs.NewMem(), clock)), open(t, memOptions(vfs.NewMem(), clock)), clock
}

func peerOf(s *spool.Store, name string) spool.Peer { return spool.Peer{Name: name, Spool: s.NodeID()} }

// queued lists all that a spool has.
func queued(t *testing.T, s *spool.Store) []*message.Delivery {
	t.Helper()
	ds, _, err := s.List(context.Background(), message.Scope{}, "", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

// offerAll packs and offers deliveries, and returns them as they go on the wire.
func offerAll(t *testing.T, a, b *spool.Store, ds []*message.Delivery) (spool.Transfer, []byte) {
	t.Helper()
	p, err := a.Pack(ds, 1<<30)
	if err != nil || len(p.Unfit)+len(p.Rest)+len(p.Gone) != 0 {
		t.Fatalf("pack: %v, %d unfit, %d left, %d gone", err, len(p.Unfit), len(p.Rest), len(p.Gone))
	}
	tr, err := a.BeginTransfer(peerOf(b, "b"), p)
	if err != nil {
		t.Fatal(err)
	}
	return tr, a.Encode(p, &tr, "a")
}

func receive(t *testing.T, b *spool.Store, wire []byte) (spool.Answer, error) {
	t.Helper()
	p, err := spool.ParseParcel(wire)
	if err != nil {
		t.Fatal(err)
	}
	return b.Receive(p, fmt.Appendf(nil, "received %d\n", p.Number))
}

func verified(t *testing.T, s *spool.Store) spool.Report {
	t.Helper()
	r, err := s.Verify(nil)
	if err != nil || !r.OK() {
		t.Fatalf("verify: %v %v", err, r.Problems)
	}
	return r
}

// fullMail is mail with every field that a delivery and a message can have.
func fullMail(g *maker) (subs []*spool.Submission) {
	one := g.mail("a.example")
	many := g.mail("a.example", "b.example", "c.example")
	tmpl := g.mail("a.example", "a.example")
	tmpl.Message.Raw = nil
	tmpl.Message.Template = &message.Template{From: message.Address{Email: "from@acme.example", Name: "A"}, Subject: "{{x}}", Text: "t", HTML: "<p>",
		Headers: []message.Header{{Name: "X-A", Value: "b"}}, Attachments: []message.Attachment{{Name: "f", ContentType: "text/plain", Content: []byte("abc")}}}
	for i, d := range tmpl.Deliveries {
		d.Recipients[0].Vars, d.Recipients[0].Metadata = fmt.Appendf(nil, `{"x":%d}`, i), []byte(`{"m":1}`)
		d.Recipients[0].Name, d.Recipients[0].ORcpt = "Ü", "rfc822;a@b"
		d.Attempts = uint16(i)
		d.Last = &message.LastAttempt{At: epoch, Source: "s1", Host: "mx [192.0.2.1]:25", Reply: message.Reply{Code: 451, Text: "later", Phase: message.PhaseRcpt}}
	}
	large := g.mail("b.example")
	for len(large.Message.Raw) < 3<<20 {
		large.Message.Raw = append(large.Message.Raw, "0123456789012345678901234567890123456789012345678901234567890123456789\r\n"...)
	}
	return append(subs, one, many, tmpl, large)
}

func appendAll(t *testing.T, s *spool.Store, subs []*spool.Submission) {
	t.Helper()
	for _, sub := range subs {
		if err := s.Append(context.Background(), sub); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTransferMovesAllThereIsOfADelivery(t *testing.T) {
	a, b, _ := twoSpools(t)
	g := newMaker()
	subs := fullMail(g)
	appendAll(t, a, subs)
	if err := a.PutJob(context.Background(), "acme", "j1", spool.JobOrder{State: spool.JobPaused, Updated: epoch, Reason: "why"}); err != nil {
		t.Fatal(err)
	}
	before := queued(t, a)
	tr, wire := offerAll(t, a, b, before)
	if answer, err := receive(t, b, wire); answer != spool.Stored || err != nil {
		t.Fatalf("answer %q, %v", answer, err)
	}
	if answer, err := receive(t, b, wire); answer != spool.Had || err != nil {
		t.Fatalf("second copy: %q, %v", answer, err)
	}
	if err := a.FinishTransfer(tr.Number, []byte("transferred\n")); err != nil {
		t.Fatal(err)
	}
	if err := a.FinishTransfer(tr.Number, nil); !errors.Is(err, spool.ErrNotFound) {
		t.Fatalf("finishing twice: %v", err)
	}
	if diff := cmp.Diff(before, queued(t, b), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("what arrived differs:\n%s", diff)
	}
	for _, sub := range subs {
		m, err := b.Message(sub.Message.ID)
		if diff := cmp.Diff(sub.Message, m, cmpopts.EquateEmpty()); diff != "" || err != nil {
			t.Errorf("message differs: %v\n%s", err, diff)
		}
		if _, err := a.Message(sub.Message.ID); !errors.Is(err, spool.ErrNotFound) {
			t.Errorf("the sender still has the content: %v", err)
		}
	}
	ja, _ := a.Job("acme", "j1")
	jb, err := b.Job("acme", "j1")
	if err != nil || ja.Accepted != 0 || jb.Accepted != int64(len(before)) || jb.State != spool.JobPaused || jb.Reason != "why" {
		t.Errorf("job at the sender %+v, at the receiver %+v, %v", ja, jb, err)
	}
	if r := verified(t, a); r.Deliveries != 0 || r.Messages != 0 || r.Gone != int64(len(before)) || r.Transfers != 0 {
		t.Errorf("sender: %+v", r)
	}
	if r := verified(t, b); r.Deliveries != int64(len(before)) || r.Receipts != 1 {
		t.Errorf("receiver: %+v", r)
	}
	// The receiver carries them on like its own.
	for _, d := range queued(t, b) {
		if err := commit(b, ended(d, message.Delivered)); err != nil {
			t.Fatal(err)
		}
	}
	if r := verified(t, b); r.Messages != 0 {
		t.Errorf("content is left: %+v", r)
	}
}

func TestOfferedDeliveriesStandStill(t *testing.T) {
	clock := newClock()
	fs := vfs.NewCrashableMem()
	a, err := spool.Open(memOptions(fs, clock))
	if err != nil {
		t.Fatal(err)
	}
	b := open(t, memOptions(vfs.NewMem(), clock))
	g := newMaker()
	appendAll(t, a, []*spool.Submission{g.mail("a.example"), g.mail("a.example"), g.mail("b.example")})
	all := queued(t, a)
	tr, _ := offerAll(t, a, b, all[:1])
	look := func(s *spool.Store) {
		t.Helper()
		ds, _, err := s.Page(queue("a.example"), spool.Cursor{}, epoch.Add(time.Hour), 10)
		if err != nil || len(ds) != 1 || ds[0].ID != all[1].ID {
			t.Fatalf("page shows %v, %v", ds, err)
		}
		if err := commit(s, ended(all[0], message.Delivered)); !errors.Is(err, spool.ErrMoving) {
			t.Fatalf("an outcome of what is offered: %v", err)
		}
		if n := len(queued(t, s)); n != 3 {
			t.Fatalf("the listing has %d", n)
		}
		st, err := s.Status(all[0].ID)
		if err != nil || st.Moving == nil || *st.Moving != peerOf(b, "b") || st.Queued == nil {
			t.Fatalf("status %+v, %v", st, err)
		}
		if ts := s.Transfers(); len(ts) != 1 || ts[0] != tr {
			t.Fatalf("transfers %+v, want %+v", ts, tr)
		}
		if s.Floor(b.NodeID()) != tr.Number || s.Floor("0123456789abcdef") <= tr.Number {
			t.Fatal("floors are wrong")
		}
		if _, err := s.Pack(all[:1], 1<<20); err != nil {
			t.Fatal(err)
		}
		if p, _ := s.Pack(all[:2], 1<<20); p != nil {
			if _, err := s.BeginTransfer(peerOf(b, "b"), p); !errors.Is(err, spool.ErrMoving) {
				t.Fatalf("offered twice: %v", err)
			}
		}
	}
	look(a)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a = open(t, memOptions(fs, clock))
	look(a)
	verified(t, a)
	ds, err := a.TransferDeliveries(tr.Number)
	if diff := cmp.Diff(all[:1], ds); diff != "" || err != nil {
		t.Fatalf("of the transfer: %v\n%s", err, diff)
	}
	if err := a.ReturnTransfer(tr.Number); err != nil {
		t.Fatal(err)
	}
	if ds, _, _ := a.Page(queue("a.example"), spool.Cursor{}, epoch.Add(time.Hour), 10); len(ds) != 2 {
		t.Fatalf("after the return the page shows %d", len(ds))
	}
	next, _ := offerAll(t, a, b, all[:1])
	if next.Number <= tr.Number {
		t.Fatalf("number %d came again after %d", next.Number, tr.Number)
	}
}

func TestReceiverAnswers(t *testing.T) {
	a, b, _ := twoSpools(t)
	g := newMaker()
	appendAll(t, a, []*spool.Submission{g.mail("a.example"), g.mail("a.example"), g.mail("a.example")})
	all := queued(t, a)
	from := peerOf(a, "a")
	ask := func(n uint64, want spool.Answer) {
		t.Helper()
		if got, err := b.AskTransfer(from, n); got != want || err != nil {
			t.Fatalf("asked about %d: %q, %v; want %q", n, got, err, want)
		}
	}
	t1, w1 := offerAll(t, a, b, all[:1])
	t2, w2 := offerAll(t, a, b, all[1:2])
	if got, err := receive(t, b, w1); got != spool.Stored || err != nil {
		t.Fatal(got, err)
	}
	ask(t1.Number, spool.Had)
	ask(t2.Number, spool.Fenced)
	ask(t2.Number, spool.Fenced)
	if got, err := receive(t, b, w2); got != spool.Fenced || err != nil {
		t.Fatalf("a late parcel: %q, %v", got, err)
	}
	if err := errors.Join(a.FinishTransfer(t1.Number, nil), a.ReturnTransfer(t2.Number)); err != nil {
		t.Fatal(err)
	}
	sender, err := b.SenderOf(a.NodeID())
	if err != nil || sender.Receipts != 2 || sender.High != t2.Number {
		t.Fatalf("known of the sender: %+v, %v", sender, err)
	}
	if err := b.ForgetTransfers(from, a.Floor(b.NodeID())); err != nil {
		t.Fatal(err)
	}
	if sender, _ = b.SenderOf(a.NodeID()); sender.Receipts != 0 || sender.Floor != t2.Number+1 {
		t.Fatalf("after the confirmation: %+v", sender)
	}
	for _, w := range [][]byte{w1, w2} {
		if got, err := receive(t, b, w); got != spool.Forgotten || err != nil {
			t.Fatalf("a parcel below the floor: %q, %v", got, err)
		}
	}
	ask(t1.Number, spool.Forgotten)
	// What comes back to where it is already is refused.
	p, err := b.Pack(queued(t, b), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	tb, err := b.BeginTransfer(peerOf(a, "a"), p)
	if err != nil {
		t.Fatal(err)
	}
	back := b.Encode(p, &tb, "b")
	if got, err := receive(t, a, back); got != spool.Stored || err != nil {
		t.Fatal(got, err)
	}
	t3, w3 := offerAll(t, a, b, queued(t, a)[:1])
	if got, err := receive(t, b, w3); !errors.Is(err, spool.ErrConflict) {
		t.Fatalf("a delivery that is offered away from here: %q, %v", got, err)
	}
	if err := b.FinishTransfer(tb.Number, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := receive(t, b, w3); got != spool.Stored || err != nil {
		t.Fatal(got, err)
	}
	if err := a.FinishTransfer(t3.Number, nil); err != nil {
		t.Fatal(err)
	}
	other := open(t, memOptions(vfs.NewMem(), newClock()))
	if got, err := receive(t, other, w3); !errors.Is(err, spool.ErrOtherSpool) {
		t.Fatalf("another spool: %q, %v", got, err)
	}
	verified(t, a)
	verified(t, b)
}
