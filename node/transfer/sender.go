package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"hikyaku/spool"
	"hikyaku/spool/message"
)

// ErrNotReady: the node does not take deliveries now, or cannot be reached.
var ErrNotReady = errors.New("the other node takes no deliveries now")

// ErrUnresolved: it is not known whether the other node has them. They stay
// offered, and Run asks until it is known.
var ErrUnresolved = errors.New("it is not known yet who has the deliveries")

// greeting is what a node said of itself, and until when that is believed.
type greeting struct {
	peer  spool.Peer
	bytes int64
	until time.Time
}

const (
	// greetFor is how long a node's word is believed.
	greetFor = 2 * time.Second
	maxPeers = 4096
)

// Send hands deliveries over to a node, in one parcel. The caller has them in
// hand: nobody else gives them out meanwhile. Each of them is told of once to
// the host, by Left, Returned or Unfit, before Send returns, but for those of an
// open transfer (ErrUnresolved): for these, when it is known.
func (t *Transfer) Send(ctx context.Context, to string, ds []*message.Delivery) (moved int, err error) {
	g, err := t.greet(ctx, to)
	if err != nil {
		t.o.Host.Returned(ds)
		return 0, fmt.Errorf("%w: %s: %w", ErrNotReady, to, err)
	}
	p, err := t.o.Spool.Pack(ds, min(t.o.ParcelBytes, int(g.bytes/2)))
	if err != nil {
		t.o.Host.Returned(ds)
		return 0, err
	}
	t.o.Host.Returned(p.Rest)
	t.o.Host.Returned(p.Gone)
	t.o.Host.Unfit(p.Unfit)
	if p.Deliveries() == 0 {
		return 0, nil
	}
	if int64(p.Bytes()) > g.bytes {
		t.o.Host.Unfit(p.All())
		return 0, fmt.Errorf("a message of %d bytes; %s takes %d", p.Bytes(), to, g.bytes)
	}
	if err := t.pace.wait(ctx, p.Bytes()); err != nil {
		t.o.Host.Returned(p.All())
		return 0, err
	}
	p.Holds = t.o.Host.Holding(p.All())
	tr, err := t.o.Spool.BeginTransfer(g.peer, p)
	if err != nil {
		t.o.Host.Returned(p.All())
		return 0, err
	}
	body := t.o.Spool.Encode(p, &tr, t.o.Name)
	t.count.offered.add(len(ds), len(body))
	return t.carry(ctx, tr, p, body)
}

// carry sends a parcel that is offered. Whatever the answer is but that it is
// there, the transfer is asked for: a copy of the request may be on its way
// still, and only a fence keeps it out.
func (t *Transfer) carry(ctx context.Context, tr spool.Transfer, p *spool.Parcel, body []byte) (int, error) {
	if t.o.UnsafeDeleteFirst {
		if err := t.finish(tr, p.All()); err != nil {
			return 0, err
		}
	}
	r, err := t.post(ctx, tr.To.Name, Path, body)
	if err == nil && (r.Answer == spool.Stored || r.Answer == spool.Had) {
		return tr.Deliveries, t.finish(tr, p.All())
	}
	if err == nil {
		err = fmt.Errorf("the answer was %q", r.Answer)
	}
	if t.o.UnsafeReturnUnfenced {
		return 0, errors.Join(err, t.giveBack(tr, p.All()))
	}
	t.forgetGreeting(tr.To.Name)
	got, askErr := t.askFor(ctx, &tr)
	if askErr == nil {
		switch got {
		case spool.Stored, spool.Had:
			return tr.Deliveries, t.finish(tr, p.All())
		case spool.Fenced:
			return 0, errors.Join(fmt.Errorf("%w: %s: %w", ErrNotReady, tr.To.Name, err), t.giveBack(tr, p.All()))
		}
	}
	t.leaveOpen(tr, errors.Join(err, askErr), got == spool.Forgotten)
	return 0, fmt.Errorf("%w: transfer %d to %s: %w", ErrUnresolved, tr.Number, tr.To.Name, errors.Join(err, askErr))
}

// finish deletes what the other node has.
func (t *Transfer) finish(tr spool.Transfer, ds []*message.Delivery) error {
	if err := t.o.Spool.FinishTransfer(tr.Number, t.o.Host.Leaving(tr.To, ds)); err != nil {
		t.unlessOver(tr, err)
		return err
	}
	t.count.sent.add(tr.Deliveries, 0)
	t.o.Host.Left(tr.To, ds)
	return nil
}

// giveBack makes deliveries active here again. The other node has fenced them.
func (t *Transfer) giveBack(tr spool.Transfer, ds []*message.Delivery) error {
	if err := t.o.Spool.ReturnTransfer(tr.Number); err != nil {
		t.unlessOver(tr, err)
		return err
	}
	t.count.returned.add(tr.Deliveries, 0)
	t.o.Host.Returned(ds)
	return nil
}

