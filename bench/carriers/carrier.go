package carriers

import "time"

// Options of an engine.
type Options struct {
	Seed uint64
	// Tolerance is added to the span of every rate: what may lie between a
	// sender's decision and our read. Default 250 ms; negative is none.
	Tolerance time.Duration
	// OnViolation is called for each violation, within the call that found it.
	OnViolation func(Violation)
	// OnBlock is called for each block, likewise.
	OnBlock func(Blocked)
}

// DefaultTolerance covers the scheduling of two busy processes on one machine.
const DefaultTolerance = 250 * time.Millisecond

// Violation is a limit that a source did not keep to. The limit is named as in
// policy.
type Violation struct {
	At      time.Time     `json:"at"`
	Carrier string        `json:"carrier"`
	Source  string        `json:"source"`
	Limit   string        `json:"limit"`  // "per_source.rate", "limits.connections", "messages_per_connection", …
	Window  time.Duration `json:"window"` // of a rate or daily limit
	Allowed int64         `json:"allowed"`
	Seen    int64         `json:"seen"`
}

// By is by how much the limit was exceeded.
func (v Violation) By() int64 { return v.Seen - v.Allowed }

// Counters say what a carrier has seen and answered since it began.
type Counters struct {
	Connections int64 `json:"connections"` // open now
	Peak        int64 `json:"peak"`        // most open at once
	Connected   int64 `json:"connected"`
	Offered     int64 `json:"offered"`    // MAIL commands
	Messages    int64 `json:"messages"`   // taken at the dot
	Delivered   int64 `json:"delivered"`  // recipients taken at the dot
	Deferred    int64 `json:"deferred"`   // 4xx answers
	Refused     int64 `json:"refused"`    // 5xx answers
	Blocked     int64 `json:"blocked"`    // connections turned away while their source was blocked
	Blocks      int64 `json:"blocks"`     // times that a source was blocked
	Resets      int64 `json:"resets"`     // connections ended by RST or without a word
	Dropped     int64 `json:"dropped"`    // of those delivered: recipients whose mail was thrown away
	Voided      int64 `json:"voided"`     // of those delivered: lost with their session (docomo)
	Bounces     int64 `json:"bounces"`    // of those delivered: to be returned later
	Complaints  int64 `json:"complaints"` // of those delivered: to be complained about
	Violations  int64 `json:"violations"`
	// BlockedFor is how long the blocks are in all, those of several sources added
	// up.
	BlockedFor time.Duration `json:"blocked_for_ns"`
}

// Carrier is the engine of one profile. It is not safe for concurrent use.
type Carrier struct {
	profile *Profile
	opts    Options
	seed    uint64

	latency struct{ connect, hello, mail, rcpt, data, dot quantiles }
	fates   []fate
	chances map[string][]Chance

	sources map[string]*source
	open    int
	rate    *meter // over all sources
	connect *meter
	day     *dayMeter
	grey    greylist
	count   Counters
	began   time.Time // the first MAIL
}

// source is one sender's address, as the carrier knows it.
type source struct {
	name     string
	began    time.Time // its first MAIL
	tuned    time.Time // when its limits last changed
	had      int64     // what its rates before that let pass
	last     time.Time
	sessions uint64
	open     int
	// connections that it may have open; the profile's unless Retune said otherwise.
	connections int
	rate        *meter
	connect     *meter
	hourly      *meter // at the top of the hour
	day         *dayMeter
	record      record
}

// maxSources bounds what is remembered of senders; beyond it the one that has
// been silent longest and has no connection is forgotten.
const maxSources = 1024

// New makes the engine of a profile, which must be valid, as Parse's are.
func New(p *Profile, o Options) *Carrier {
	if o.Tolerance == 0 {
		o.Tolerance = DefaultTolerance
	}
	o.Tolerance = max(0, o.Tolerance)
	c := &Carrier{profile: p, opts: o, seed: hash(o.Seed, p.Name), sources: map[string]*source{}, chances: map[string][]Chance{}}
	l := &p.Latency
	c.latency.connect, c.latency.hello, c.latency.mail = l.Connect.table(), l.Hello.table(), l.Mail.table()
	c.latency.rcpt, c.latency.data, c.latency.dot = l.Rcpt.table(), l.Data.table(), l.Dot.table()
	c.fates = readyFates(p.Recipients)
	for _, ch := range p.Chance {
		c.chances[ch.Phase] = append(c.chances[ch.Phase], ch)
	}
	c.rate = newMeter(p.Limits.Rate, o.Tolerance)
	c.connect = newMeter(p.Limits.ConnectionRate, o.Tolerance)
	c.day = newDayMeter(p.Limits.PerDay)
	return c
}

