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
package corpus
