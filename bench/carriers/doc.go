// Package carriers simulates mailbox providers: what they take, how fast, what
// they say when it is too much, and how they punish a source that goes on. Each
// carrier is a Profile, written in YAML (profiles/*.yaml). A profile is a
// model, built from public texts and rules of thumb. It is not a measurement of
// the provider whose shape it has.
//
// # The engine
//
// Carrier is pure: no clock, no goroutine, no I/O, no lock. Time comes in as an
// argument, so that a simulated day takes as long as its arithmetic. Connect
// makes a Session, whose methods are the phases of SMTP; each gives an Answer:
// what to say, after which delay, and whether the connection ends. Chance comes
// from the seed, and the fate of a recipient from a hash of its address, so
// that the same run gives the same answers.
//
// # Limits and violations
//
// A limit is enforced and measured at once: what exceeds it is refused, and
// noted as a Violation. An ordinary refusal (a full mailbox, greylisting, a
// deferral by chance, the top of the hour) is none. What "measured" means, for
// each limit by its name in policy:
//
//	rate                 MAIL commands, refused ones too. In every span W there
//	                     may be at most rate × (W + tolerance) + burst. Each
//	                     command counts at the earliest time at which it can
//	                     have been sent (arrival.go), so that a reply that the
//	                     carrier itself holds back accuses nobody
//	connection_rate      accepted TCP connections, in the same way
//	per_day              MAIL commands in any 24 hours, by whole minutes: the
//	                     window is between 23 h 59 min and 24 h, never longer
//	connections          open at once, 63 ms after a new one came. One whose FIN
//	                     has reached the kernel is over, even if what was sent
//	                     before it is unread (host.go, finGrace)
//	messages_per_connection, recipients_per_connection, recipients_per_transaction
//	                     MAIL and RCPT commands as they come; exact
//
// A refused command does not use up the limit that refused it, so that a source
// that once was too fast by one is refused one, and not for ever.
//
// The tolerance (Options.Tolerance, 250 ms) is the time between a sender's
// decision and the arrival of what it sent in the kernel of the receiver: the
// sender's wait for a processor and a disk. It is added to the span of rates
// only. How long we take to read what has arrived is measured, not tolerated.
//
// INVARIANT: a source that keeps to "sent in every span W ≤ rate × W + burst"
// gets no rate violation. TestASourceAtTheLimitIsNeverAccused checks it.
//
// INVARIANT: memory does not grow with the mail: every table has a bound.
//
// # The farm
//
// Farm (farm.go) puts carriers on the network of this machine: a name server,
// and a host for each MX on a loopback address of its own, all on one port. It
// only listens on 127.0.0.0/8, and all its names end in .test.
//
// Read profile.go, then carrier.go and session.go (the phases), meter.go (how a
// rate is measured), punish.go, fate.go; then farm.go.
package carriers
