package scheduler

import (
	"fmt"
	"time"

	"hikyaku/controlplane/policy"
)

// steer does what the control plane may decide at any moment: courses and holds
// come, change and go, and with them the refuges of mail.
func (m *sim) steer() {
	r, old := m.rnd, m.steering
	x := &policy.Steering{Revision: 1, Lanes: map[policy.Steered]*policy.Course{}, Holds: map[policy.Selector]*policy.Held{}}
	if old != nil && m.chance(70) {
		x.Revision = old.Revision + 1
		for k, c := range old.Lanes {
			if m.chance(70) {
				x.Lanes[k] = c
			}
		}
		for k, h := range old.Holds {
			if m.chance(50) {
				x.Holds[k] = h
			}
		}
	}
	sources := []string{"default", "ip1", "ip2", "ip3"}
	for range r.IntN(4) {
		on := policy.Steered{Carrier: pick(r, "big", "big", policy.DefaultName), Source: pick(r, sources...)}
		if on.Carrier == policy.DefaultName && m.chance(50) {
			on.Site = pick(r, "mx.small.example", "mx.flaky.example")
		}
		x.Lanes[on] = m.randomCourse()
	}
	for range r.IntN(2) {
		on := pick(r, policy.Selector{Tenant: "red"}, policy.Selector{Tenant: "blue", Carrier: "big"}, policy.Selector{Tenant: "red", Stream: "bulk"}, policy.Selector{Tenant: "blue", Job: "j1"})
		x.Holds[on] = &policy.Held{Until: policy.At(m.now.Add(time.Duration(r.IntN(200)) * time.Second)), Decision: fmt.Sprint(m.steps)}
	}
	if m.chance(40) {
		refuges := map[Refuge]bool{}
		for range r.IntN(4) {
			refuges[Refuge{pick(r, "default", "two", "empty"), pick(r, "big", "default")}] = true
		}
		m.note("refuges %v", refuges)
		m.s.SetRefuges(m.now, refuges)
	}
	m.setSteering(x)
}

func (m *sim) randomCourse() *policy.Course {
	r := m.rnd
	c := &policy.Course{State: policy.StateSlowed, Decision: fmt.Sprint(m.steps), Reason: "test"}
	switch r.IntN(5) {
	case 0:
		c.State = pick(r, policy.StateRetired, policy.StateHealthy)
	case 1, 2:
		c.State, c.Rests = policy.StateResting, policy.At(m.now.Add(time.Duration(r.IntN(300))*time.Second))
	case 3:
		c.State, c.PerDay = policy.StateWarming, 40+r.Int64N(50)
	}
	if m.chance(50) {
		c.Rate = &policy.Rate{N: 1 + r.Int64N(20), Per: time.Second}
	}
	if m.chance(30) {
		c.Connections = 1 + r.IntN(3)
	}
	return c
}

func (m *sim) setSteering(x *policy.Steering) {
	c := x.Since(m.steering)
	m.note("steering %+v", c)
	m.steering = x
	m.watch.limits(m)
	m.s.SetSteering(m.now, m.s.set.WithSteering(x), c)
	m.watch.limits(m)
	if len(m.s.Stranded(m.now, 100)) > 0 {
		m.seen.stranded++
	}
}

// steeredHere checks what must hold for a dispatch while decisions are in force.
func (m *sim) steeredHere(l Lane, v *Dispatch) {
	q := &v.Delivery.Queue
	if c := m.s.set.CourseOf(v.Carrier, l.Site, l.Source); c.Resting(m.now) {
		m.fail("%s went from %s, which rests: %+v", v.Delivery.ID, l.Source, c)
	}
	if h := m.s.set.HeldAt(m.now, q.Tenant, v.Carrier, q.Stream, q.Job); h != nil {
		m.fail("%s went although decision %s holds it", v.Delivery.ID, h.Decision)
	}
	if m.steering != nil && len(m.steering.Lanes) > 0 {
		m.seen.steered++
	}
}

// mayOpenHere checks that no connection is asked for from a source that rests.
func (m *sim) mayOpenHere(a *Action) {
	if c := m.s.set.CourseOf(a.Carrier, a.Lane.Site, a.Lane.Source); c.Resting(m.now) {
		m.fail("a connection of %v is asked for, which rests: %+v", a.Lane, c)
	}
}
