package carriers

import "time"

// record is what a carrier holds against a source.
type record struct {
	strikes int
	paid    time.Time // strikes have been forgiven up to here
	until   time.Time // blocked
	blocks  int       // in a row; each is twice as long as the one before
	unknown window
}

// maxStrikes bounds how long a source must behave before all is forgiven.
const maxStrikes = 1_000_000

// forgive lets strikes lapse with time.
func (c *Carrier) forgive(now time.Time, s *source) *record {
	r, p := &s.record, c.profile.Punish
	if every := p.Forgive.D(); every > 0 && now.After(r.paid) {
		n := int(min(now.Sub(r.paid)/every, maxStrikes))
		if r.strikes <= n || r.paid.IsZero() {
			r.strikes, r.paid = max(0, r.strikes-n), now
		} else {
			r.strikes -= n
			r.paid = r.paid.Add(time.Duration(n) * every)
		}
	}
	return r
}

// strike holds n more things against a source, which may bring the block.
func (c *Carrier) strike(now time.Time, s *source, n int) {
	p := c.profile.Punish
	if p == nil {
		return
	}
	r := c.forgive(now, s)
	b := p.Block
	most := maxStrikes
	if b != nil {
		most = 2 * b.Strikes // what lasts is the length of the blocks
	}
	r.strikes = min(most, r.strikes+n)
	if b == nil || r.strikes < b.Strikes || now.Before(r.until) {
		return
	}
	if !r.until.IsZero() && now.Sub(r.until) >= b.Forget.D() {
		r.blocks = 0
	}
	span := b.For.D()
	for range r.blocks {
		if span *= 2; span >= b.AtMost.D() {
			span = b.AtMost.D()
			break
		}
	}
	r.blocks++
	r.until = now.Add(span)
	r.strikes = b.Strikes / 2
	c.count.Blocks++
	c.count.BlockedFor += span
	if c.opts.OnBlock != nil {
		c.opts.OnBlock(Blocked{At: now, Carrier: c.profile.Name, Source: s.name, Until: r.until})
	}
}

// blocked says how a blocked source is turned away; nil when it is not. To try
// is to push: each try strikes, and strikes at the end of the block bring the
// next.
func (c *Carrier) blocked(now time.Time, s *source) *Say {
	if c.profile.Punish == nil || !now.Before(s.record.until) {
		return nil
	}
	c.strike(now, s, 1)
	return &c.profile.Punish.Block.Say
}

// deferred says how a source with many strikes is put off; nil when it is not.
// A connection that was open when its source was blocked is put off too.
func (c *Carrier) deferred(now time.Time, s *source) *Say {
	p := c.profile.Punish
	switch {
	case p == nil:
		return nil
	case now.Before(s.record.until):
		return &p.Block.Say
	case p.Defer != nil && c.forgive(now, s).strikes >= p.Defer.Strikes:
		return &p.Defer.Say
	}
	return nil
}

// slowness is the delay of every answer to a source with some strikes.
func (c *Carrier) slowness(now time.Time, s *source) time.Duration {
	p := c.profile.Punish
	if p == nil || p.Slow == nil || s.record.strikes == 0 || c.forgive(now, s).strikes < p.Slow.Strikes {
		return 0
	}
	return p.Slow.Delay.D()
}

// known notes whether a recipient exists, and strikes a source that knows too
// few.
func (c *Carrier) known(now time.Time, s *source, exists bool) {
	if c.profile.Punish == nil || c.profile.Punish.Unknown == nil {
		return
	}
	u := c.profile.Punish.Unknown
	w := &s.record.unknown
	w.add(u.Of, !exists)
	if !exists && w.full(u.Of) && float64(w.hits) > u.Share*float64(u.Of) {
		c.strike(now, s, 1)
	}
}

// window remembers the last so many yes-or-no answers.
type window struct {
	bits []uint64
	next int
	seen int
	hits int
}

func (w *window) add(size int, hit bool) {
	if w.bits == nil {
		w.bits = make([]uint64, (size+63)/64)
	}
	word, bit := &w.bits[w.next/64], uint64(1)<<(w.next%64)
	if *word&bit != 0 {
		w.hits--
		*word &^= bit
	}
	if hit {
		w.hits++
		*word |= bit
	}
	w.next = (w.next + 1) % size
	w.seen = min(w.seen+1, size)
}

func (w *window) full(size int) bool { return w.seen == size }

// topOfHour defers what comes too densely just after the full hour.
func (c *Carrier) topOfHour(now time.Time, s *source) *Say {
	t := c.profile.TopOfHour
	if t == nil || !t.In(now) || s.hourly.take(now, now) {
		return nil
	}
	return &Say{Reply: t.Reply}
}
