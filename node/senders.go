package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"hikyaku/node/api"
	"hikyaku/node/blocklist"
	"hikyaku/node/events"
	"hikyaku/node/replies"
	"hikyaku/node/webhook"
)

// openBlocklists watches the blocklists that policy names, if any.
func (n *Node) openBlocklists() (err error) {
	n.news.lists, err = blocklist.New(blocklist.Options{Lookup: n.resolver, Sources: n.ownSources, Zones: n.blocklists, Logger: n.log})
	return err
}

// blocklists are the zones that policy names.
func (n *Node) blocklists() []string {
	set := n.policy.Load()
	if set == nil || set.Reputation == nil {
		return nil
	}
	return set.Reputation.Blocklists
}

// ownSources are the sources with an address that this node may use at the
// moment. Those without one have an address that only others see.
func (n *Node) ownSources() []blocklist.Source {
	set := n.policy.Load()
	if set == nil {
		return nil
	}
	held := n.cluster.held.Load()
	now := time.Now()
	var out []blocklist.Source
	for name, s := range set.Sources {
		a, err := netip.ParseAddr(s.Address)
		if err != nil || s.Disabled {
			continue
		}
		if held != nil {
			if h := (*held)[name]; h == nil || !h.MayUse(now) {
				continue
			}
		} else if s.Pinned() && s.Node != n.name {
			continue
		}
		out = append(out, blocklist.Source{Name: name, Addr: a})
	}
	return out
}

// WebhookAPI is the webhooks as the admin API asks for them.
func (n *Node) WebhookAPI() api.Webhooks { return hookAPI{n.news.hooks} }

// SenderAPI is the node's health as a sender, as the admin API asks for it.
func (n *Node) SenderAPI() api.Senders { return senderAPI{n} }

// SenderAlarms are what a person should look at about sources, webhooks and the
// words of carriers.
func (n *Node) SenderAlarms() []string {
	out := n.news.lists.Alarms()
	if p := n.news.hooks.Problem(); p != "" {
		out = append(out, "webhooks: "+p)
	}
	out = append(out, hookAlarms(n.news.hooks.Status(), time.Now())...)
	return append(out, strangerAlarms(n.replies.Strangers(n.now()))...)
}

// maxStrangerAlarms is how many carriers are named: rules that are lost are one
// thing to look at, not one a carrier.
const maxStrangerAlarms = 5

func strangerAlarms(all []replies.Stranger) (out []string) {
	for i, s := range all {
		if i == maxStrangerAlarms {
			out = append(out, fmt.Sprintf("%d more carriers say what no rule knows", len(all)-i))
			break
		}
		out = append(out, fmt.Sprintf("carrier %s says what no rule knows: %d of %d replies that were no success, in the last hour: hikyaku classify --unclassified --carrier %s", s.Carrier, s.Unclassified, s.Bad, s.Carrier))
	}
	return out
}

// maxHookAlarms is how many webhooks are named. There can be a thousand, with one
// receiver behind them.
const maxHookAlarms = 10

func hookAlarms(all []webhook.Status, now time.Time) (out []string) {
	more := 0
	for _, s := range all {
		text := ""
		switch {
		case s.State == webhook.StateGone, s.State == webhook.StateBroken:
			text = "webhook " + s.Name + ": " + s.LastError
		case s.State == webhook.StateOpen && now.Sub(s.Since) > hookAlarm:
			text = "webhook " + s.Name + " is not taken for " + now.Sub(s.Since).Round(time.Minute).String() + ": " + s.LastError
		default:
			continue
		}
		if len(out) == maxHookAlarms {
			more++
			continue
		}
		out = append(out, text)
	}
	if more > 0 {
		out = append(out, fmt.Sprintf("%d more webhooks are off or not taken", more))
	}
	return out
}

// hookAlarm is how long an endpoint may fail before a person should know: events
// are given up after a day.
const hookAlarm = time.Hour

