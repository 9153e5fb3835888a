package node

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"hikyaku/node/delivery"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// contentOf finds a delivery's message in memory, else in the spool. Content
// that several deliveries share is kept for the next of them.
func (n *Node) contentOf(id message.ID) (*content, error) {
	if c := n.content.get(id); c != nil {
		return c, nil
	}
	m, err := n.spool.Message(id)
	if err != nil {
		return nil, err
	}
	if m.Deliveries == 1 {
		return &content{msg: m}, nil
	}
	return n.content.put(m), nil
}

// Prepare is delivery.Content: it renders and signs, right before sending.
func (a *attempt) Prepare(ctx context.Context) ([][]byte, error) {
	if a.err != nil {
		return nil, &delivery.ContentError{Reply: missingReply(a.err)}
	}
	m := a.content.msg
	if m.Priority != message.High {
		a.n.pace.hold(ctx)
	}
	raw := m.Raw
	if m.Template != nil {
		var err error
		if raw, err = a.render(); err != nil {
			return nil, err
		}
	}
	added, trace := a.added(raw), a.trace()
	signers := a.n.signers.Load()
	if m.HeaderFrom == "" || !signers.Signs(m.HeaderFrom) {
		if added = append(trace, added...); len(added) == 0 {
			a.pieces[0] = raw
			return a.pieces[:1], nil
		}
		a.pieces = [3][]byte{added, raw}
		return a.pieces[:2], nil
	}
	sig, err := signers.AppendSignature(trace, m.HeaderFrom, a.n.now(), added, raw)
	if err != nil {
		// An unsigned message of a signed domain would fail DMARC: wait for
		// the operator rather than send it (carriers.md 2).
		return nil, &delivery.ContentError{Reply: message.Fail(451, message.Enhanced{Class: 4, Subject: 7, Detail: 5}, message.PhasePolicy, message.FaultLocal, "signing failed: "+err.Error())}
	}
	if added == nil {
		a.pieces = [3][]byte{sig, raw}
		return a.pieces[:2], nil
	}
	a.pieces = [3][]byte{sig, added, raw}
	return a.pieces[:], nil
}

// renderBuffers hold rendered content until its attempt is over. Without them
// a bulk job leaves 40 MB of garbage a second behind at 8,500 messages.
var renderBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 16<<10); return &b }}

// largestRenderBuffer is the largest that goes back into the pool.
const largestRenderBuffer = 256 << 10

// release gives the rendered content back. It is the last act of an attempt.
func (a *attempt) release() {
	b := a.rendered
	if b == nil {
		return
	}
	a.rendered, a.pieces = nil, [3][]byte{}
	if cap(*b) <= largestRenderBuffer {
		renderBuffers.Put(b)
	}
}

func (a *attempt) render() ([]byte, error) {
	t, err := a.content.compiled()
	if err == nil {
		a.rendered = renderBuffers.Get().(*[]byte)
		if *a.rendered, err = t.Render((*a.rendered)[:0], &a.delivery.Recipients[0], a.delivery.ID); err == nil {
			return *a.rendered, nil
		}
	}
	// It compiled and rendered when it was accepted, so this is final.
	return nil, &delivery.ContentError{Reply: message.Fail(554, message.Enhanced{Class: 5, Subject: 6, Detail: 0}, message.PhasePolicy, message.FaultLocal, "the template cannot be rendered: "+err.Error())}
}

// missingReply is the outcome of a delivery whose message cannot be read: a
// damaged record is in quarantine and an operator may restore it, so the
// delivery waits; what is gone for good can only bounce.
func missingReply(err error) message.Reply {
	if errors.Is(err, spool.ErrNotFound) {
		return message.Fail(554, message.Enhanced{Class: 5, Subject: 3, Detail: 0}, message.PhasePolicy, message.FaultLocal, "the message's content is not in the spool")
	}
	return message.Fail(451, message.Enhanced{Class: 4, Subject: 3, Detail: 0}, message.PhasePolicy, message.FaultLocal, fmt.Sprintf("the message's content cannot be read: %v", err))
}
