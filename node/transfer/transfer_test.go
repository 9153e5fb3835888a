package transfer_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hikyaku/node/transfer"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

var ctx = context.Background()

func TestSend(t *testing.T) {
	c := newCluster(t, "a", "b")
	a, b := c.nodes["a"], c.nodes["b"]
	c.mail("a", "one", "x.example")
	c.mail("a", "two", "x.example", "y.example", "z.example")
	c.mail("a", strings.Repeat("large ", 600_000), "y.example")
	for len(a.active()) > 0 {
		if n, err := a.t.Send(ctx, "b", a.active()); err != nil || n == 0 {
			t.Fatalf("moved %d: %v", n, err)
		}
	}
	if got := len(b.active()); got != 5 || a.mu.left != 5 || len(a.t.Open()) != 0 {
		t.Errorf("%d arrived, %d left, %v open", got, a.mu.left, a.t.Open())
	}
	c.mustBeWhole(nil)
	m, r := a.t.Metrics(), b.t.Metrics()
	if m.Sent != 5 || r.Received != 5 || m.Open != 0 || r.Receiving != 0 || r.ReceivedBytes < 3_600_000 {
		t.Errorf("metrics %+v\n%+v", m, r)
	}
	// The receiver may forget its receipts.
	if s, _ := b.s.SenderOf(a.s.NodeID()); s.Receipts == 0 {
		t.Error("there are no receipts before the confirmation")
	}
	run, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); a.t.Run(run) }()
	until(t, "the confirmation", func() bool { s, _ := b.s.SenderOf(a.s.NodeID()); return s.Receipts == 0 })
	stop()
	<-done
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestReceiverRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(c *cluster)
		want error
		part string
	}{
		{"it is busy", func(c *cluster) { c.nodes["b"].mu.busy = errors.New("draining") }, transfer.ErrNotReady, "draining"},
		{"it does not want these", func(c *cluster) { c.nodes["b"].mu.refuse = errors.New("not held here") }, transfer.ErrNotReady, "not held here"},
		{"its disk is low", func(c *cluster) {
			b := c.nodes["b"]
			b.close()
			s, err := spool.Open(spool.Options{Dir: "spool", FS: b.mem, Now: c.now, FreeSpace: func(string) (uint64, uint64, error) { return 1, 1 << 40, nil }})
			if err != nil {
				c.t.Fatal(err)
			}
			b.s = s
			b.t, err = transfer.New(transfer.Options{Name: "b", Spool: s, Host: b, Now: c.now, Address: func(string) (string, error) { return "", nil }})
			if err != nil {
				c.t.Fatal(err)
			}
		}, transfer.ErrNotReady, "disk space"},
		{"it is not there", func(c *cluster) {
			c.net.fault = func(*node, string, string, func() *http.Response) (*http.Response, error) {
				return nil, errors.New("connection refused")
			}
		}, transfer.ErrNotReady, "connection refused"},
		{"its address is another node's", func(c *cluster) { c.nodes["b"] = c.nodes["x"] }, transfer.ErrNotReady, `node "x"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t, "a", "b", "x")
			a := c.nodes["a"]
			sub := c.mail("a", "one", "x.example")
			tt.make(c)
			n, err := a.t.Send(ctx, "b", a.active())
			if n != 0 || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.part) {
				t.Fatalf("moved %d: %v", n, err)
			}
			if len(a.active()) != 1 || a.mu.back != 1 || len(a.t.Open()) != 0 {
				t.Errorf("%d active, %d returned, open: %v", len(a.active()), a.mu.back, a.t.Open())
			}
			if _, err := a.s.Status(sub.Deliveries[0].ID); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRefusalIsNoFence: a copy of the parcel comes after the receiver refused
// it and the sender took its deliveries back.
func TestRefusalIsNoFence(t *testing.T) {
	late := func(unsafe bool) (activeOn int) {
		c := newCluster(t, "a", "b")
		a, b := c.nodes["a"], c.nodes["b"]
		c.opts = func(o *transfer.Options) { o.UnsafeReturnUnfenced = unsafe }
		a.crash(0, nil)
		c.mail("a", "one", "x.example")
		b.mu.refuse = errors.New("busy")
		var again func() *http.Response
		c.net.fault = func(_ *node, _, path string, do func() *http.Response) (*http.Response, error) {
			if path == transfer.Path {
				again = do
			}
			return do(), nil
		}
		if _, err := a.t.Send(ctx, "b", a.active()); err == nil {
			t.Fatal("sent")
		}
		b.mu.refuse = nil
		again()
		return len(a.active()) + len(b.active())
	}
	if n := late(false); n != 1 {
		t.Errorf("active on %d nodes", n)
	}
	if n := late(true); n != 2 {
		t.Errorf("without the fence it is active on %d nodes: the test is blind", n)
	}
}

// TestAnswerLost: the parcel is stored, its answer is lost, and so are the
// answers to questions for a while.
func TestAnswerLost(t *testing.T) {
	c := newCluster(t, "a", "b")
	a, b := c.nodes["a"], c.nodes["b"]
	sub := c.mail("a", "one", "x.example")
	c.net.fault = func(_ *node, _, path string, do func() *http.Response) (*http.Response, error) {
		r := do()
		if strings.HasSuffix(path, "/hello") {
			return r, nil
		}
		return nil, errors.New("connection reset")
	}
	_, err := a.t.Send(ctx, "b", a.active())
	if !errors.Is(err, transfer.ErrUnresolved) || len(a.active()) != 0 || len(b.active()) != 1 {
		t.Fatalf("%v; %d here, %d there", err, len(a.active()), len(b.active()))
	}
	if a.t.Unresolved("b") != 1 || a.t.Unresolved("x") != 0 {
		t.Error("unresolved is not known")
	}
	c.advance(time.Hour)
	a.t.Resolve(ctx)
	if m := a.t.Metrics(); m.Open != 1 || m.Moving != 1 || m.OldestOpen != time.Hour || a.t.Open()[0].Why == "" {
		t.Errorf("metrics %+v, open %+v", m, a.t.Open())
	}
	// It ends at the receiver and is forgotten there; the receipt is not.
	d := b.active()[0]
	endIt(t, b, d)
	a.crash(100, nil)
	b.crash(0, nil)
	c.net.fault = nil
	c.settle()
	if len(a.active())+len(b.active()) != 0 || a.mu.left != 1 {
		t.Error("it is active again")
	}
	c.mustBeWhole(map[message.DeliveryID]int{sub.Deliveries[0].ID: 1})
	st, err := a.s.Status(d.ID)
	if err != nil || st.Gone == nil || st.Gone.To.Name != "b" {
		t.Errorf("status at the sender: %+v, %v", st, err)
	}
}

func endIt(t testing.TB, n *node, d *message.Delivery) {
	t.Helper()
	got := make(chan error, 1)
	n.s.Commit(&spool.Transition{Delivery: d, Events: []byte("delivered\n"), Final: []spool.Final{{Recipient: d.Recipients[0].Address, State: message.Delivered, At: n.c.now()}}}, func(err error) { got <- err })
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

// TestReceiverWasRebuilt: the node of that name has another disk now.
func TestReceiverWasRebuilt(t *testing.T) {
	c := newCluster(t, "a", "b")
	a := c.nodes["a"]
	c.mail("a", "one", "x.example")
	c.net.fault = func(_ *node, _, path string, do func() *http.Response) (*http.Response, error) {
		if strings.HasSuffix(path, "/hello") {
			return do(), nil
		}
		return nil, errors.New("no route to host")
	}
	if _, err := a.t.Send(ctx, "b", a.active()); !errors.Is(err, transfer.ErrUnresolved) {
		t.Fatal(err)
	}
	c.nodes["b"].crash(0, vfs.NewCrashableMem())
	c.net.fault = nil
	c.advance(time.Hour)
	a.t.Resolve(ctx)
	o := a.t.Open()
	if len(o) != 1 || !o[0].Stuck || a.t.Metrics().Stuck != 1 || len(a.active()) != 0 {
		t.Fatalf("open %+v", o)
	}
	if err := a.t.Reclaim(o[0].Number, c.nodes["b"].s.NodeID()); !errors.Is(err, spool.ErrInvalid) {
		t.Errorf("reclaimed with the id of another spool: %v", err)
	}
	if err := a.t.Reclaim(o[0].Number+1, o[0].To.Spool); !errors.Is(err, spool.ErrNotFound) {
		t.Errorf("reclaimed what is not there: %v", err)
	}
	if err := a.t.Reclaim(o[0].Number, o[0].To.Spool); err != nil {
		t.Fatal(err)
	}
	c.mustBeWhole(nil)
	if n, err := a.t.Send(ctx, "b", a.active()); n != 1 || err != nil {
		t.Fatalf("to the new b: %d, %v", n, err)
	}
	c.mustBeWhole(nil)
}

// TestSenderWasSetBack: the sender's disk is an older state of itself. Numbers
// that the receiver has seen are not used again.
func TestSenderWasSetBack(t *testing.T) {
	c := newCluster(t, "a", "b")
	a, b := c.nodes["a"], c.nodes["b"]
	old := a.mem.CrashClone(vfs.CrashCloneCfg{})
	for range 3 {
		c.mail("a", "one", "x.example")
		if n, err := a.t.Send(ctx, "b", a.active()); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	a.crash(0, old)
	c.mail("a", "two", "x.example")
	if n, err := a.t.Send(ctx, "b", a.active()); n != 1 || err != nil {
		t.Fatalf("after the disk was set back: %d, %v", n, err)
	}
	if len(b.active()) != 4 {
		t.Errorf("%d arrived", len(b.active()))
	}
}

func TestOrderFollows(t *testing.T) {
	c := newCluster(t, "a", "b")
	a, b := c.nodes["a"], c.nodes["b"]
	sub := c.mail("a", "one", "x.example")
	if _, err := a.t.Send(ctx, "b", a.active()); err != nil {
		t.Fatal(err)
	}
	st, err := a.s.Status(sub.Deliveries[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	o := transfer.Order{ID: sub.Deliveries[0].ID.String(), Verb: transfer.VerbCancel, Reason: "r", Author: "me", At: epoch}
	if err := a.t.SendOrder(ctx, st.Gone.To, o); err != nil || len(b.mu.orders) != 1 || b.mu.orders[0].Reason != "r" {
		t.Errorf("%v, %+v", err, b.mu.orders)
	}
	for _, bad := range []transfer.Order{{ID: "x", Verb: transfer.VerbCancel, At: epoch}, {ID: o.ID, Verb: "hold", At: epoch}, {ID: o.ID, Verb: transfer.VerbCancel}} {
		if err := a.t.SendOrder(ctx, st.Gone.To, bad); err == nil {
			t.Errorf("taken: %+v", bad)
		}
	}
	if err := a.t.SendOrder(ctx, spool.Peer{Name: "b", Spool: a.s.NodeID()}, o); err == nil {
		t.Error("an order for another spool was taken")
	}
}

func TestTwoSendersToOne(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	for range 20 {
		c.mail("a", "from a", "x.example", "y.example")
		c.mail("b", "from b", "x.example")
	}
	errs := make(chan error, 2)
	for _, name := range []string{"a", "b"} {
		n := c.nodes[name]
		go func() {
			var err error
			for ds := n.active(); len(ds) > 0 && err == nil; ds = n.active() {
				_, err = n.t.Send(ctx, "c", ds[:min(len(ds), 7)])
			}
			errs <- err
		}()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := len(c.nodes["c"].active()); n != 60 {
		t.Errorf("%d arrived", n)
	}
	c.mustBeWhole(nil)
}
