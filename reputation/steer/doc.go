// Package steer turns what carriers say into rates, states of sources, holds on
// tenants and the days of warm-ups, for the whole cluster. It is pure: no clock,
// no I/O, no lock; time is an argument. The same calls give the same answers.
//
// The leader has one Controller. It gives it each node's tallies (Observe) and asks
// once a second what follows (Decide). What is in force is a keyspace.Steering for
// each carrier that Dirty names; each Decision says what, by which rule, why, with
// replies, until when. Undo, Retire and Rest are an operator's word. Snapshot and
// Restore carry what was learnt to the next leader, Adopt what is in force.
//
//	tallies ──▶ windows (window.go)  ──▶ Scores
//	        ├─▶ lanes: a source at a carrier; at the default carrier, at a site
//	        │     rate         pilot.go, down.go, up.go
//	        │     connections  valve.go
//	        │     rests        rest.go
//	        │     warm-up      warmup.go
//	        └─▶ scopes: tenant, tenant at carrier, job, sender domain: guard.go
//
// # What is a sign
//
// Rate and reputation replies are signs that a source is too fast. Connection
// replies are signs about connections. Blocks are their own matter. Others count
// only in the mass:
//
//   - greylisting, when the source was known here and most of its mail is put off now
//   - recipients that get too much, when that is said of a twentieth of all
//   - the carrier's own trouble, when it meets a part of the mail: some carriers
//     say "service not available" to what is too fast
//   - no connection at all, while other sources of ours get through
//
// When nothing gets through from any source, the carrier has trouble. That is no
// verdict: rates go down, nobody rests, and afterwards all is as before.
//
// Chance makes signs too: half a percent, and two standard deviations, count as
// nothing. Where the part of signs is the same at three rates, each a sixth lower,
// it is not the rate that makes them, and they count as chance for six hours.
//
// # The rate
//
// A rate goes down at once and up slowly. What the carrier took while it
// complained is the knee: its limit, if it refuses only what is above it. The rate
// falls to a part of that: to Decrease, by default 50 % of a knee that was measured
// on few messages and 80 % of one that was on many; half as far if it was only a
// step too far; to 90 % where hardly any were refused. It comes back: doubling to
// 90 % of the knee, by steps to 98 %, and there it stays. A probe beyond comes after
// a wait, 4 to 32 times Every, that doubles each time it finds the limit where it was,
// and is at least 20 times what the last failed probe cost: so probes cost a twentieth
// of the mail, also at carriers that punish them. While probes hold, they double.
// Where a second one in a row holds, the other sources at the carrier probe too, since
// many change their mind about all of a sender's sources at once. A limit that has
// risen is found within 40 minutes by default (TestFindsARaisedLimit); a limit that
// fell is obeyed within 10 seconds of the first refusals (TestObeysALoweredLimit).
//
// Signs are counted once. After a decrease those of mail that was sent before it
// come in for a while; they mean nothing until attempts have come down to the new
// rate, at most 6 s. A rate rises only where it is used: what nobody asks for
// proves nothing. Slow lanes are judged by messages and not by seconds: 20 at a rate
// near the knee before it is believed, fewer where the step is large and its
// excess shows sooner. Steps are a tenth of the rate at most, a quarter below 2/s,
// but up to 0.25/s always: all that is refused before the control has come round is
// held against the source. For the same reason no step comes within 5 s of the one
// before, whatever Every is. Where a limit fell and rises again within two hours,
// steps go half the way back, by 2/s at most.
//
// A source without history is bounded from its first mail where policy gives it a
// Start. Otherwise nothing bounds it but policy, until the first sign.
//
// # States
//
//	from        to          action     when
//	healthy     slowed      slow       more signs than chance, less than all replies; or of too many connections
//	slowed      slowed      slow       the same at the lower rate
//	slowed      slowed      raise      the carrier takes a quarter more than was known
//	any         resting     rest       nine of ten replies are signs, of five or of hardly any that were tried;
//	                                   five decreases in a row; signs at the floor
//	any         blocked     block      two replies refuse the source with nothing delivered between, or a tenth of all
//	resting     probation   probation  the rest is over: 2 × Every, doubling to Rest; or what a reply asks for
//	blocked     probation   probation  the rest is over: Rest, doubling to 24 h
//	probation   slowed      recover    5 delivered, at most a fifth of the replies signs: on at a quarter of the knee
//	probation   resting     rest       a fifth of the replies are signs
//	probation   blocked     block      the source is refused again
//	slowed      healthy     recover    no sign at the ceiling; or none for 24 h (2 h at a site of the default carrier)
//	any         retired     retire     an operator says so
//	retired     healthy     undo       an operator says so
//
// Rests and blocks in a row are forgotten one each two Rests: by default one an
// hour. Probation is a twentieth of
// the knee, at most 1/s, over one connection; that stands in the Course of the rest
// already, since nodes go on by themselves when it ends. A lane that is warming is
// called that while it is healthy or slowed.
//
// # The guard
//
// A tenant at a carrier is held when too many of its last recipients are unknown,
// are refused for authentication, or complain; its job alone if the job is to
// blame: by itself above the bound, and the rest of the tenant's mail below it. A
// ratio counts as it is for a full sample; from 50 recipients on, by the lower end
// of Wilson's interval (99.5 %); for fewer not at all. Complaints need five.
//
// # Warm-ups
//
// A day is 24 hours from the start. It counts when half of its messages were
// delivered and there was no bad sign; else it is had again. A block goes back a day
// at once.
//
// # What is always true
//
//   - No rate in force is below the floor, or above policy's.
//   - Counts end at a million of a kind in a second: no report, however absurd,
//     makes a sum go round.
//   - In a dry run all is decided and recorded, and nothing is in force.
//   - A new leader never is further in a warm-up than the old one was: what it has
//     not heard of does not count. It may hold a day once more than needed.
//   - A lane has at most 40 decisions in an hour at the default Every; in steady
//     state it is 3 to 10 (TestSteadyCarriers).
//   - Memory is bounded: 24,000 lanes, 16,000 scopes, 120 MB. What was used longest
//     ago gives way, and is counted (Metrics); what is in force does not.
//
// Not guaranteed: a carrier that blocks within the three seconds in which a report,
// a decision and its way back take, cannot be foreseen. A start below its limit and
// small steps are all that helps.
//
// Read controller.go, then lane.go, pilot.go, down.go, up.go.
package steer
