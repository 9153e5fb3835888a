package carriers

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"hikyaku/controlplane/manifest"
	"hikyaku/controlplane/policy"
)

// PolicyOptions say how the product is to be configured for a farm.
type PolicyOptions struct {
	// Sources is the number of sending addresses; default 1. FirstSource is the
	// number of the first, from 0 on, so that several nodes have their own.
	Sources, FirstSource int
	// Nodes share the limits over all sources: each gets its part, rounded
	// down, and at least one connection and one message. Default 1.
	Nodes int
	// Retry is the schedule after a temporary failure. Default: the product's.
	Retry []policy.Duration
	// Backoff is how long a site rests after no host took a connection.
	// Default: the product's.
	Backoff policy.Duration
	// Connections bounds those of a source to a carrier that has no limit of
	// its own. Default: the product's.
	Connections int
	// Reputation are the settings of what is learnt from replies; its catalogue is
	// left out, so that a farm's carrier has its profile's limits alone, whatever
	// ships under the same name.
	Reputation policy.Reputation
	// Pace, above 1, is how many times as quick the farm's world is: where a shipped
	// rule waits for a recipient after a reply of a carrier, that is as much shorter.
	Pace int
	// Each, if not nil, changes what the product is told of a carrier.
	Each func(p *Profile, c *policy.Carrier)
}

// SourceAddress is the loopback address of a source by its number.
func SourceAddress(n int) string {
	return netip.AddrFrom4([4]byte{127, 0, byte(8 + n/200), byte(1 + n%200)}).String()
}

// SourceName is what the policy calls a source by its number.
func SourceName(n int) string { return "source-" + strconv.Itoa(n) }

// maxSendingAddresses keeps SourceAddress within 127.0.0.0/16.
const maxSendingAddresses = 200 * 200

// Policy is the product's policy for the farm, as YAML: a carrier for each
// profile with exactly the limits that it enforces, the sources in a pool, and
// a route that allows the farm's addresses. Tenants use the pool unless other
// resources say otherwise: it is the pool named default.
func (f *Farm) Policy(o PolicyOptions) ([]byte, error) {
	o.Sources, o.Nodes = max(1, o.Sources), max(1, o.Nodes)
	if o.FirstSource < 0 || o.FirstSource+o.Sources > maxSendingAddresses {
		return nil, fmt.Errorf("policy for the farm: there are only %d sources", maxSendingAddresses)
	}
	var rs []policy.Resource
	add := func(kind, name string, spec any) {
		rs = append(rs, policy.Resource{Kind: kind, Name: name, Spec: spec})
	}
	pool := &policy.Pool{}
	for i := range o.Sources {
		n := o.FirstSource + i
		name := SourceName(n)
		add(policy.KindSource, name, &policy.Source{Address: SourceAddress(n), EHLO: name + ".source.test"})
		pool.Sources = append(pool.Sources, policy.PoolMember{Name: name})
	}
	add(policy.KindPool, policy.DefaultName, pool)
	o.Reputation.Catalogue = policy.CatalogueNone
	add(policy.KindReputation, policy.DefaultName, &o.Reputation)
	for _, st := range f.stations {
		c := st.profile.carrier(o)
		if o.Each != nil {
			o.Each(st.profile, c)
		}
		add(policy.KindCarrier, st.profile.Name, c)
		if r := st.profile.greylistRule(); r != nil && len(o.Retry) > 0 {
			add(policy.KindReplyRule, st.profile.Name+"-greylist", r)
		}
		for i, r := range st.profile.soonRules(o.Pace) {
			add(policy.KindReplyRule, fmt.Sprintf("%s-quicker-%d", st.profile.Name, i+1), r)
		}
	}
	add(policy.KindRoute, "farm", &policy.Route{
		Domains: []string{"*"}, AllowNetworks: []policy.Network{{Prefix: netip.MustParsePrefix(Network)}},
	})
	text, err := manifest.Format(rs)
	if err != nil {
		return nil, fmt.Errorf("policy for the farm: %w", err)
	}
	return text, nil
}

// carrier is a profile as the product is told of it.
func (p *Profile) carrier(o PolicyOptions) *policy.Carrier {
	c := &policy.Carrier{
		PerSource: p.PerSource, Limits: p.Limits,
		MessagesPerConnection:    p.MessagesPerConnection,
		RecipientsPerConnection:  p.RecipientsPerConnection,
		RecipientsPerTransaction: p.RecipientsPerTransaction,
		Backoff:                  o.Backoff,
	}
	for _, h := range p.MX {
		_, parent, _ := strings.Cut(h.Name, ".")
		if suffix := "." + parent; !slices.Contains(c.MX, suffix) {
			c.MX = append(c.MX, suffix)
		}
	}
	if c.PerSource.Connections == 0 {
		c.PerSource.Connections = o.Connections
	}
	if len(o.Retry) > 0 {
		c.Retry = &policy.Retry{Schedule: o.Retry}
	}
	if p.StartTLS == startTLSRequired {
		c.TLS = policy.TLSRequired
	}
	c.Limits.Rate, c.Limits.ConnectionRate = part(c.Limits.Rate, o.Nodes), part(c.Limits.ConnectionRate, o.Nodes)
	if c.Limits.Connections > 0 {
		c.Limits.Connections = max(1, c.Limits.Connections/o.Nodes)
	}
	if c.Limits.PerDay > 0 {
		c.Limits.PerDay = max(1, c.Limits.PerDay/int64(o.Nodes))
	}
	return c
}

// greylistRule lets the schedule decide when a greylisted recipient is tried again,
// for a farm on which time is short: by what ships it would be after minutes, the
// wait of real greylists. nil: the profile has none.
func (p *Profile) greylistRule() *policy.ReplyRule {
	if p.Greylist == nil {
		return nil
	}
	reply := cmp.Or(p.Greylist.Reply, greylisted)
	return &policy.ReplyRule{
		Carrier: p.Name, Text: anyOf(reply), Category: "greylist", Action: "retry",
		Examples: []string{placeholder.ReplaceAllString(reply, "x")},
	}
}

// anyOf is a pattern of a reply, whoever it is said to.
func anyOf(reply string) string {
	pieces := placeholder.Split(codes.ReplaceAllString(reply, ""), -1)
	for i := range pieces {
		pieces[i] = regexp.QuoteMeta(pieces[i])
	}
	return strings.Join(pieces, ".*")
}

var (
	// codes are what a reply begins with.
	codes = regexp.MustCompile(`^[0-9]{3} ([245]\.[0-9]+\.[0-9]+ )?`)
	// placeholder is what stands in replies for the recipient, the source, ….
	placeholder = regexp.MustCompile(`\{[a-z]+\}`)
)

// part is a node's share of a rate.
func part(r *policy.Rate, nodes int) *policy.Rate {
	if r == nil || nodes == 1 {
		return r
	}
	return &policy.Rate{N: max(1, r.N/int64(nodes)), Per: r.Per, Burst: max(1, r.BurstOrDefault()/int64(nodes))}
}
