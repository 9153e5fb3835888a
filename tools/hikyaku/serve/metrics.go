package serve

import (
	"hikyaku/controlplane/access"
	policyapi "hikyaku/controlplane/api"
	"hikyaku/controlplane/exchange"
	"hikyaku/node/api"
	"hikyaku/node/attach"
	"hikyaku/node/control"
	"hikyaku/node/gossip"
	"hikyaku/tools/hikyaku/build"
)

// This file puts the counters of all parts of a process before the two
// packages that print them: node/api the node's, controlplane/api the rest.

// decides is what the control plane, the policy store and the admin API count.
func (p *process) decides(guard *access.Guard) policyapi.Metrics {
	var m policyapi.Metrics
	d := p.open()
	if d != nil {
		control, stored := d.control.Metrics(), d.store.Metrics()
		m.Control, m.Store = &control, &stored
	}
	admin := guard.Metrics()
	m.Admin = &admin
	if p.node == nil {
		m.Process = &policyapi.ProcessMetrics{Name: p.cfg.Node.Name, Version: build.This().Version, Started: p.started, Ready: d != nil}
	}
	return m
}

// joins is what ties the node to others, and what a person should look at.
func (p *process) joins() *api.Cluster {
	c := &api.Cluster{}
	if p.steering != nil {
		s := p.steering.Status()
		c.Control, c.Alarms = controlMetrics(&s, p.steering.Metrics()), s.Alarms
	}
	f := p.follower.Status()
	if f.Alarm != "" {
		c.Alarms = append(c.Alarms, f.Alarm)
	}
	if d := p.open(); d != nil {
		if why := d.store.Degraded(); why != "" {
			c.Alarms = append(c.Alarms, "policy store: "+why)
		}
	}
	if p.node != nil {
		c.Alarms = append(c.Alarms, p.node.SenderAlarms()...)
	}
	m := p.follower.Metrics()
	c.Policy = api.PolicyMetrics{
		Connected: f.Connected, Age: f.Age.Seconds(), Alarm: f.Alarm != "",
		Applied: m.Applied, Refused: m.Refused, WentBack: m.WentBack, Forked: m.Forked, SaveFailed: m.SaveFailed, Reconnected: m.Reconnected,
		Steered: m.Steered, SteeringRevision: f.Steered,
	}
	if g := p.rumours.gossip; g != nil {
		c.Gossip = gossipMetrics(g.Metrics())
	}
	if p.addresses != nil {
		c.Attach = attachMetrics(p.addresses.Metrics())
	}
	return c
}

// sourceStates are the states of control.SourceStatus, and "faulty" for a
// source that the node has and cannot use.
var sourceStates = []string{"attaching", "ready", "ending", "released", "faulty"}

func controlMetrics(s *control.Status, m control.Metrics) api.ControlMetrics {
	out := api.ControlMetrics{
		Alarms: len(s.Alarms), Registered: s.Registered, LeaseLeft: s.Holds.Seconds(), GrantsLeft: s.GrantsLeft.Seconds(), Grants: s.Grants,
		Floor: float64(s.Floor) / exchange.FullShare, Rank: s.Rank, Members: s.Members, Term: s.Term, Revision: s.Revision, Sources: map[string]int{},
		Registrations: m.Registrations, Losses: m.Losses, Renewals: m.Renewals, Exchanges: m.Exchanges, ExchangeErrors: m.ExchangeErrors,
		StaleAnswers: m.StaleAnswers, GrantsLapsed: m.GrantsRunOut, ConnectionsCut: m.CutConnections, WatchRestarts: m.WatchBreaks,
	}
	if s.LastExchange >= 0 {
		age := s.LastExchange.Seconds()
		out.ExchangeAge = &age
	}
	for _, state := range sourceStates {
		out.Sources[state] = 0
	}
	for i := range s.Sources {
		if s.Sources[i].Fault != "" {
			out.Sources["faulty"]++
		} else {
			out.Sources[s.Sources[i].State]++
		}
	}
	return out
}

func gossipMetrics(m gossip.Metrics) *api.GossipMetrics {
	return &api.GossipMetrics{
		Members: m.Members, Lost: m.Lost, Warnings: m.Warnings, Health: m.Health,
		Joined: m.Joined, Gone: m.Gone, Refused: m.Refused, Conflicts: m.Conflicts, JoinsFailed: m.JoinsFailed, StatesHeard: m.StatesHeard,
		WarningsSent: m.WarningsSent, WarningsHeard: m.WarningsHeard, Repeated: m.WarningsRepeated, Dropped: m.WarningsDropped,
		Unreadable: m.Unreadable, Foreign: m.Foreign, Complaints: m.Complaints,
	}
}

func attachMetrics(m attach.Metrics) api.AttachMetrics {
	return api.AttachMetrics{Attached: m.Attached, Attaches: m.Attaches, Detaches: m.Detaches, Failures: m.Failures, Commands: m.Commands, AnnounceFailed: m.AnnounceFailed}
}
