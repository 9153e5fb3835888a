package steer

import (
	"iter"
	"strings"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/reputation"
	"hikyaku/spool/message"
)

const (
	// maxReplayGap is the longest span without events that is gone through second
	// by second.
	maxReplayGap = 24 * time.Hour
	// afterReplay is how long the replay goes on after the last event.
	afterReplay = 10 * time.Second
	// MaxReplay bounds the decisions of a Replay.
	MaxReplay = 100_000
)

// Replay feeds recorded events, in the order of their time, through a new
// controller under another policy, and tells what it would have decided. The
// loop is open: what was decided does not change what was recorded after it, so
// only the first decisions about a source are what would have come; those behind
// them show how long the signs went on. classify gives an event's category; nil
// takes the one that was recorded.
func Replay(events iter.Seq[message.EventRecord], set *policy.Set, classify func(*message.EventRecord) reputation.Category) []keyspace.Decision {
	if classify == nil {
		classify = recorded
	}
	var r *replay
	for ev := range events {
		if r == nil {
			r = &replay{c: New(set, ev.Time), second: ev.Time.Truncate(time.Second)}
			r.clear()
		}
		r.until(ev.Time)
		r.take(&ev, classify(&ev))
		if len(r.list) >= MaxReplay {
			return r.list[:MaxReplay]
		}
	}
	if r != nil {
		r.until(r.second.Add(afterReplay))
		return r.list[:min(len(r.list), MaxReplay)]
	}
	return nil
}

// recorded is the category that an event has.
func recorded(ev *message.EventRecord) reputation.Category {
	switch ev.Type {
	case message.EventDelivered:
		return reputation.Delivered
	case message.EventComplained:
		return Complained
	case message.EventDeferred, message.EventBounced:
		if ev.Category != "" {
			return reputation.Category(ev.Category)
		}
		return reputation.Unknown
	}
	return reputation.Local
}

// replay is one that is going on. Rows keep the order in which they came, so
// that the same events give the same decisions.
type replay struct {
	c       *Controller
	second  time.Time // that is filling
	tallies []exchange.Tally
	samples []exchange.Sample
	places  map[exchange.Tally]int
	list    []keyspace.Decision
}

func (r *replay) clear() {
	r.tallies, r.samples = r.tallies[:0], r.samples[:0]
	r.places = map[exchange.Tally]int{}
}

// until goes on to the second of t.
func (r *replay) until(t time.Time) {
	t = t.Truncate(time.Second)
	for r.second.Before(t) {
		r.second = r.second.Add(time.Second)
		if len(r.tallies) > 0 {
			r.c.Observe(r.second, "", r.tallies, r.samples)
			r.clear()
		}
		r.list = append(r.list, r.c.Decide(r.second)...)
		if t.Sub(r.second) > maxReplayGap {
			r.second = t.Add(-time.Second)
		}
	}
}

func (r *replay) take(ev *message.EventRecord, category reputation.Category) {
	if _, ok := classOf(string(category)); !ok || ev.Carrier == "" {
		return
	}
	_, domain, _ := strings.Cut(ev.Sender, "@")
	row := exchange.Tally{
		Carrier: ev.Carrier, Site: ev.Destination, Source: ev.Source, Tenant: ev.Tenant, Stream: ev.Stream, Job: ev.Job,
		Domain: domain, Category: string(category),
	}
	if i, ok := r.places[row]; ok {
		r.tallies[i].N++
	} else {
		r.places[row] = len(r.tallies)
		row.N = 1
		r.tallies = append(r.tallies, row)
	}
	if ev.Reply != nil && category != reputation.Delivered && len(r.samples) < exchange.MaxSamples {
		r.samples = append(r.samples, exchange.Sample{
			Carrier: ev.Carrier, Source: ev.Source, Category: string(category), Phase: ev.Reply.Phase.String(), Code: ev.Reply.Code,
			Enhanced: ev.Reply.Enhanced.String(), Text: ev.Reply.Text[:min(len(ev.Reply.Text), 200)], N: 1,
		})
	}
}
