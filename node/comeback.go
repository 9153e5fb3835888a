package node

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/node/feedback"
	"hikyaku/node/ingest"
	"hikyaku/spool/message"
)

// comeback is ingest's acceptor for mail that comes back: it joins an SMTP
// server with a feedback.Receiver, which do not know each other. Nothing that
// comes in here gets near the queue.
type comeback struct {
	r   *feedback.Receiver
	ids message.IDs
}

// feedbackTenant is what its sessions count as: everybody may write, to the few
// addresses that the receiver knows.
const feedbackTenant = "feedback"

// FeedbackSMTP makes the SMTP server of a feedback receiver. Of the listener the
// address, certificate, limits and networks of proxies count; who may write, and
// what becomes of content that is not clean, does not depend on settings.
func FeedbackSMTP(l ingest.SMTPListener, r *feedback.Receiver, hostname string, log *slog.Logger) (*ingest.SMTPServer, error) {
	no := false
	l.AddMissingHeaders, l.IgnoreControlHeaders, l.LineEndings = &no, true, ingest.LinesNormalize
	l.RelayNetworks, l.AuthPlaintextNetworks, l.RequireAuth = nil, nil, false
	if l.MaxMessageSize == 0 {
		l.MaxMessageSize = 1 << 20
	}
	if l.MaxRecipients == 0 {
		l.MaxRecipients = 100
	}
	l.MaxLine = max(l.MaxLine, 64<<10) // reports break the rule, and repair would cut tokens in two
	c := &comeback{r: r}
	return ingest.NewSMTPServer(ingest.SMTPOptions{Listeners: []ingest.SMTPListener{l}, Acceptor: c, Authenticator: c, Hostname: hostname,
		Logger: log, MaxContentBytes: int64(64 * l.MaxMessageSize)})
}

// Password lets nobody log in; the server does not offer it.
func (c *comeback) Password(context.Context, string, string) (tenant, name string, ok bool) {
	return "", "", false
}

// Network lets everybody write.
func (c *comeback) Network(netip.Addr) (string, bool) { return feedbackTenant, true }

// Admit is ingest.Acceptor: rates are counted by client, at RCPT.
func (c *comeback) Admit(string) error { return nil }

// NewID names what comes in, for the answer and the log.
func (c *comeback) NewID(now time.Time) message.ID { return c.ids.New(now) }

// Policy is none: no sender, author or quota is checked by tenant.
func (c *comeback) Policy() *policy.Set { return nil }

// Recipient is ingest.Gate.
func (c *comeback) Recipient(client netip.Addr, address string) *ingest.Refusal {
	return asRefusal(c.r.Recipient(client, address))
}

// Accept is ingest.Acceptor: after nil the news is durable.
func (c *comeback) Accept(ctx context.Context, s *ingest.Submission) error {
	m := &feedback.Mail{Sender: s.Message.Sender, Raw: s.Message.Raw}
	m.Client, _ = netip.ParseAddr(s.Message.From) // nobody logs in, so it is the address alone
	for i := range s.Recipients {
		m.Recipients = append(m.Recipients, s.Recipients[i].Address)
	}
	err := c.r.Take(ctx, m)
	if r, ok := err.(*feedback.Refusal); ok {
		return asRefusal(r)
	}
	return err
}

// Offer is ingest.Offerer: what comes back is rare enough to wait for each.
func (c *comeback) Offer(ctx context.Context, s *ingest.Submission) (ingest.Receipt, error) {
	return nil, c.Accept(ctx, s)
}

func asRefusal(r *feedback.Refusal) *ingest.Refusal {
	if r == nil {
		return nil
	}
	return &ingest.Refusal{Code: r.Code, Enhanced: r.Enhanced, Text: r.Text}
}

// feedbackMetrics is what came back, if there is anywhere for it to come.
func (x *news) feedbackMetrics(m *api.FeedbackMetrics) {
	if x.receiver == nil || (len(x.smtp) == 0 && x.http == nil) {
		return
	}
	f := x.receiver.Metrics()
	m.Mails = map[string]uint64{"bounce": f.Bounces, "delay": f.Delays, "relayed": f.Relayed, "complaint": f.Complaints,
		"auto-reply": f.AutoReplies, "unsubscribe": f.Unsubscribes, "other": f.Others}
	m.News = map[string]uint64{string(message.EventLateBounce): f.LateBounces, string(message.EventComplained): f.Complained, string(message.EventUnsubscribed): f.Unsubscribed}
	m.Ignored = map[string]uint64{"no-token": f.NoToken, "bad-token": f.BadTokens, "unproved": f.Unproved, "no-tenant": f.NoTenant, "replayed": f.Replayed}
	m.Refused = map[string]uint64{"address": f.RefusedRecipients, "content": f.RefusedMails, "rate": f.Limited, "request": f.BadRequests, "busy": f.Busy}
	m.Failed, m.Truncated, m.Pages, m.Bytes = f.Failed, f.Truncated, f.Pages, f.Bytes
	for _, s := range x.smtp {
		for _, l := range s.Metrics() {
			m.Connections += l.Open
		}
	}
}