// Profile is what the engine was made of.
func (c *Carrier) Profile() *Profile { return c.profile }

// Counters are what happened so far.
func (c *Carrier) Counters() Counters { return c.count }

// Allowed is how many messages the limits would have permitted until now to the
// sources that have sent any, each from its first message on. unlimited says
// that there is no such limit.
func (c *Carrier) Allowed(now time.Time) (n int64, unlimited bool) {
	n, unlimited = 0, c.profile.PerSource.Rate == nil && c.profile.PerSource.PerDay == 0
	for _, s := range c.sources {
		if !unlimited && !s.began.IsZero() {
			n += allowed(s.rate, s.day, s.had, now.Sub(s.since()))
		}
	}
	if (c.rate != nil || c.day != nil) && !c.began.IsZero() {
		all := allowed(c.rate, c.day, 0, now.Sub(c.began))
		if unlimited || all < n {
			n, unlimited = all, false
		}
	}
	return n, unlimited
}

// allowed is what a meter lets pass in a span, with what others before it had.
func allowed(m *meter, d *dayMeter, had int64, span time.Duration) int64 {
	n := int64(1<<62 - 1)
	if m != nil {
		n = had + int64(span/m.interval) + m.burst
	}
	if d != nil {
		n = min(n, d.most*(1+int64(span/(24*time.Hour))))
	}
	return n
}

// Use is the largest share of a rate limit's room (burst and tolerance) that
// was taken at any time: near 1 says that the limit was reached and kept.
func (c *Carrier) Use() float64 {
	u := c.rate.use()
	for _, s := range c.sources {
		u = max(u, s.rate.use())
	}
	return u
}

// Blocked are the sources that are blocked now.
func (c *Carrier) Blocked(now time.Time) []string {
	var names []string
	for name, s := range c.sources {
		if now.Before(s.record.until) {
			names = append(names, name)
		}
	}
	return names
}

// sourceOf finds or makes what is known of a sender.
func (c *Carrier) sourceOf(now time.Time, name string) *source {
	s := c.sources[name]
	if s == nil {
		if len(c.sources) >= maxSources {
			c.forgetOne()
		}
		p := &c.profile.PerSource
		s = &source{name: name, connections: p.Connections, rate: newMeter(p.Rate, c.opts.Tolerance), connect: newMeter(p.ConnectionRate, c.opts.Tolerance), day: newDayMeter(p.PerDay)}
		if t := c.profile.TopOfHour; t != nil {
			s.hourly = newMeter(&t.Rate, 0)
		}
		c.sources[name] = s
	}
	s.last = now
	return s
}

func (c *Carrier) forgetOne() {
	var oldest *source
	for _, s := range c.sources {
		if s.open == 0 && (oldest == nil || s.last.Before(oldest.last) || s.last.Equal(oldest.last) && s.name < oldest.name) {
			oldest = s
		}
	}
	if oldest != nil {
		delete(c.sources, oldest.name)
	}
}

// violate notes a violation and strikes the source for it.
func (c *Carrier) violate(now time.Time, s *source, limit string, window time.Duration, allowed, seen int64) {
	c.count.Violations++
	c.strike(now, s, 1)
	if c.opts.OnViolation != nil {
		c.opts.OnViolation(Violation{At: now, Carrier: c.profile.Name, Source: s.name, Limit: limit, Window: window, Allowed: allowed, Seen: seen})
	}
}

// spend counts one message or connection under a rate.
func (c *Carrier) spend(t when, s *source, m *meter, limit string) bool {
	if m.take(t.since, t.until) {
		return true
	}
	window, allowed, seen := m.excess()
	c.violate(t.now, s, limit, window, allowed, seen)
	return false
}

func (c *Carrier) spendDay(now time.Time, s *source, d *dayMeter, limit string) bool {
	seen, ok := d.take(now)
	if !ok {
		c.violate(now, s, limit, 24*time.Hour, d.most, seen)
	}
	return ok
}

// full reports whether one more connection would be too many.
func (c *Carrier) full(now time.Time, s *source) bool {
	own, all := s.connections, c.profile.Limits.Connections
	switch {
	case own > 0 && s.open >= own:
		c.violate(now, s, "per_source.connections", 0, int64(own), int64(s.open)+1)
	case all > 0 && c.open >= all:
		c.violate(now, s, "limits.connections", 0, int64(all), int64(c.open)+1)
	default:
		return false
	}
	return true
}

// AtLimit reports whether one more connection of the source would be refused:
// then it is worth asking whether one of those open has ended (Session.Gone).
func (c *Carrier) AtLimit(name string) bool {
	s, all := c.sources[name], c.profile.Limits.Connections
	return s != nil && s.connections > 0 && s.open >= s.connections || all > 0 && c.open >= all
}
