// Package ledger proves that nothing is lost: both sides number what they saw,
// the source each recipient that it offered and that it was promised (250, 202),
// the receivers each recipient that they took, the product's own event log and
// queue what became of it; and Balance compares. Numbers are small integers that
// travel in the recipient's local part.
//
// It keeps a handful of bits and two 32-bit times for each number, so that ten
// million fit in 100 MB, and nothing else: what a message must contain is for
// bench/load to recompute and for the receiver to report as Altered. It never
// decides whether a number may be sent again; it only counts that it was.
//
// Every method may be called from any goroutine at any time. Noting an event
// takes no lock: one atomic "or" into a word of 64 recipients (flags in
// ledger.go), and an atomic store of its time.
//
// INVARIANT: receipts beyond the first are counted exactly, whatever the order
// in which receivers report them: the one that finds its bit clear is the first.
//
// INVARIANT: each promised recipient is in exactly one term of
//
//	accepted = delivered + bounced + expired + cancelled + queued + unseen + lost
//
// where promised means: by an answer that the source read, or by the product's
// log, of its acceptance or its end, where the answer was lost on the way. Unseen (the log says delivered, no
// receiver has it) and lost are faults; so is whatever else Balance.Err names.
//
// A carrier that says 250 and throws the message away has received it: the
// product has kept its promise. The receiver notes it as any other.
//
// Read ledger.go (what is noted), then balance.go (what is compared).
package ledger
