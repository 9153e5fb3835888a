package node

import (
	"context"
	"errors"
	"fmt"

	"hikyaku/node/delivery"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// prepared is delivery.Content for one job: what is rendered and signed right
// before it is sent.
type prepared struct {
	n *Node
	d *message.Delivery
	c *content
}

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

// Prepare is delivery.Content.
func (p *prepared) Prepare(context.Context) ([][]byte, error) {
	m := p.c.msg
	raw := m.Raw
	if m.Template != nil {
		var err error
		if raw, err = p.render(); err != nil {
			return nil, err
		}
	}
	signers := p.n.signers.Load()
	if m.HeaderFrom == "" || !signers.Signs(m.HeaderFrom) {
		return [][]byte{raw}, nil
	}
	sig, err := signers.AppendSignature(nil, m.HeaderFrom, p.n.now(), raw)
	if err != nil {
		// An unsigned message of a signed domain would fail DMARC: wait for
		// the operator rather than send it (carriers.md 2).
		return nil, &delivery.ContentError{Reply: message.Fail(451, message.Enhanced{Class: 4, Subject: 7, Detail: 5}, message.PhasePolicy, message.FaultLocal, "signing failed: "+err.Error())}
	}
	return [][]byte{sig, raw}, nil
}

func (p *prepared) render() ([]byte, error) {
	t, err := p.c.compiled()
	if err == nil {
		var raw []byte
		if raw, err = t.Render(nil, &p.d.Recipients[0], p.d.ID); err == nil {
			return raw, nil
		}
	}
	// It compiled and rendered when it was accepted, so this is final.
	return nil, &delivery.ContentError{Reply: message.Fail(554, message.Enhanced{Class: 5, Subject: 6, Detail: 0}, message.PhasePolicy, message.FaultLocal, "the template cannot be rendered: "+err.Error())}
}

// missing is Content for a message that cannot be read.
type missing struct{ err error }

// Prepare is delivery.Content.
func (m missing) Prepare(context.Context) ([][]byte, error) {
	return nil, &delivery.ContentError{Reply: missingReply(m.err)}
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
