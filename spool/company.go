package spool

// company decides whether a batch that could go lets those go first who are
// about to join it. A sync costs what it costs however few share it. With the
// processors busy, whoever can run has run after a few yields of the committing
// goroutine; when nobody can, a yield returns at once, so a single client waits
// for nothing. No timer: the shortest that a busy machine keeps is longer than
// a sync.
//
// A pause between batches, of three syncs or until as many wait as did lately,
// was tried too: 27 requests a batch instead of 20 with clients that pipeline
// DATA, but no less CPU a message beyond noise, and with BDAT 10 % more.
//
// Measured with 20 clients that send eight messages without waiting, two cores:
// 27 requests share a batch where 20 did, for 15 % less CPU a message; with
// clients that wait for each answer, 19 instead of 18.
type company struct {
	seen   int // requests at the last look
	quiet  int // looks since one came
	looked int
}

const (
	quietLooks = 3  // without a new request end the waiting
	mostLooks  = 64 // end it anyway
)

// expected is asked with n requests waiting; after a yes the caller yields and
// asks again.
func (c *company) expected(n int, closed bool) bool {
	if n > c.seen {
		c.quiet = 0
	} else {
		c.quiet++
	}
	c.seen = n
	c.looked++
	if closed || n >= gatherEnough || c.quiet >= quietLooks || c.looked > mostLooks {
		*c = company{}
		return false
	}
	return true
}
