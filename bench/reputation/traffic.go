package reputation

import (
	"math"
	"math/rand/v2"
	"time"

	"hikyaku/spool/message"
)

// The tenants of the day.
const (
	tenantShop     = "shop"     // receipts all day, campaigns now and then
	tenantNews     = "news"     // campaigns at full hours
	tenantBank     = "bank"     // urgent, all day
	tenantCareless = "careless" // campaigns to a list that nobody has cleaned
)

// Parts of the day's mail, and how many of the careless tenant's recipients
// do not exist.
const (
	steadyPart      = 0.38 // the rest are campaigns
	urgentPart      = 0.3  // of what is steady
	carelessPart    = 0.02 // of all
	carelessUnknown = 0.18
)

// How long mail is worth sending.
const (
	urgentFor   = 30 * time.Minute
	steadyFor   = 4 * time.Hour
	campaignFor = 8 * time.Hour
)

// ingestPerSecond is how fast a campaign is handed in.
const ingestPerSecond = 60

// plan is the traffic of the day.
type plan struct {
	tenants   []string
	campaigns []campaign
	steady    float64 // messages a second, in the mean of a whole day
	mix       []float64
}

type campaign struct {
	tenant, job string
	at          time.Time
	size        int
	unknown     float64 // part that is addressed to nobody
}

// campaignHours are when campaigns of a day begin, and their weights.
var campaignHours = []struct {
	hour   int
	tenant string
	weight float64
}{{7, tenantNews, 1}, {8, tenantShop, 1}, {10, tenantNews, 2}, {12, tenantShop, 2}, {12, tenantNews, 1.5}, {15, tenantNews, 1}, {17, tenantShop, 1.5}, {18, tenantNews, 2}, {20, tenantShop, 2}, {21, tenantNews, 1}}

var carelessHours = []int{9, 11, 16, 19}

func (w *world) drawPlan(r *rand.Rand) plan {
	p := plan{tenants: []string{tenantShop, tenantNews, tenantBank, tenantCareless}}
	total := 0.0
	for _, c := range w.profiles {
		total += w.shares[c.Name]
		p.mix = append(p.mix, total)
	}
	if w.o.Quick {
		p.steady = float64(w.o.Messages) / w.o.Span.Seconds()
		return p
	}
	p.steady = float64(w.o.Messages) * steadyPart / (24 * 3600)
	sum := 0.0
	for _, h := range campaignHours {
		sum += h.weight
	}
	bulk := float64(w.o.Messages) * (1 - steadyPart - carelessPart)
	midnight := w.start.Truncate(24 * time.Hour)
	add := func(hour int, tenant string, size, unknown float64) {
		size *= 0.8 + 0.4*r.Float64()
		for at := midnight.Add(time.Duration(hour) * time.Hour); at.Before(w.end); at = at.Add(24 * time.Hour) {
			if !at.Before(w.start) {
				p.campaigns = append(p.campaigns, campaign{tenant, tenant + at.Format("-02-15"), at, int(size), unknown})
			}
		}
	}
	for _, h := range campaignHours {
		add(h.hour, h.tenant, bulk*h.weight/sum, 0)
	}
	for _, h := range carelessHours {
		add(h, tenantCareless, float64(w.o.Messages)*carelessPart/float64(len(carelessHours)), carelessUnknown)
	}
	return p
}

// arrival is one message that is handed in.
type arrival struct {
	carrier  int
	person   int32
	tenant   string
	job      string
	priority message.Priority
	lasts    time.Duration
}

// traffic draws what is handed in, second by second. All minds draw the same.
type traffic struct {
	w    *world
	r    *rand.Rand
	sent []int // of each campaign
	owed float64
	out  []arrival
}

func (w *world) newTraffic() *traffic {
	return &traffic{w: w, r: w.dice(3), sent: make([]int, len(w.plan.campaigns))}
}

// second is what is handed in within the second that begins now. The slice
// holds until the next call.
func (t *traffic) second(now time.Time) []arrival {
	t.out = t.out[:0]
	if t.w.o.Quick {
		return t.quickly()
	}
	hour := now.Sub(now.Truncate(24 * time.Hour)).Hours()
	// Least at four in the morning, most at four in the afternoon.
	t.owed += t.w.plan.steady * (1 - 0.7*math.Cos((hour-4)/12*math.Pi)) * (0.5 + t.r.Float64())
	for ; t.owed >= 1; t.owed-- {
		if t.r.Float64() < urgentPart {
			t.draw(arrival{tenant: tenantBank, priority: message.High, lasts: urgentFor}, 0)
		} else {
			t.draw(arrival{tenant: tenantShop, priority: message.Normal, lasts: steadyFor}, 0)
		}
	}
	for i, c := range t.w.plan.campaigns {
		if now.Before(c.at) {
			continue
		}
		for n := min(ingestPerSecond, c.size-t.sent[i]); n > 0; n-- {
			t.sent[i]++
			t.draw(arrival{tenant: c.tenant, job: c.job, priority: message.Low, lasts: campaignFor}, c.unknown)
		}
	}
	return t.out
}

// draw picks the recipient.
func (t *traffic) draw(a arrival, unknown float64) {
	x := t.r.Float64() * t.w.plan.mix[len(t.w.plan.mix)-1]
	for a.carrier = 0; x >= t.w.plan.mix[a.carrier]; {
		a.carrier++
	}
	p := &t.w.people[a.carrier]
	a.person = int32(t.r.IntN(len(p.addresses)))
	if t.r.Float64() < unknown && len(p.unknown) > 0 {
		a.person = p.unknown[t.r.IntN(len(p.unknown))]
	}
	t.out = append(t.out, a)
}
