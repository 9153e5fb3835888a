package scheduler

import (
	"fmt"
	"strings"
	"time"

	"hikyaku/spool/message"
)

func bySource(_ *message.Delivery, l Lane) string { return l.Source }

func bySite(_ *message.Delivery, l Lane) string {
	return strings.TrimSuffix(strings.TrimPrefix(l.Site, "mx."), ".example")
}

var threeToOne = []string{"Source a {}", "Source b {}", `Pool default {"sources":[{"name":"a","weight":30},{"name":"b","weight":10}]}`}

var moreTales = []tale{
	{
		name:   "backoff",
		about:  "A site that is down until 20:00: one connection is tried after 1, 2, 4, 8 … minutes; then all goes.",
		policy: []string{`Carrier default {"backoff":"60s"}`},
		tell: func(st *story) {
			st.step = time.Minute
			st.dead = func(_ string, at time.Duration) bool { return at < 20*time.Minute }
			st.at(0, func() { st.accept(key("a.dead.example", "red"), 100) })
		},
		until: 35 * time.Minute,
	},
	{
		name:   "dead_site",
		about:  "200 dead sites with 20 messages each beside one that lives, with 50 connections in all.",
		cfg:    Config{MaxSessions: 50},
		policy: []string{`Carrier default {"per_source":{"connections":4}}`},
		tell: func(st *story) {
			st.label = func(*message.Delivery, Lane) string { return "alive" }
			st.dead = func(site string, _ time.Duration) bool { return site != "mx.alive.example" }
			st.at(0, func() {
				for i := range 200 {
					st.accept(key(fmt.Sprintf("a.dead%d.example", i), "red"), 20)
				}
			})
			st.stream(key("a.alive.example", "blue"), 0, 20*sec, 10*time.Millisecond)
		},
		until: 22 * sec,
	},
	{
		name:   "ramp",
		about:  "1 connection until it is greeted, which takes 30 ms, then twice as many each time, up to 12. Each message takes 500 ms.",
		policy: []string{`Carrier default {"per_source":{"connections":12}}`},
		tell: func(st *story) {
			st.step = 30 * time.Millisecond
			st.latency = func(Lane) time.Duration { return 500 * time.Millisecond }
			st.at(0, func() { st.accept(key("a.example", "red"), 200) })
		},
		until: 900 * time.Millisecond,
	},
	{
		name:   "connections",
		about:  "A carrier that takes 4 connections in all, with two sites: what one site's sessions leave goes to the other.",
		policy: []string{`Carrier big {"mx":["mx.one.example","mx.two.example"],"limits":{"connections":4}}`},
		tell: func(st *story) {
			st.label = bySite
			st.most = 20
			st.latency = func(Lane) time.Duration { return 50 * time.Millisecond }
			st.at(0, func() { st.accept(key("a.one.example", "red"), 1000) })
			st.at(2*sec, func() { st.accept(key("a.two.example", "red"), 300) })
		},
		until: 19 * sec,
	},
	{
		name: "crowd",
		about: "A peer takes 3 connections at once, where policy allows 20, and says so only by refusing more; after 4 minutes it takes 12, after 8 minutes 2.\n" +
			"# A session carries 20 messages of 300 ms. The lane finds how many, tries one more ever more rarely, and never stands still.",
		policy: []string{`Carrier default {"per_source":{"connections":20}}`},
		tell: func(st *story) {
			st.step = 20 * sec
			st.most = 20
			st.label = func(*message.Delivery, Lane) string { return "sent" }
			st.latency = func(Lane) time.Duration { return 300 * time.Millisecond }
			st.takes = func(at time.Duration) int {
				switch {
				case at < 4*time.Minute:
					return 3
				case at < 8*time.Minute:
					return 12
				}
				return 2
			}
			st.at(0, func() { st.accept(key("a.example", "red"), 40_000) })
		},
		until: 14 * time.Minute,
	},
	{
		name:   "pool",
		about:  "A pool of a and b with weights 3 to 1.",
		policy: append([]string{`Carrier default {"per_source":{"connections":3}}`}, threeToOne...),
		tell: func(st *story) {
			st.label = bySource
			st.stream(key("a.example", "red"), 0, 10*sec, 10*time.Millisecond)
		},
		until: 11 * sec,
	},
	{
		name:   "pool_slow",
		about:  "Weights 3 to 1, but a takes 1 s for each message: b carries what a cannot.",
		policy: append([]string{`Carrier default {"per_source":{"connections":3}}`}, threeToOne...),
		tell: func(st *story) {
			st.label = bySource
			st.latency = func(l Lane) time.Duration {
				if l.Source == "a" {
					return sec
				}
				return 20 * time.Millisecond
			}
			st.stream(key("a.example", "red"), 0, 10*sec, 20*time.Millisecond)
		},
		until: 11 * sec,
	},
	{
		name:   "pool_budget",
		about:  "Weights 3 to 1, each source at most 20/s: b carries what a may not.",
		policy: append([]string{`Carrier default {"per_source":{"rate":"20/s"}}`}, threeToOne...),
		tell: func(st *story) {
			st.label = bySource
			st.at(0, func() { st.accept(key("a.example", "red"), 300) })
		},
		until: 9 * sec,
	},
	{
		name:   "policy",
		about:  "20/s with a burst of 100 that has filled up. At 12 s, with the burst spent, policy becomes 40/s with the same burst, at 16 s 5/s: no change brings a new burst.",
		policy: []string{`Carrier default {"limits":{"rate":"20/s,burst=100"}}`},
		tell: func(st *story) {
			change := func(rate string) func() {
				return func() {
					st.s.SetPolicy(st.now, policyOf(st.t, "Source default {}", `Carrier default {"limits":{"rate":"`+rate+`,burst=100"}}`))
				}
			}
			st.at(0, func() { st.accept(key("a.example", "red"), 1) })
			st.at(8*sec, func() { st.accept(key("a.example", "red"), 900) })
			st.at(12*sec, change("40/s"))
			st.at(16*sec, change("5/s"))
		},
		until: 20 * sec,
	},
	{
		name:   "hold",
		about:  "20/s for red and blue. Red is held from 3 s to 6 s, the source from 9 s to 11 s.",
		policy: []string{`Carrier default {"limits":{"rate":"20/s"}}`},
		tell: func(st *story) {
			st.at(0, func() { st.accept(key("a.example", "red"), 300); st.accept(key("a.example", "blue"), 300) })
			st.at(3*sec, func() { st.s.Hold(st.now, Hold{ID: "1", Scope: message.Scope{Tenant: "red"}}) })
			st.at(6*sec, func() { st.s.Release(st.now, "1") })
			st.at(9*sec, func() { st.s.Hold(st.now, Hold{ID: "2", Scope: message.Scope{Source: "default"}}) })
			st.at(11*sec, func() { st.s.Release(st.now, "2") })
		},
		until: 14 * sec,
	},
	{
		name:   "job",
		about:  "Jobs one and two at 40/s. One is paused at 2 s, goes on at 4 s with 5/s, with 0/s at 7 s, with 15/s at 9 s, and without a rate at 12 s.",
		policy: []string{`Carrier default {"limits":{"rate":"40/s"}}`},
		tell: func(st *story) {
			st.label = func(d *message.Delivery, _ Lane) string { return d.Queue.Job }
			st.at(0, func() {
				st.accept(key("a.example", "red", "job=one"), 500)
				st.accept(key("a.example", "red", "job=two"), 500)
			})
			for at, c := range map[time.Duration]string{2: "paused", 4: "5/s", 7: "0/s", 9: "15/s", 12: ""} {
				st.at(at*sec, func() {
					if c == "paused" {
						st.s.SetJob(st.now, "red", "one", JobControl{Paused: true})
						return
					}
					st.s.SetJob(st.now, "red", "one", JobControl{Rate: rateOf(st.t, c)})
				})
			}
		},
		until: 15 * sec,
	},
	{
		name:   "slow",
		about:  "10/m: six seconds between messages, and sessions that close after five without work.",
		policy: []string{`Carrier default {"limits":{"rate":"10/m"}}`},
		tell: func(st *story) {
			st.step = 2 * sec
			st.at(0, func() { st.accept(key("a.example", "red"), 20) })
		},
		until: time.Minute,
	},
	{
		name:   "max_sessions",
		about:  "100 sites with 30 messages of 200 ms each and 10 connections in all; each session carries 10.",
		cfg:    Config{MaxSessions: 10},
		policy: []string{`Carrier default {"per_source":{"connections":2}}`},
		tell: func(st *story) {
			st.step = 5 * sec
			st.most = 10
			st.latency = func(Lane) time.Duration { return 200 * time.Millisecond }
			st.label = func(*message.Delivery, Lane) string { return "sent" }
			st.at(0, func() {
				for i := range 100 {
					st.accept(key(fmt.Sprintf("a.s%02d.example", i), "red"), 30)
				}
			})
		},
		until: 75 * sec,
	},
	{
		name:   "newcomer",
		about:  "Each message of red is a job of its own, twice as many as go at 20/s. Those that came first leave first: how old the jobs are that leave, in seconds.",
		policy: []string{`Carrier default {"limits":{"rate":"20/s"}}`},
		tell: func(st *story) {
			st.label = func(d *message.Delivery, _ Lane) string {
				return fmt.Sprintf("%02d", int(st.now.Sub(d.Accepted)/sec))
			}
			for i := range 400 {
				st.at(time.Duration(i)*25*time.Millisecond, func() { st.accept(key("a.example", "red", fmt.Sprintf("job=j%d", i)), 1) })
			}
		},
		until: 21 * sec,
	},
	{
		name:   "urgent",
		about:  "Low mail for 2000 sites fills memory, the pages, the look-ups and the connections. High mail for a site of its own leaves within 200 ms, each second.",
		cfg:    Config{MaxLoaded: 200, MaxPaging: 1, MaxResolving: 2, MaxSessions: 40},
		policy: []string{`Stream default {}`},
		tell: func(st *story) {
			st.label = func(d *message.Delivery, _ Lane) string {
				switch {
				case d.Queue.Priority != message.High:
					return "low"
				case st.now.Sub(d.Accepted) > 200*time.Millisecond:
					return "TOO LATE"
				}
				return "high"
			}
			st.latency = func(Lane) time.Duration { return 100 * time.Millisecond }
			st.at(0, func() {
				for i := range 2000 {
					st.accept(key(fmt.Sprintf("a.s%04d.example", i), "red", "priority=low"), 5)
				}
			})
			for i := range 12 {
				st.at(time.Duration(i)*sec+500*time.Millisecond, func() {
					st.accept(key(fmt.Sprintf("a.h%d.example", i), "red", "priority=high"), 1)
				})
			}
		},
		until: 13 * sec,
	},
}
