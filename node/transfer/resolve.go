package transfer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"hikyaku/spool"
)

// mostWait is the longest pause between two tries to learn who has a transfer.
const mostWait = 30 * time.Second

// Run learns who has the deliveries of open transfers, and tells receivers what
// they may forget, until ctx ends. Run it once.
func (t *Transfer) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		case <-timer.C:
		}
		t.Resolve(ctx)
		t.Confirm(ctx)
		timer.Reset(t.o.Retry)
	}
}

// Resolve asks once for each open transfer whose turn it is.
func (t *Transfer) Resolve(ctx context.Context) {
	for _, u := range t.due() {
		if ctx.Err() != nil {
			return
		}
		if err := t.resolve(ctx, u.Transfer); err != nil && ctx.Err() == nil {
			t.putOff(u.Number, err)
		}
	}
}

// due are copies of the transfers to ask for now, oldest first.
func (t *Transfer) due() (us []unknown) {
	now := t.o.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, u := range t.mu.open {
		if !u.next.After(now) {
			us = append(us, *u)
		}
	}
	slices.SortFunc(us, func(a, b unknown) int { return int(int64(a.Number - b.Number)) })
	return us
}

func (t *Transfer) resolve(ctx context.Context, tr spool.Transfer) error {
	got, err := t.askFor(ctx, &tr)
	if err != nil {
		return err
	}
	ds, err := t.o.Spool.TransferDeliveries(tr.Number)
	if errors.Is(err, spool.ErrNotFound) {
		t.close(tr.Number) // reclaimed meanwhile
		return nil
	}
	if err != nil {
		return err
	}
	t.close(tr.Number)
	if got == spool.Fenced {
		err = t.giveBack(tr, ds)
	} else {
		err = t.finish(tr, ds)
	}
	if err == nil {
		t.log.Info("it is known now who has the deliveries of a transfer", "transfer", tr.Number, "to", tr.To.Name, "deliveries", tr.Deliveries, "answer", got)
	}
	return err
}

func (t *Transfer) close(number uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mu.open, number)
}

// putOff notes why a transfer stays open. It says so once, and when the reason
// is another.
func (t *Transfer) putOff(number uint64, err error) {
	var r *refusal
	rebuilt := errors.As(err, &r) && r.status == http.StatusMisdirectedRequest
	t.mu.Lock()
	u := t.mu.open[number]
	if u == nil {
		t.mu.Unlock()
		return
	}
	fresh := u.why != err.Error()
	u.why, u.stuck = err.Error(), rebuilt || errors.Is(err, errForgotten)
	u.next, u.wait = t.o.Now().Add(u.wait), min(2*u.wait, max(mostWait, t.o.Retry))
	c := *u
	t.mu.Unlock()
	if fresh {
		t.log.Warn("it is not known who has the deliveries of a transfer; they wait until it is", "transfer", c.Number, "to", c.To.Name, "spool", c.To.Spool,
			"deliveries", c.Deliveries, "since", c.Created, "operator_needed", c.stuck, "error", err)
	}
}

// Confirm tells receivers up to where their receipts are needed no more.
func (t *Transfer) Confirm(ctx context.Context) {
	t.mu.Lock()
	names := make(map[string]string, len(t.mu.names))
	for id, name := range t.mu.names {
		names[id] = name
	}
	t.mu.Unlock()
	for id, name := range names {
		floor := t.o.Spool.Floor(id)
		t.mu.Lock()
		told := t.mu.told[id]
		t.mu.Unlock()
		if floor <= told || ctx.Err() != nil {
			continue
		}
		if _, err := t.ask(ctx, name, pathConfirm, &question{From: t.self(), To: id, Floor: floor, Version: spool.ParcelVersion}); err != nil {
			t.log.Debug("confirm transfers", "to", name, "error", err)
			continue // with the next
		}
		t.mu.Lock()
		t.mu.told[id] = max(t.mu.told[id], floor)
		t.mu.Unlock()
	}
}

// Open is a transfer of which it is not known who has its deliveries.
type Open struct {
	spool.Transfer
	Why string `json:"why"`
	// Stuck says that asking again does not help: an operator must find out, and
	// Reclaim.
	Stuck bool `json:"stuck,omitempty"`
}

// Open lists the transfers that are not resolved, oldest first; of those that
// are being sent at this moment Why is "".
func (t *Transfer) Open() []Open {
	all := t.o.Spool.Transfers()
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Open, len(all))
	for i, tr := range all {
		out[i].Transfer = tr
		if u := t.mu.open[tr.Number]; u != nil {
			out[i].Why, out[i].Stuck = u.why, u.stuck
		}
	}
	return out
}

// Unresolved is how many transfers to a node wait for an answer that may still
// come. While there are some, more for it would only wait too.
func (t *Transfer) Unresolved(to string) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, u := range t.mu.open {
		if u.To.Name == to && !u.stuck {
			n++
		}
	}
	return n
}

// Reclaim makes the deliveries of an open transfer active here again without
// asking the node that they were offered to.
//
// It is for a node whose disk is gone for good. If that node has the deliveries
// after all, or is still sending, their recipients get them twice. gone must
// repeat the id of that node's spool, as Open shows it, so that nobody reclaims
// the wrong one.
func (t *Transfer) Reclaim(number uint64, gone string) error {
	t.mu.Lock()
	u := t.mu.open[number]
	var tr spool.Transfer
	if u != nil {
		tr = u.Transfer
	}
	t.mu.Unlock()
	switch {
	case u == nil:
		return fmt.Errorf("transfer %d: %w among those that wait for an answer", number, spool.ErrNotFound)
	case tr.To.Spool != gone:
		return fmt.Errorf("%w: transfer %d was offered to spool %s of node %s, not to %s", spool.ErrInvalid, number, tr.To.Spool, tr.To.Name, gone)
	}
	ds, err := t.o.Spool.TransferDeliveries(number)
	if err != nil {
		return err
	}
	t.close(number)
	if err := t.giveBack(tr, ds); err != nil {
		return err
	}
	t.count.reclaimed.Add(uint64(tr.Deliveries))
	t.log.Warn("deliveries were reclaimed by an operator; if the other node has them too, their recipients get them twice",
		"transfer", number, "to", tr.To.Name, "spool", tr.To.Spool, "deliveries", tr.Deliveries)
	return nil
}
