// Package corpus holds real replies of carriers with what they mean: the measure
// that the rules of package reputation are held against.
//
// One file a carrier, general.yaml for servers of nobody in particular:
//
//	carrier: docomo
//	replies:
//	  - reply: "550 Unknown user x@docomo.ne.jp"
//	    phase: rcpt
//	    category: unknown-user
//	    ends: true
//	    hard: true
//	    source: "https://…"
//
// ends says that the recipient ends with this reply, hard that its address is
// dead. Both were decided by reading the reply and what its source says of it,
// not by looking at what the rules make of it. A reply is as its source has it,
// but for addresses, which are replaced where they could be somebody's; where a
// source names the variants of one reply, each is written out. source is a URL or
// repository@commit:path. Texts of faults are our own: there was no reply.
//
// # How good the rules are
//
// The rules were written beside these files, so that they know them proves
// nothing. Two more sets say how they do on what they never saw:
//
//	mended/  judged before any rule was asked, then the rules were mended for it
//	unseen/  collected and judged after that; no rule was ever mended for it
//
// In both, a reply was judged from its words, its step and its source alone, and
// none of them has the normalised text of one that was there before. Where a
// source shows a pattern instead of a whole reply, its gaps (an address, a host)
// are filled with examples, and the step is the one in which such a reply is
// said. TestAgreement states the figures. INVARIANT: whoever mends a rule for a
// reply of unseen/ moves that reply to mended/.
package corpus