type hookAPI struct{ h *webhook.Hooks }

// Webhooks is api.Webhooks.
func (a hookAPI) Webhooks() []api.Webhook {
	all := a.h.Status()
	out := make([]api.Webhook, len(all))
	for i := range all {
		s := &all[i]
		out[i] = api.Webhook{
			Name: s.Name, Tenant: s.Tenant, Endpoint: s.Endpoint, State: s.State, Since: moment(s.Since),
			Behind: s.Behind, BehindSeconds: s.Lag.Seconds(), LastSuccess: moment(s.LastSuccess),
			LastError: s.LastError, LastErrorAt: moment(s.LastErrorAt), NextTry: moment(s.NextTry),
			Posted: s.Counts.Posted, Requests: s.Counts.Batches, Failures: s.Counts.Failures, GivenUp: s.Counts.GivenUp, Lost: s.Counts.Lost, Unreadable: s.Counts.Unreadable,
		}
		if g := s.GivenUp; g != nil {
			out[i].LastGivenUp = &api.GivenUpRange{First: g.First, Last: g.Last, Events: g.Events, From: g.From, To: g.To, At: g.At, Why: g.Why}
		}
	}
	return out
}

// TestWebhook is api.Webhooks.
func (a hookAPI) TestWebhook(ctx context.Context, name string) (*api.WebhookTest, error) {
	t, err := a.h.Test(ctx, name)
	if errors.Is(err, webhook.ErrUnknown) {
		return nil, errors.Join(api.ErrNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	return &api.WebhookTest{Name: name, OK: t.Error == "", HTTPStatus: t.Status, Seconds: t.Took.Seconds(), Error: t.Error}, nil
}

type senderAPI struct{ n *Node }

// SigningKeys is api.Senders.
func (a senderAPI) SigningKeys() []api.SigningKey {
	var out []api.SigningKey
	for _, k := range a.n.signers.Load().Public() {
		out = append(out, api.SigningKey{Name: k.Name, Domain: k.Domain, Selector: k.Selector, DNSText: k.Text})
	}
	return out
}

// Blocklists is api.Senders.
func (a senderAPI) Blocklists() []api.Listing {
	var out []api.Listing
	for _, l := range a.n.news.lists.Status() {
		out = append(out, api.Listing{
			Source: l.Source.Name, Address: l.Source.Addr.String(), Zone: l.Zone, State: l.State,
			Means: l.Means, Reason: l.Reason, Checked: moment(l.Checked), Since: moment(l.Since),
		})
	}
	return out
}

// moment is a time, or nil for none.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// hookLog is the event log as webhooks see it.
type hookLog struct{ *events.Log }

// hookConsumer holds in the log what webhooks have not read.
const hookConsumer = "webhooks"

// Cursor is webhook.Log.
func (h hookLog) Cursor() webhook.Cursor { return hookCursor{h.Log.Cursor()} }

// End is webhook.Log.
func (h hookLog) End() webhook.Place { return webhook.Place(h.Log.End()) }

// Hold is webhook.Log.
func (h hookLog) Hold(at webhook.Place) error { return h.Log.Hold(hookConsumer, events.Place(at)) }

// Held is webhook.Log.
func (h hookLog) Held() (webhook.Place, bool) {
	at, ok := h.Log.Held(hookConsumer)
	return webhook.Place(at), ok
}

// Release is webhook.Log.
func (h hookLog) Release() error { return h.Log.Release(hookConsumer) }

type hookCursor struct{ *events.Cursor }

// Read is webhook.Cursor.
func (h hookCursor) Read(at webhook.Place) (webhook.Block, error) {
	b, err := h.Cursor.Read(events.Place(at))
	if err != nil {
		return webhook.Block{}, err
	}
	return webhook.Block{Lines: b.Lines, Prev: b.Prev, First: b.First, Last: b.Last, End: webhook.Place(b.End())}, nil
}