// unlessOver leaves a transfer open that could not be ended, unless somebody
// else has: an operator reclaims while Run asks.
func (t *Transfer) unlessOver(tr spool.Transfer, err error) {
	if !errors.Is(err, spool.ErrNotFound) {
		t.leaveOpen(tr, err, false)
	}
}

// leaveOpen hands a transfer to Run.
func (t *Transfer) leaveOpen(tr spool.Transfer, why error, stuck bool) {
	t.mu.Lock()
	t.mu.open[tr.Number] = &unknown{Transfer: tr, next: t.o.Now().Add(t.o.Retry), wait: t.o.Retry, why: why.Error(), stuck: stuck}
	t.mu.names[tr.To.Spool] = tr.To.Name
	t.mu.Unlock()
	t.signal()
}

func (t *Transfer) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// greet finds out who a node is and whether it takes deliveries.
func (t *Transfer) greet(ctx context.Context, to string) (greeting, error) {
	t.mu.Lock()
	g, known := t.mu.greeted[to]
	t.mu.Unlock()
	if known && t.o.Now().Before(g.until) {
		return g, nil
	}
	r, err := t.ask(ctx, to, pathHello, &question{From: t.self(), Version: spool.ParcelVersion})
	switch {
	case err != nil:
		return g, err
	case r.Node != to:
		return g, fmt.Errorf("its address is that of node %q", r.Node)
	case r.Version < 1:
		return g, fmt.Errorf("it takes parcels of version %d; this node makes version %d", r.Version, spool.ParcelVersion)
	case !r.Ready:
		return g, errors.New(r.Reason)
	}
	// Before anything is offered: a receiver that knows higher numbers has seen
	// this spool before it was set back to an older state.
	t.o.Spool.SkipNumbers(r.High)
	g = greeting{peer: spool.Peer{Name: to, Spool: r.Spool}, bytes: r.Bytes, until: t.o.Now().Add(greetFor)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.mu.greeted) >= maxPeers {
		clear(t.mu.greeted)
	}
	t.mu.greeted[to] = g
	t.mu.names[r.Spool] = to
	t.mu.told[r.Spool] = max(t.mu.told[r.Spool], r.Floor)
	return g, nil
}

func (t *Transfer) forgetGreeting(node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mu.greeted, node)
}

func (t *Transfer) self() spool.Peer { return spool.Peer{Name: t.o.Name, Spool: t.o.Spool.NodeID()} }

// askFor asks what became of a transfer. If the other node does not know it, it
// will never take it from then on.
func (t *Transfer) askFor(ctx context.Context, tr *spool.Transfer) (spool.Answer, error) {
	r, err := t.ask(ctx, tr.To.Name, pathAsk, &question{From: t.self(), To: tr.To.Spool, Number: tr.Number, Version: spool.ParcelVersion})
	if err != nil {
		return "", err
	}
	switch r.Answer {
	case spool.Stored, spool.Had, spool.Fenced:
		return r.Answer, nil
	case spool.Forgotten:
		return r.Answer, errForgotten
	}
	return "", fmt.Errorf("the answer was %q", r.Answer)
}

var errForgotten = errors.New("the other node was told before that this transfer is resolved: this spool is an older state of itself; " +
	"look for its deliveries there, then reclaim or drop them here")

func (t *Transfer) ask(ctx context.Context, node, path string, q any) (*reply, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("BUG: %w", err)
	}
	return t.post(ctx, node, path, body)
}

// post makes one request. An answer without status 200 is an error, but for
// 409, which says what became of the transfer.
func (t *Transfer) post(ctx context.Context, node, path string, body []byte) (*reply, error) {
	base, err := t.o.Address(node)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.o.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.GetBody = nil // never sent again behind our back
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := t.o.Client.Do(req)
	if err != nil {
		return nil, err
	}
	var r reply
	err = readJSON(resp.Body, &r)
	if cerr := resp.Body.Close(); err != nil || cerr != nil {
		return nil, fmt.Errorf("answer %s: %w", resp.Status, errors.Join(err, cerr))
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusConflict && r.Answer != "" {
		return &r, nil
	}
	return nil, &refusal{resp.StatusCode, r.Reason}
}

// refusal is an answer that is not what was asked for.
type refusal struct {
	status int
	reason string
}

func (r *refusal) Error() string { return fmt.Sprintf("it answered %d: %s", r.status, r.reason) }

// SendOrder tells the node that has a delivery what was ordered about it. After
// nil that node sees to it, durably.
func (t *Transfer) SendOrder(ctx context.Context, to spool.Peer, o Order) error {
	o.From, o.To = t.self(), to.Spool
	if _, err := t.ask(ctx, to.Name, pathOrder, &o); err != nil {
		return fmt.Errorf("order about %s to %s: %w", o.ID, to.Name, err)
	}
	return nil
}
