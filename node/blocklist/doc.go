// Package blocklist asks DNS blocklists now and then whether they list the
// sources of this node (RFC 5782). It is off unless policy names zones
// (policy.Reputation.blocklists). It says what it found: as status, in the log
// when something changes, as an alarm. It never changes how mail is sent.
//
// Read watch.go for what runs, plan.go for when who is asked (pure), answer.go
// for what answers mean.
//
// INVARIANT: an answer that refuses us is no listing. Lists answer with addresses
// of their own to resolvers that ask too much or that they do not know
// (127.255.255.x at Spamhaus); who takes those for listings sees all sources
// listed at once.
// INVARIANT: a zone that lists 127.0.0.1, or does not list 127.0.0.2, is not
// believed (RFC 5782 5). Lists that shut down have listed the world for a while,
// and then nobody for ever.
// INVARIANT: a zone is asked about an address at most every 15 minutes, and one
// question is under way at a time. Lists shut out who asks in bursts.
package blocklist
