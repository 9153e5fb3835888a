package feedback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/reputation/feedback"
	"hikyaku/spool/message"
)

// Feedback is one piece of news about one recipient, proved by a token. It
// annotates: the recipient's end is in the ledger already and stays.
type Feedback struct {
	// ID is the same whenever the same news comes in again, at any node and after
	// a restart: what is done under it is done once.
	ID        string
	Type      message.EventType // late-bounce, complained, unsubscribed
	Time      time.Time
	Delivery  message.DeliveryID
	Tenant    string
	Stream    string // known from links only
	Recipient string
	// Source is the one that had sent it, as the token has it; "" where it does not,
	// or where policy has it no more.
	Source string
	// Reply is of late bounces what the remote said, for Classify; Status is the
	// reporter's own summary, Host who said it.
	Reply  message.Reply
	Status message.Enhanced
	Host   string
	// Forwarded says that the report is about another address, to which the
	// recipient's mail goes on: the mailbox that failed is not the recipient's own.
	Forwarded bool
	// Kind of complaints is the feedback type: abuse, fraud, …
	Kind string
	// Again says that this was handled before. Only an unsubscribe is handed on
	// again: somebody may have taken it back, and now it is wanted once more.
	Again bool
	Form  string // rfc3464, rfc5965, qmail, one-click, …
	Via   string // smtp, http
	From  string // the client's address
}

// Mail is one message that came in.
type Mail struct {
	Client     netip.Addr
	Sender     string
	Recipients []string // each passed Recipient
	Raw        []byte   // read during Take only
}

// Refusal is a refusal that an SMTP client is told.
type Refusal struct {
	Code     int
	Enhanced message.Enhanced
	Text     string
}

// Error is "550 5.1.1 text".
func (r *Refusal) Error() string { return fmt.Sprintf("%d %s %s", r.Code, r.Enhanced, r.Text) }

// ErrSaidBefore is Handle's word for news that it has.
var ErrSaidBefore = errors.New("this news was told before")

// Options build a Receiver.
type Options struct {
	Keys *feedback.Keys
	// Policy is the snapshot in force: tenants, their return paths and links.
	Policy func() *policy.Set
	// Addresses take complaints and bounces beside those at return-path domains:
	// the ones given to feedback loops.
	Addresses []string
	// Handle takes news. After nil it is durable; ErrSaidBefore says that it was
	// already. It may be called again with one ID, after a restart or when it failed,
	// but not at the same time.
	Handle func(context.Context, *Feedback) error
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: slog.Default
	Limits Limits
}

// Limits bound what one client may do. The zero value of a field is its default.
type Limits struct {
	// Messages a second from one client (IPv6: a /64), with a burst of ten times
	// as many. Default 50.
	Messages int
	// Unknown addresses, bad tokens and wrong requests a second from one client,
	// with a burst of ten times as many. Default 5.
	Bad int
	// OneClicks are requests under way at a time. Default 256.
	OneClicks int
	// ProxyNetworks may say with X-Forwarded-For whom they speak for.
	ProxyNetworks []policy.Network
}

// Receiver takes in what comes back. Safe for concurrent use.
type Receiver struct {
	o         Options
	addresses map[string]bool
	counters  counters
	limits    *limiter
	replays   replays
	clicks    chan struct{} // one place for each one-click request
	view      atomic.Pointer[view]
	viewMu    sync.Mutex // one builds a view at a time
}

// view is what a policy snapshot means here.
type view struct {
	of      *policy.Set
	domains map[string]string // return-path domain → one of its tenants
	tenants *feedback.TenantIndex
	sources *feedback.SourceIndex
}

// New checks the options.
func New(o Options) (*Receiver, error) {
	if o.Keys == nil || o.Policy == nil || o.Handle == nil {
		return nil, errors.New("feedback: keys, policy and handle are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Limits.Messages <= 0 {
		o.Limits.Messages = 50
	}
	if o.Limits.Bad <= 0 {
		o.Limits.Bad = 5
	}
	if o.Limits.OneClicks <= 0 {
		o.Limits.OneClicks = 256
	}
	r := &Receiver{o: o, addresses: make(map[string]bool), limits: newLimiter(), clicks: make(chan struct{}, o.Limits.OneClicks)}
	for _, a := range o.Addresses {
		if local, domain, ok := strings.Cut(a, "@"); !ok || local == "" || policy.CheckDomain(domain) != nil {
			return nil, fmt.Errorf("feedback address %.100q: want local@domain", a)
		}
		r.addresses[feedback.Normal(a)] = true
	}
	return r, nil
}

// policyView is the view of the snapshot in force, made when it changes.
func (r *Receiver) policyView() *view {
	set := r.o.Policy()
	if v := r.view.Load(); v != nil && v.of == set {
		return v
	}
	r.viewMu.Lock()
	defer r.viewMu.Unlock()
	if v := r.view.Load(); v != nil && v.of == set {
		return v
	}
	v := &view{of: set, domains: make(map[string]string)}
	var names, sources []string
	if set != nil {
		for name, t := range set.Tenants {
			names = append(names, name)
			if t.ReturnPath != "" {
				v.domains[strings.ToLower(t.ReturnPath)] = name
			}
		}
		sources = slices.Collect(maps.Keys(set.Sources))
	}
	v.sources = feedback.Sources(sources)
	v.tenants = r.o.Keys.Tenants(names)
	r.view.Store(v)
	return v
}

// tenant is the name behind a token, "" if there is none now. Of two with the
// same hash the one is meant at whose domain the mail came in.
func (v *view) tenant(t feedback.Token, domain string) string {
	names := v.tenants.Of(t)
	if len(names) == 1 {
		return names[0]
	}
	found := ""
	for _, name := range names {
		if strings.EqualFold(v.of.Tenants[name].ReturnPath, domain) {
			if found != "" {
				return "" // two tenants share the domain as well: nobody is blamed
			}
			found = name
		}
	}
	return found
}
