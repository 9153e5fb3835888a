package reputation

import (
	"time"

	"hikyaku/bench/carriers"
	"hikyaku/controlplane/policy"
)

// oracle knows what each carrier allows each source at each moment, and who
// exists.
type oracle struct {
	w      *world
	next   int // in w.moods
	now    map[policy.Steered]policy.Limits
	truths map[string]*carriers.Carrier
	window map[string]bool // carriers in their first minutes of an hour
}

func (o *oracle) limits(written *policy.Carrier) *policy.Carrier {
	c := *written
	c.PerSource = policy.Limits{}
	return &c
}

func (o *oracle) begin(time.Time, *policy.Set) {
	o.now, o.truths, o.window = map[policy.Steered]policy.Limits{}, map[string]*carriers.Carrier{}, map[string]bool{}
	for _, p := range o.w.profiles {
		o.truths[p.Name] = o.w.engine(p, carriers.Options{})
	}
}

// exists lets the day leave out who does not.
func (o *oracle) exists(t truth) bool { return t != isUnknown }

func (o *oracle) read(m *met) reading {
	if m.to == "" || m.reply.Code < 400 {
		return reading{}
	}
	t := truthOf(o.truths[m.carrier], m.to)
	switch {
	case m.complaint:
		return reading{final: true, suppress: true}
	case t == refuses, !t.exists():
		return reading{final: true, suppress: !t.exists()}
	}
	return reading{}
}

func (o *oracle) second(now time.Time) (*policy.Steering, bool) {
	changed := false
	for ; o.next < len(o.w.moods) && !o.w.start.Add(o.w.moods[o.next].After).After(now); o.next++ {
		m := &o.w.moods[o.next]
		o.now[policy.Steered{Carrier: o.w.profiles[m.Carrier].Name, Source: o.w.sources[m.Source]}] = m.Limits
		changed = true
	}
	for _, p := range o.w.profiles {
		if t := p.TopOfHour; t != nil {
			in := t.In(now)
			changed = changed || in != o.window[p.Name]
			o.window[p.Name] = in
		}
	}
	if !changed {
		return nil, false
	}
	x := &policy.Steering{Lanes: map[policy.Steered]*policy.Course{}}
	for on, l := range o.now {
		c := &policy.Course{State: policy.StateSlowed, Rate: l.Rate, Connections: l.Connections, PerDay: l.PerDay}
		if o.window[on.Carrier] {
			c.Rate = slower(c.Rate, o.hourly(on.Carrier))
		}
		x.Lanes[on] = c
	}
	return x, true
}

func (o *oracle) hourly(carrier string) *policy.Rate {
	return &o.truths[carrier].Profile().TopOfHour.Rate
}

func slower(a, b *policy.Rate) *policy.Rate {
	if a == nil || b != nil && float64(b.N)/float64(b.Per) < float64(a.N)/float64(a.Per) {
		return b
	}
	return a
}
