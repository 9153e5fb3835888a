package steer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"hikyaku/controlplane/policy"
)

// Filter picks scores; empty fields pick all.
type Filter struct {
	Carrier, Source, Tenant, Domain string
	// Most bounds the answer; 0 is 1000.
	Most int
}

// Score is how well a source is liked at a carrier, or how well a tenant's, job's
// or sender domain's mail is, with the reasons.
type Score struct {
	Carrier string `json:"carrier,omitempty"`
	Site    string `json:"site,omitempty"`
	Source  string `json:"source,omitempty"`
	Tenant  string `json:"tenant,omitempty"`
	Job     string `json:"job,omitempty"`
	Domain  string `json:"domain,omitempty"`
	// Score is 100 for nothing wrong, 0 for the worst.
	Score int `json:"score"`
	// State and what follows are of a source at a carrier. LastGood is the rate at
	// which the carrier last throttled.
	State       string        `json:"state,omitempty"`
	Rate        *policy.Rate  `json:"rate,omitempty"`
	LastGood    *policy.Rate  `json:"last_good,omitempty"`
	Connections int           `json:"connections,omitempty"`
	PerDay      int64         `json:"per_day,omitempty"`
	Until       time.Time     `json:"until,omitzero"`
	Decision    string        `json:"decision,omitempty"`
	Windows     []WindowCount `json:"windows"`
	Reasons     []string      `json:"reasons,omitempty"`
	Replies     []string      `json:"replies,omitempty"`
}

// WindowCount is what was counted in one span, by category; categories that
// steering does not tell apart are together.
type WindowCount struct {
	Span   policy.Duration   `json:"span"`
	Counts map[string]uint32 `json:"counts"`
}

// What lowers a score: points for each percent of the replies of six hours.
var weights = [classes]float64{
	unknownUser: 5, content: 5, auth: 2, rate: 2, connections: 1, blocked: 10, disliked: 4, complained: 100,
}

// What states cost.
var statePoints = [...]int{slowed: 5, resting: 30, blockedOut: 60, trial: 40, retired: 100}

// Scores are the scores now, the worst first.
func (c *Controller) Scores(now time.Time, f Filter) []Score {
	t := c.forward(now)
	var list []Score
	for _, e := range c.lanes.entries {
		k := e.key
		if f.Tenant != "" || f.Domain != "" || f.Carrier != "" && f.Carrier != k.carrier || f.Source != "" && f.Source != k.source {
			continue
		}
		list = append(list, c.laneScore(e, t))
	}
	for _, e := range c.scopes.entries {
		k := e.key
		if f.Source != "" || f.Carrier != "" && f.Carrier != k.carrier || f.Tenant != "" && f.Tenant != k.tenant || f.Domain != "" && f.Domain != k.domain {
			continue
		}
		list = append(list, c.scopeScore(e, t))
	}
	slices.SortFunc(list, func(a, b Score) int {
		return cmp.Or(cmp.Compare(a.Score, b.Score), strings.Compare(a.Carrier, b.Carrier), strings.Compare(a.Site, b.Site), strings.Compare(a.Source, b.Source),
			strings.Compare(a.Tenant, b.Tenant), strings.Compare(a.Job, b.Job), strings.Compare(a.Domain, b.Domain))
	})
	most := f.Most
	if most <= 0 {
		most = 1000
	}
	return list[:min(len(list), most)]
}

func (c *Controller) laneScore(e *laneEntry, t instant) Score {
	l := &e.value
	s := Score{Carrier: e.key.carrier, Site: e.key.site, Source: e.key.source, Connections: l.conns, PerDay: c.perDay(e), Decision: l.decision, Replies: l.at.repliesOf(e.key.source)}
	s.State = l.state.String()
	if l.perSecond > 0 {
		s.Rate = rateOf(l.perSecond)
	}
	if l.knee > 0 {
		s.LastGood = rateOf(l.knee)
	}
	if l.until > 0 {
		s.Until = l.until.time()
	}
	points := float64(statePoints[l.state])
	if l.state != healthy {
		s.Reasons = append(s.Reasons, fmt.Sprintf("-%d: %s by %s", statePoints[l.state], l.state, l.reason))
	}
	s.judge(l.win, t, points)
	return s
}

func (c *Controller) scopeScore(e *scopeEntry, t instant) Score {
	k := e.key
	s := Score{Carrier: k.carrier, Tenant: k.tenant, Job: k.job, Domain: k.domain}
	points := 0.0
	if e.value.held {
		points = 50
		s.State = "held"
		for _, on := range [...]policy.Selector{{Tenant: k.tenant, Job: k.job}, {Tenant: k.tenant, Carrier: k.carrier}} {
			if h := c.holds[on]; h != nil && h.at == k {
				s.Until, s.Decision = h.until.time(), h.decision
				s.Reasons = append(s.Reasons, "-50: held by "+h.reason)
			}
		}
	}
	s.judge(&e.value.win, t, points)
	return s
}

// judge fills in what the windows say.
func (s *Score) judge(w *window, t instant, points float64) {
	if w == nil {
		w = &window{}
	}
	w.advance(t)
	for i := range windows {
		n := w.total(i)
		c := WindowCount{Span: policy.Duration(windowSlots * slotSpans[i]), Counts: map[string]uint32{}}
		for cl, v := range n {
			if v > 0 {
				c.Counts[classNames[cl]] = v
			}
		}
		s.Windows = append(s.Windows, c)
		if i != 1 {
			continue
		}
		all := n.replies()
		for cl, weight := range weights {
			if v := n[cl]; v > 0 && weight > 0 && all > 0 {
				part := 100 * float64(v) / float64(all)
				points += part * weight
				s.Reasons = append(s.Reasons, fmt.Sprintf("-%.3g: %s, %d of %d replies in 6h (%.2f %%)", part*weight, classNames[cl], v, all, part))
			}
		}
	}
	s.Score = 100 - int(min(points, 100))
}

// WarmUpProgress is where a warm-up is.
type WarmUpProgress struct {
	WarmUp  string    `json:"warm_up"` // the resource
	Carrier string    `json:"carrier"`
	Source  string    `json:"source"`
	Day     int       `json:"day"`  // from 1
	Days    int       `json:"days"` // in all
	PerDay  int64     `json:"per_day"`
	Sent    int64     `json:"sent"` // delivered today; at the default carrier at the busiest site
	Ends    time.Time `json:"ends"`
	Held    string    `json:"held,omitempty"` // why the day will not count
	Paused  bool      `json:"paused,omitempty"`
	Done    bool      `json:"done,omitempty"`
}

// Progress tells of all warm-ups, by carrier and source.
func (c *Controller) Progress(now time.Time) []WarmUpProgress {
	c.forward(now)
	var list []WarmUpProgress
	warm := slices.DeleteFunc(slices.Clone(c.bound), func(e *laneEntry) bool { return e.value.warm == nil || e.gone })
	slices.SortFunc(warm, byKey)
	for _, e := range warm {
		x := e.value.warm
		list = append(list, WarmUpProgress{
			WarmUp: x.name, Carrier: e.key.carrier, Source: e.key.source, Day: x.day + 1, Days: len(x.days), PerDay: x.cap(),
			Sent: x.sent, Ends: x.ends.time(), Held: x.bad, Paused: x.paused, Done: x.done,
		})
	}
	return list
}
