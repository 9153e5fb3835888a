package spool

// Which of those that wait go into the next batch. All in a batch wait for all
// of it, so the order in which they came is kept only where it means something:
//
//   - Moves, writes and barriers keep their order. Two moves of one delivery
//     must, and a write or barrier tells its caller that what came before is
//     durable; so neither passes a submission.
//   - Submissions pass moves: a client waits for them, and thousands of outcomes
//     may lie before them when a large job drains.
//   - A parcel from another node goes with submissions only: what it reads of
//     messages and receipts must be what stands, and neither moves nor writes
//     show in a batch before it is applied.
//   - Small submissions pass large ones, every other time: a page of ten
//     thousand recipients takes tens of milliseconds to write, and a single
//     message that came with it would wait as long.

// takeLocked takes what goes into a batch, and unlocks.
func (c *committer) takeLocked() []*request {
	p := pick{large: c.mu.small == 0 || c.mu.passed && c.mu.large > 0, most: maxBatchMoves}
	if c.mu.urgent > 0 {
		p.most = maxMovesBeside
	}
	rest := 0
	var taken []*request
	for i, r := range c.mu.waiting {
		if p.stopped && c.ofClassLocked(p.large) == 0 {
			rest += copy(c.mu.waiting[rest:], c.mu.waiting[i:]) // none of those can go
			break
		}
		if p.takes(r) {
			c.countLocked(r, -1)
			taken = append(taken, r)
		} else {
			c.mu.waiting[rest] = r
			rest++
		}
	}
	clear(c.mu.waiting[rest:])
	if c.mu.waiting = c.mu.waiting[:rest]; rest == 0 && cap(c.mu.waiting) > maxBatchMoves {
		c.mu.waiting = nil
	}
	c.mu.passed = !p.large && c.mu.large > 0
	c.mu.Unlock()
	c.room.Broadcast()
	if rest > 0 {
		c.signal()
	}
	return taken
}

// pick is the choice for one batch.
type pick struct {
	large   bool // of submissions, it takes the large ones
	bytes   int  // of submissions
	moves   int
	most    int  // moves
	moved   int  // bytes of moves
	changed bool // it takes a move, a write or a parcel
	left    bool // a submission was left
	stopped bool // a move, write or barrier was left: none after it goes
}

func (p *pick) takes(r *request) bool {
	switch r.kind {
	case kindAppend:
		if r.large() != p.large || p.bytes >= maxBatchBytes {
			p.left = true
			return false
		}
		p.bytes += r.size()
	case kindMove:
		if p.stopped || p.moves == p.most || p.moved >= maxBatchBytes {
			p.stopped = true
			return false
		}
		p.moves++
		p.moved += r.size()
		p.changed = true
	case kindReceive:
		if p.stopped || p.changed {
			p.stopped = true
			return false
		}
		p.changed, p.stopped = true, true
	default:
		if p.stopped || p.left {
			p.stopped = true
			return false
		}
		p.changed = true
	}
	return true
}

// ofClassLocked is how many large or small submissions wait.
func (c *committer) ofClassLocked(large bool) int {
	if large {
		return c.mu.large
	}
	return c.mu.small
}

// countLocked keeps the counts of what waits.
func (c *committer) countLocked(r *request, n int) {
	if r.kind != kindMove {
		c.mu.urgent += n
	}
	switch {
	case r.kind != kindAppend:
	case r.large():
		c.mu.large += n
	default:
		c.mu.small += n
	}
}

// large reports whether small submissions go before this one.
func (r *request) large() bool { return r.size() > largeAppend }
