// Package reputation compares ways to treat carriers over one simulated day:
// how much is delivered, how soon, and at which price in violations, blocks and
// reputation. It asks whether what hikyaku learns from replies is worth it.
//
// # The world
//
// The real scheduler (package scheduler) gives out mail of a day's traffic, in
// virtual time, to the engines of package bench/carriers, which enforce limits
// and punish. What a carrier enforces on a source is not what is written about
// it: it is a multiple that nobody is told, differs from source to source, and
// changes during the day, up and down (hidden.go). Some sources fall from
// favour for hours. One tenant has a careless list (traffic.go). Replies are
// those of the carriers' shapes: 5xx that mean "too fast", one text with two
// meanings, a reset without a word (world/carriers.yaml).
//
// # The minds
//
// A mind reads replies and steers; everything else is the same for all of them:
// traffic, carriers, hidden limits, chance, retry schedule, scheduler.
//
//	unlimited   sends as fast as connections carry
//	fixed       keeps to what is written about each carrier
//	text rules  fixed, and pauses or slows a source for a fixed time when a
//	            text was seen so often in an hour (rules.yaml), as rivals do
//	ours        reputation.Rules and reputation/steer, decisions each second,
//	            in force a second later, as by the exchange
//	oracle      knows every hidden limit at every moment, and who exists. No
//	            sender can: it is the measure
//
// Weather makes days harder (weather.go): limits that halve within a second, that
// fall everywhere at once, a carrier that is shut for an hour. The quick world
// (quick.go) is the day 60 times as quick, but for the wire and the control loop: that
// of package bench/scenario's real minutes, to look at what goes wrong there.
//
// # What the world does not have
//
// Several nodes, and mail lost between them: it is one scheduler with all sources.
// Recipients whose own settings refuse them in the very words of an unknown user
// at RCPT, as some at au: no sender can tell, and none is asked to. Deaths of the
// control plane: package bench/fault has them.
//
// INVARIANT: a mind sees replies and the time, and what its own mail came to;
// never a profile, a mood or a fate. Only the oracle is given the world.
//
// INVARIANT: two runs of one seed are the same, event for event.
//
// Read reputation.go first, then world.go, hidden.go, traffic.go, day.go,
// session.go, mind.go and the minds.
package reputation
