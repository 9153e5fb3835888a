package node

import (
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/delivery"
	"hikyaku/node/ingest"
	"hikyaku/node/notice"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// wants notes that a recipient's sender may be due a notice.
func (e *ending) wants(kind notice.Kind, i int, reply message.Reply) {
	r := &e.d.Recipients[i]
	if e.m.Via == viaNotice || !notice.Wanted(e.n.noticePolicy(e.m.Tenant), e.m.Sender, r.Notify, kind) {
		return
	}
	e.tell[kind] = append(e.tell[kind], notice.Recipient{Address: r.Address, ORcpt: r.ORcpt, Reply: reply, Host: e.tried(), At: e.at, Until: e.d.Expires})
}

// viaNotice marks messages of our own making: they are never answered.
const viaNotice = "dsn"

func (n *Node) noticePolicy(tenant string) string {
	if t := n.policy.Load().Tenants[tenant]; t != nil && t.DSN != "" {
		return t.DSN
	}
	return policy.DSNFailure
}

// delayed tells the sender once, at the first deferral after the stream's
// delay_notice has passed.
func (e *ending) delayed(rr delivery.RecipientReply) {
	after := policy.DefaultDelayNotice
	if st, _ := e.n.policy.Load().StreamOf(e.d.Queue.Tenant, e.d.Queue.Stream); st != nil {
		after = st.DelayNotice.Or(after)
	}
	at := e.d.Accepted.Add(after)
	if e.now.Before(at) {
		return
	}
	// The attempt before this one came after the time already: it told.
	if e.d.Last != nil && !e.d.Last.At.Before(at) {
		return
	}
	e.wants(notice.Delayed, rr.Index, rr.Reply)
}

// notices are the messages that the transition gives rise to, in the same
// atomic batch with it, so that there is at most one for each and never none.
func (e *ending) notices() []*spool.Submission {
	var subs []*spool.Submission
	for kind, rs := range e.tell {
		if len(rs) == 0 {
			continue
		}
		if s := e.notice(notice.Kind(kind), rs); s != nil {
			subs = append(subs, s)
		}
	}
	return subs
}

func (e *ending) notice(kind notice.Kind, rs []notice.Recipient) *spool.Submission {
	n, m := e.n, e.m
	dest, err := ingest.Destination(m.Sender)
	if err != nil {
		n.log.Warn("no notice: the envelope sender has no usable domain", "id", e.d.ID.String())
		return nil
	}
	id := n.ids.New(e.now)
	full := n.noticePolicy(m.Tenant) == policy.DSNFull
	nt := &notice.Notice{Kind: kind, ID: id, Host: n.hostname, Now: e.now, To: m.Sender, Original: m, Content: e.original(), Full: full, Recipients: rs}
	raw := notice.Build(nil, nt)
	set := n.policy.Load()
	stream, name := set.StreamFor(m.Tenant, "")
	out := &message.Message{ID: id, Body: notice.BodyOf(raw), UTF8: notice.NeedsUTF8(nt), Tenant: m.Tenant, Stream: name,
		Pool: set.PoolFor(m.Tenant, stream, ""), Priority: message.Normal, Accepted: e.now, From: e.d.ID.String(), Via: viaNotice,
		HeaderFrom: n.hostname, Deliveries: 1, Raw: raw}
	d := &message.Delivery{
		ID:    message.DeliveryID{Message: id},
		Queue: message.QueueKey{Destination: dest, Priority: out.Priority, Tenant: out.Tenant, Stream: out.Stream, Pool: out.Pool},
		Due:   e.now, Accepted: e.now, Expires: e.now.Add(noticeLife), Size: uint32(len(raw)),
		Recipients: []message.Recipient{{Address: m.Sender, Notify: message.NotifyNever}},
	}
	sub := &spool.Submission{Message: out, Deliveries: []*message.Delivery{d}}
	sub.Events = n.acceptedEvents(nil, out, sub.Deliveries, e.now)
	return sub
}

// noticeLife is how long a notice is tried: as long as mail is by default.
const noticeLife = 72 * time.Hour

// original is the message as it was accepted; without it the notice says what
// happened all the same.
func (e *ending) original() []byte {
	c, err := e.n.contentOf(e.d.ID.Message)
	if err != nil {
		return nil
	}
	if c.msg.Template == nil {
		return c.msg.Raw
	}
	t, err := c.compiled()
	if err != nil {
		return nil
	}
	raw, err := t.Render(nil, &e.d.Recipients[0], e.d.ID)
	if err != nil {
		return nil
	}
	return raw
}
