package node

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"hikyaku/node/api"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// messageResult is what an action on one message did. Counts are recipients.
type messageResult struct {
	found       bool
	affected    atomic.Int64
	late, ended int
	lateIDs     []string
	landing     waiting // until nothing of it is in flight
}

func (res *messageResult) tooLate(id message.DeliveryID, recipients int) {
	res.late += recipients
	if len(res.lateIDs) < maxLateIDs {
		res.lateIDs = append(res.lateIDs, id.String())
	}
}

// onMessage acts on the deliveries of one message, or one of them, of the
// tenant in the action's scope if there is one. What is in flight is too late
// for this attempt; after a cancel no other follows.
func (n *Node) onMessage(ctx context.Context, a *spool.Action, id message.ID, index *uint16) (*messageResult, error) {
	res := &messageResult{}
	v := verdictOf(a)
	var taken waiting
	err := n.eachStatus(id, index, func(st *spool.Status) {
		if t := a.Scope.Tenant; t != "" && st.Queue.Tenant != t {
			return
		}
		res.found = true
		res.ended += len(st.Final)
		d := st.Queued
		if d == nil && st.Gone != nil && v != nil {
			// Its node is told by this one: it may have heard of the order before
			// it had the delivery.
			res.tooLate(st.ID, st.Gone.Recipients)
			n.follow(st.Gone.To, st.ID, *v, res.landing.begin())
			return
		}
		if d == nil || v == nil && !d.Due.After(a.Created) {
			return
		}
		var o *order
		if v != nil {
			o = &order{*v, res.landing.begin()}
		}
		if !n.dispatch.claim(d, o) {
			res.tooLate(d.ID, len(d.Recipients))
			return
		}
		if o != nil {
			o.landed(nil)
		}
		end := taken.begin()
		landed := func(err error) {
			if err == nil {
				res.affected.Add(int64(len(d.Recipients)))
			}
			end(err)
		}
		if v != nil {
			n.end(d, v.state, v.reply(d), landed)
		} else {
			n.retryNow(d, landed)
		}
	})
	if err := errors.Join(err, taken.wait(ctx)); err != nil {
		return nil, err
	}
	return res, nil
}

// cancelOnMessage is onMessage for orders that must outlast a crash: while
// something of the message is in flight the order stands in the spool.
func (n *Node) cancelOnMessage(ctx context.Context, a spool.Action, id message.ID, index *uint16) (*messageResult, error) {
	res, err := n.onMessage(ctx, &a, id, index)
	if err != nil || res.late == 0 || verdictOf(&a) == nil {
		return res, err
	}
	a.ID = n.ids.New(a.Created).String()
	if err := n.spool.PutAction(ctx, a); err != nil {
		return nil, err
	}
	n.finishOnMessage(a.ID, res)
	return res, nil
}

// finishOnMessage drops the order when it is through.
func (n *Node) finishOnMessage(id string, res *messageResult) {
	n.tasks.start(func() {
		if res.landing.wait(n.root) != nil {
			return // it stands; the next start sees to it
		}
		if err := n.spool.DeleteAction(n.root, id); err != nil && n.root.Err() == nil {
			n.log.Error("end action", "action", id, "error", err)
		}
	})
}

// resumeOnMessage goes on with an order that a crash or a drain interrupted.
func (n *Node) resumeOnMessage(ctx context.Context, a spool.Action) error {
	id, index, err := parseMessageOrDelivery(a.Message)
	if err != nil {
		n.log.Error("an action names a message that cannot be; it is dropped", "action", a.ID, "message", a.Message)
		return n.spool.DeleteAction(ctx, a.ID)
	}
	res, err := n.onMessage(ctx, &a, id, index)
	if err != nil {
		return fmt.Errorf("resume action %s: %w", a.ID, err)
	}
	n.finishOnMessage(a.ID, res)
	return nil
}

// actOnMessage cancels, expires or retries one message or delivery.
func (n *Node) actOnMessage(ctx context.Context, r *api.ActionRequest) (*api.ActionResult, error) {
	if r.Verb == api.VerbHold || r.Verb == api.VerbRelease {
		return nil, fmt.Errorf("%w: hold and release are for scopes; name the message's job, stream or destination", api.ErrInvalid)
	}
	id, index, err := parseMessageOrDelivery(r.Message)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	a := spool.Action{Kind: r.Verb, Message: r.Message, Reason: r.Reason, Author: r.Author, Created: n.now()}
	did, err := n.cancelOnMessage(ctx, a, id, index)
	if err != nil {
		return nil, err
	}
	if !did.found {
		return nil, fmt.Errorf("%w: message %s", api.ErrNotFound, r.Message)
	}
	affected := did.affected.Load()
	if affected == 0 && did.late == 0 && did.ended > 0 && r.Verb != api.VerbRetry {
		return nil, fmt.Errorf("%w: %s has ended already", api.ErrConflict, r.Message)
	}
	return &api.ActionResult{Action: apiAction(&a), Affected: affected, TooLate: int64(did.late), TooLateIDs: did.lateIDs}, nil
}

// eachStatus calls fn for the deliveries of a message, or one of them.
func (n *Node) eachStatus(id message.ID, index *uint16, fn func(*spool.Status)) error {
	if index != nil {
		st, err := n.spool.Status(message.DeliveryID{Message: id, Index: *index})
		if errors.Is(err, spool.ErrNotFound) {
			return nil
		}
		if err == nil {
			fn(&st)
		}
		return err
	}
	from := uint16(0)
	for {
		sts, more, err := n.spool.MessageStatus(id, from, 500)
		if errors.Is(err, spool.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		for i := range sts {
			fn(&sts[i])
		}
		if !more || len(sts) == 0 || sts[len(sts)-1].ID.Index == message.MaxDeliveries-1 {
			return nil
		}
		from = sts[len(sts)-1].ID.Index + 1
	}
}

// parseMessageOrDelivery reads either form of id; index is nil for a message.
func parseMessageOrDelivery(s string) (id message.ID, index *uint16, err error) {
	if len(s) == message.IDTextLen {
		id, err = message.ParseID(s)
		return id, nil, err
	}
	d, err := message.ParseDeliveryID(s)
	return d.Message, &d.Index, err
}
