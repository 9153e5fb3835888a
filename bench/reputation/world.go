package reputation

import (
	_ "embed"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"hikyaku/bench/carriers"
	"hikyaku/controlplane/policy"
)

//go:embed world/carriers.yaml
var carriersText []byte

// shares are the parts of the mail that go to each carrier, in the order of
// world/carriers.yaml.
var shares = map[string]float64{
	"gmail": 0.28, "outlook": 0.13, "yahoo": 0.07, "icloud": 0.07, "gmx": 0.04, "docomo": 0.12,
	"au": 0.08, "softbank": 0.07, "yahoo-japan": 0.07, "qq": 0.04, "netease": 0.03,
}

// world is what all minds meet. It is not changed once it is made.
type world struct {
	o        Options
	start    time.Time
	end      time.Time
	sources  []string
	profiles []*carriers.Profile
	shares   map[string]float64 // of the mail, by carrier
	people   []people           // by carrier
	moods    []Mood
	plan     plan
}

// people are the addresses at one carrier.
type people struct {
	addresses []string
	unknown   []int32 // those of addresses that do not exist
	truth     []truth
}

// truth is what the model knows about an address.
type truth uint8

const (
	takes     truth = iota // mail for it arrives, or is at least taken
	refuses                // it exists and takes no mail: full, or its owner's filter
	isUnknown              // there is no such mailbox
	vanished               // the same, but the carrier says so only later
)

// mailsEach is how many mails an address gets in a day, about.
const mailsEach = 4

func newWorld(o Options) (*world, error) {
	ps, err := carriersAt(o.pace())
	if err != nil {
		return nil, err
	}
	start := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC).Add(o.Begin)
	w := &world{o: o, start: start, end: start.Add(o.Span), profiles: ps, shares: shares}
	for i := range o.Sources {
		w.sources = append(w.sources, "ip"+strconv.Itoa(i+1))
	}
	for _, p := range ps {
		if w.shares[p.Name] == 0 {
			return nil, fmt.Errorf("carrier %s has no share of the traffic", p.Name)
		}
		w.people = append(w.people, w.settle(p))
	}
	moods := moodsAt(o.pace(), Moods{Seed: o.Seed, Carriers: ps, Sources: o.Sources, Span: o.Span})
	if w.moods, err = under(o.Weather, moods); err != nil {
		return nil, err
	}
	w.plan = w.drawPlan(w.dice(2))
	return w, nil
}

// dice is a source of chance of its own for each purpose, so that a change to
// one does not change the others.
func (w *world) dice(purpose uint64) *rand.Rand { return rand.New(rand.NewPCG(w.o.Seed, purpose)) }

// engine makes a carrier anew. All minds meet the same: the seed makes fates
// and moods.
func (w *world) engine(p *carriers.Profile, o carriers.Options) *carriers.Carrier {
	o.Seed = w.o.Seed
	return carriers.New(p, o)
}

// settle makes the addresses of a carrier and asks its engine for their fates.
func (w *world) settle(p *carriers.Profile) people {
	n := max(200, int(float64(w.o.Messages)*w.shares[p.Name]/mailsEach))
	c := w.engine(p, carriers.Options{})
	pp := people{addresses: make([]string, n), truth: make([]truth, n)}
	for i := range n {
		a := "u" + strconv.Itoa(i) + "@" + p.Domains[i%len(p.Domains)]
		pp.addresses[i], pp.truth[i] = a, truthOf(c, a)
		if pp.truth[i] == isUnknown {
			pp.unknown = append(pp.unknown, int32(i))
		}
	}
	return pp
}

func truthOf(c *carriers.Carrier, address string) truth {
	f, ok := c.FateOf(address)
	switch {
	case !ok:
		return takes
	case f.Kind == carriers.KindUnknown:
		return isUnknown
	case f.Kind == carriers.KindFull, f.Kind == carriers.KindFiltered:
		return refuses
	case f.Kind == carriers.KindBounce && f.Status == "5.1.1":
		return vanished
	}
	return takes
}

// exists reports whether there is such a mailbox.
func (t truth) exists() bool { return t != isUnknown && t != vanished }

// policyOf is a policy with the world's sources in one pool, and each carrier
// with the limits that limits gives it.
func (w *world) policyOf(limits func(p *carriers.Profile) *policy.Carrier) (*policy.Set, error) {
	var rs []policy.Resource
	pool := &policy.Pool{}
	for i, name := range w.sources {
		rs = append(rs, policy.Resource{Kind: policy.KindSource, Name: name, Spec: &policy.Source{Address: carriers.SourceAddress(i)}})
		pool.Sources = append(pool.Sources, policy.PoolMember{Name: name})
	}
	rs = append(rs, policy.Resource{Kind: policy.KindPool, Name: policy.DefaultName, Spec: pool})
	for _, t := range w.plan.tenants {
		rs = append(rs, policy.Resource{Kind: policy.KindTenant, Name: t, Spec: &policy.Tenant{}})
	}
	for _, p := range w.profiles {
		c := limits(p)
		c.Domains = slices.Clone(p.Domains)
		rs = append(rs, policy.Resource{Kind: policy.KindCarrier, Name: p.Name, Spec: c})
	}
	set, problems := policy.New(rs)
	if set == nil {
		return nil, fmt.Errorf("the simulated day's policy: %v", problems)
	}
	return set, nil
}

// written are the limits that are known of a carrier to everybody.
func written(p *carriers.Profile) *policy.Carrier {
	return &policy.Carrier{
		PerSource:                p.PerSource,
		MessagesPerConnection:    p.MessagesPerConnection,
		RecipientsPerConnection:  p.RecipientsPerConnection,
		RecipientsPerTransaction: 1,
	}
}
