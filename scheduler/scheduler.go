package scheduler

import (
	"maps"
	"slices"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// Config bounds what the scheduler keeps and does at once. Zero fields are
// the defaults.
type Config struct {
	MaxLoaded    int // deliveries in memory; 100,000
	Page         int // deliveries read at once from one queue; 256
	MaxPaging    int // pages being read at once; 8
	MaxResolving int // destinations being resolved at once; 256
	MaxSessions  int // connections in all; 5,000
}

func (c Config) withDefaults() Config {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&c.MaxLoaded, 100_000)
	def(&c.Page, 256)
	def(&c.MaxPaging, 8)
	def(&c.MaxResolving, 256)
	def(&c.MaxSessions, 5_000)
	return c
}

// Scheduler is the whole state. Not safe for concurrent use.
type Scheduler struct {
	cfg Config
	set *policy.Set

	queues map[message.QueueKey]*queue
	inLine ring[*queue] // all of them: what is done to all is done in the same order each time
	dests  map[string]*dest
	sites  map[string]*site
	around ring[*site] // all of them, likewise

	resting ring[*site] // those with sessions without work
	leaving int         // sessions told to end for want of others
	lanes   map[Lane]*lane
	items   map[message.DeliveryID]*item // loaded or given out

	limits  limitTable
	windows map[string]windows      // by stream name
	held    map[string]bool         // the sources that this node may use; nil: all
	pools   map[string][]poolMember // the sources of each that may be used
	poolsOf map[string][]string     // the pools of each source
	waiting map[string]*int64       // by pool: see claim
	holds   map[string]*Hold
	refuges map[Refuge]bool // see shunned

	timers    timerHeap
	oldest    timerHeap // queues by their first delivery, or earlier
	out       []Action
	resolve   wishes[*dest]  // want a resolution
	paging    wishes[*queue] // want a page
	hungry    wishes[*site]  // may want a connection
	woken     []*site        // have something for waiting sessions
	recent    lru            // queues with a loaded head, least recently moved first
	late      lateHandovers
	room      timer // pages wait for room
	lapse     timer // the grants end
	expiry    timer // a throttle does
	stranded  strands
	count     Counts
	asked     int // pages being read
	wanted    int // pages wanted
	asking    int // destinations being resolved
	unasked   int // destinations that want to be
	hungering int // sites in line for a connection
	promised  int // deliveries those pages may bring
	doubtful  int // sessions being opened by lanes that failed before
	most      int // actions that the caller of Actions takes
}

// Counts are the scheduler's gauges and counters.
type Counts struct {
	Queues, Destinations, Sites, Lanes int
	Loaded, InFlight, Sessions         int
	Paging, PageWaiting                int
	Resolving, ResolveWaiting          int
	Stranded                           int // queues with mail that is due and no source on this node
	Dispatched, Paged, Unloaded        uint64
}

// New makes an empty scheduler under the policy.
func New(now time.Time, cfg Config, set *policy.Set) *Scheduler {
	s := &Scheduler{
		cfg:    cfg.withDefaults(),
		queues: map[message.QueueKey]*queue{}, dests: map[string]*dest{}, sites: map[string]*site{},
		lanes: map[Lane]*lane{}, items: map[message.DeliveryID]*item{}, holds: map[string]*Hold{}, waiting: map[string]*int64{},
	}
	s.limits.init()
	s.SetPolicy(now, set)
	return s
}

// Counts reads the gauges.
func (s *Scheduler) Counts() Counts {
	c := s.count
	c.Queues, c.Destinations, c.Sites, c.Lanes = len(s.queues), len(s.dests), len(s.sites), len(s.lanes)
	c.Paging, c.PageWaiting = s.asked, s.wanted
	c.Resolving, c.ResolveWaiting = s.asking, s.unasked
	c.Stranded = s.stranded.n
	return c
}

// Kind says what an Action asks for.
type Kind uint8

// The kinds of action.
const (
	// Resolve: look Destination up and answer with Resolved or ResolveFailed.
	Resolve Kind = iota
	// Page: read at most Limit deliveries of Queue after After with due ≤
	// Until, and answer with Paged or PageFailed.
	Page
	// Sweep: read all of Queue with due ≤ Until, Take and end what has
	// expired, and answer with Swept.
	Sweep
	// Open: start a session of Lane for Destination's site; it calls
	// SessionOpened and SessionClosed.
	Open
	// Expire: Delivery's time is over; end it.
	Expire
	// Fail: Delivery's destination does not exist; bounce it with Reply.
	Fail
	// Defer: Delivery could not be attempted; reschedule it with Reply.
	Defer
)

// Action is something the node must do.
type Action struct {
	Kind        Kind
	Destination string
	Lane        Lane
	Carrier     string
	Queue       message.QueueKey
	After       Cursor
	Until       time.Time
	Limit       int
	Delivery    *message.Delivery
	Reply       message.Reply
}

