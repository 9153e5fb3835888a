// Package reputation says what a remote server's reply means, and what follows
// from it. It is pure: no clock, no I/O, no lock.
//
// The same words mean different things at different carriers and in different
// steps of a transaction; some 5xx replies say "too fast" and some 4xx replies
// say "never". Rules (one YAML file a carrier, in rules/) decide by carrier,
// phase, code, enhanced code, text and what happened on the TCP level; the first
// that matches counts, an operator's (policy.ReplyRule) before the carrier's own,
// and those before the general ones. What no rule knows is read by tables
// (fallback.go), whose verdicts never suppress at once. Each rule is held against
// a corpus of real replies (package corpus): one that decides about none of them
// is refused.
//
//	message.Reply ──▶ Rules.Classify ──▶ Verdict: Category, About, Action
//
// INVARIANT: no suppression on doubt. A reply suppresses an address only where a
// rule with words says that the address itself is dead.
// INVARIANT: what a reply says of the source never ends a recipient, whatever
// its code's first digit is.
// INVARIANT: a 4xx suppresses nobody.
// INVARIANT: addresses in a text decide nothing (mask.go): who sends chose them.
//
// # A carrier's file
//
// To teach the program a carrier, write two files and run "go test ./reputation".
// First the replies as they came, with where they are from and what they mean, in
// corpus/acme.yaml (corpus/doc.go has the fields). Then the rules, in
// rules/acme.yaml:
//
//	carriers: [acme]            # of controlplane/catalogue; none is everybody
//	sources: [https://…]        # what was read to write it
//	rules:
//	  - name: too-fast          # becomes "acme/too-fast" in events and decisions
//	    codes: [550, 45x, 4xx]  # all that is given must match
//	    enhanced: [5.7.1, x.2.2]
//	    phases: [mail, rcpt]
//	    text: (slow|calm) down  # RE2, in any case; a line's end is a blank
//	    category: rate          # "hikyaku classify --categories" lists the words
//	    action: rest            # instead of what the category does
//	    retry_after: 1h
//	    why: their page says so
//
// faults: [reset] instead of codes and text is for what is not a reply. about
// moves the consequence ("sender" instead of "source"), final: false keeps a
// recipient that the action alone would end; with a 4xx an action ends it only
// where the rule asks for 4xx codes alone. A file's words: {gone: (left|moved)}
// are for texts that several rules share, which write "{gone}". The test names each
// reply that comes out differently, each rule that nothing of the corpus needs,
// and each that an earlier one shadows. Prefer words with ".*" between them: they
// are compared directly, other expressions run the regexp package, at twenty
// times the cost.
//
// # Reading order
//
// verdict.go and meanings.go for the words, rule.go and load.go for rules as they
// are written, classify.go for the one door, automaton.go and pattern.go for why
// it is fast, mask.go for what they do not see, fallback.go for what no rule
// knows, own.go for rules of policy, normalise.go for grouping what nobody knows
// yet.
//
// What is done with verdicts over time, for the whole cluster, is package
// reputation/steer's; what comes back by mail is read by reputation/feedback.
package reputation