// Cursor is a place in a queue: after the delivery with this due time and id.
type Cursor struct {
	Due time.Time
	ID  message.DeliveryID
}

// Actions fires what has come due and returns at most max actions; the rest
// comes with the next call. The slice is the caller's until then.
func (s *Scheduler) Actions(now time.Time, max int) []Action {
	t := at(now)
	s.fire(t)
	s.feed(t, max)
	n := min(max, len(s.out))
	acts := make([]Action, n)
	copy(acts, s.out)
	rest := copy(s.out, s.out[n:])
	clear(s.out[rest:])
	s.out = s.out[:rest]
	return acts
}

// feed turns waiting wishes into actions, as far as the bounds allow. Each
// step may make wishes for those after it.
func (s *Scheduler) feed(now instant, max int) {
	s.feedPages(now)
	for s.asking < s.cfg.MaxResolving {
		d, class, ok := s.resolve.pop(anyClass)
		if !ok {
			break
		}
		if d.asking && !d.asked && d.class == class { // else it was asked for another's sake
			s.askResolve(d)
		}
	}
	s.feedSessions(now, max)
}

func anyClass(message.Priority) bool { return true }

// Pending reports whether Actions has something to say at once. It may say yes
// when there is nothing after all.
func (s *Scheduler) Pending(now time.Time) bool {
	if len(s.out) > 0 || s.hungry.any(s.haveSession) || s.unasked > 0 && s.asking < s.cfg.MaxResolving || s.wanted > 0 && s.asked < s.cfg.MaxPaging {
		return true
	}
	t := s.timers.first()
	return t != nil && t.at <= at(now)
}

// Wake is the earliest time at which Actions could say something new without
// any other call; now if it can at once, the zero time if never.
func (s *Scheduler) Wake(now time.Time) time.Time {
	if len(s.out) > 0 || s.hungry.any(s.haveSession) {
		return now
	}
	if t := s.timers.first(); t != nil {
		return t.at.time()
	}
	return time.Time{}
}

// Woken calls fn for each site that has had something new for its sessions
// since the last call, once each. fn must not call the scheduler: what it names
// anew meanwhile would be lost.
func (s *Scheduler) Woken(fn func(site string)) {
	for i, st := range s.woken {
		st.wokenFlag = false
		fn(st.name)
		s.woken[i] = nil
	}
	s.woken = s.woken[:0]
}

// SetPolicy puts a new snapshot in force, between two dispatches. Buckets keep
// their debt.
func (s *Scheduler) SetPolicy(now time.Time, set *policy.Set) {
	t := at(now)
	s.set = set
	s.pools, s.poolsOf = map[string][]poolMember{}, map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(set.Pools)) {
		s.pools[name] = s.membersOf(name)
		for _, m := range set.Pools[name].Sources {
			s.poolsOf[m.Name] = append(s.poolsOf[m.Name], name)
		}
	}
	s.windows = map[string]windows{}
	for name, stream := range set.Streams {
		w, err := compileWindows(stream.Windows)
		if err != nil {
			// Policy was checked, so it is this machine that lacks the time zone.
			// Mail that waits can be helped; mail sent at night cannot.
			w = windows{{zone: time.UTC, end: 1}}
		}
		if len(w) > 0 {
			s.windows[name] = w
		}
	}
	s.limits.apply(t, set)
	s.setExpiry(now)
	s.around.each(func(st *site) bool { // in their order: a map has none
		st.rebuild(s)
		for _, l := range st.lanes {
			s.limits.bind(t, l, s.poolsOf[l.key.Source])
		}
		return true
	})
	// Routes and carriers may differ: every destination is looked at again
	// when it is next due, also one that failed, and what is being asked was
	// asked under the old policy. The DNS answers are cached by the node.
	var idle []string
	for name, d := range s.dests {
		d.until, d.rest, d.final, d.stale = 0, 0, false, d.asked
		if len(d.queues) == 0 {
			idle = append(idle, name)
		}
	}
	slices.Sort(idle)
	for _, name := range idle {
		s.idleDest(s.dests[name])
	}
	s.inLine.each(func(q *queue) bool { s.place(q, t); return true })
}

// expiryTimer fires when a throttle ends.
type expiryTimer struct{}

func (expiryTimer) fire(s *Scheduler, now instant) {
	s.regrantAll(now, func(*exchange.Scope) bool { return false })
	s.setExpiry(now.time())
}

func (s *Scheduler) setExpiry(now time.Time) {
	when := never
	if next := s.set.NextExpiry(now); !next.IsZero() {
		when = at(next)
	}
	s.setTimer(&s.expiry, expiryTimer{}, when)
}
