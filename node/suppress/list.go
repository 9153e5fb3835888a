package suppress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"hikyaku/controlplane/policy"
	"hikyaku/reputation"
	"hikyaku/spool/message"
	"hikyaku/spool/suppression"
)

// Options say what a List works on. Name and Store are required; without Address
// there are no other nodes.
type Options struct {
	Name  string // this node's
	Store *suppression.Store
	// Policy gives the policy in force, for Tenant.Suppress. nil: all is fed.
	Policy func() *policy.Set
	// Members are the names of the nodes that are known now, this one or not.
	Members func() []string
	// Address gives the base URL of a node's peer listener, without the path.
	Address func(node string) (url string, err error)
	// Destination gives the queue's name for an address's domain, with the mappings
	// of IDNA (RFC 5895), so that whatever leads to one queue is one key. nil: none.
	Destination func(address string) (string, error)
	Client      *http.Client // with the cluster's credentials; nil: http.DefaultClient
	Logger      *slog.Logger
	Now         func() time.Time

	// Room is why nothing should be added that somebody orders (an import): the disk
	// is nearly full. A write that fails ends the process, and it would not start
	// again. What single replies and people tell is taken all the same. nil: there is
	// room.
	Room func() error
	// Missed goes once more through what was found since a time, as the event log
	// has it: found is called with each verdict and its event, whose time says when.
	// It is for what was fed and not stored. nil: that is lost.
	Missed func(ctx context.Context, since time.Time, found func(*reputation.Verdict, *message.Event) error) error

	Every       time.Duration // between two pulls from a node; 1 s
	Timeout     time.Duration // of a pull, and of a silence in a snapshot; 10 s
	ParcelBytes int           // 1 MiB
	Queue       int           // findings that wait to be stored; 16,384
	KeepLog     time.Duration // what is younger is not cut off the log; 1 h

	// UnsafeNoPoke leaves the others to find out by their next pull. It exists so
	// that the tests can show what the poke is for.
	UnsafeNoPoke bool
}

// List is the suppression list of a node. Safe for concurrent use.
type List struct {
	o     Options
	log   *slog.Logger
	store *suppression.Store
	queue chan suppression.Finding
	count counters

	loads     sync.Mutex    // one snapshot is read at a time
	snapshots chan struct{} // written at once
	mu        struct {
		sync.Mutex
		peers map[string]*peer
	}
}

// peer is another node.
type peer struct {
	name string
	wake chan struct{} // capacity 1: pull now
	poke chan struct{} // capacity 1: tell it that there is something new here
	stop context.CancelFunc
	mu   struct {
		sync.Mutex
		has  suppression.Vector // as it last said; nil: not known
		seen time.Time          // when it was last a member
		last string             // why it could not be asked; "" when it could
		lag  time.Time          // since when
	}
}

const maxSnapshots = 2

// New makes a List. Nothing is asked or fed before Run.
func New(o Options) (*List, error) {
	if o.Name == "" || o.Store == nil {
		return nil, errors.New("BUG: suppress.New needs Name and Store")
	}
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Members == nil {
		o.Members = func() []string { return nil }
	}
	o.Every = cmp.Or(o.Every, time.Second)
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	o.ParcelBytes = min(cmp.Or(o.ParcelBytes, 1<<20), maxParcel/2)
	o.Queue = cmp.Or(o.Queue, 16<<10)
	o.KeepLog = cmp.Or(o.KeepLog, time.Hour)
	l := &List{o: o, log: o.Logger, store: o.Store, queue: make(chan suppression.Finding, o.Queue), snapshots: make(chan struct{}, maxSnapshots)}
	l.mu.peers = map[string]*peer{}
	return l, nil
}

// Suppressed says whether an address gets no mail of a tenant's stream, and by
// which entry. It is for every recipient, at ingest and before each attempt: an
// address that is not on the list costs no allocation and no disk.
func (l *List) Suppressed(tenant, address, stream string) (suppression.Entry, bool) {
	return l.store.Lookup(tenant, l.Key(address), stream)
}

// Feed notes what a reply's verdict says of its recipient, if the tenant wants
// that. It never waits; what is fed is stored within milliseconds, and looked up
// in the event log if the process dies before (missed.go). It reports whether the
// verdict was one to note.
func (l *List) Feed(v *reputation.Verdict, e *message.Event) bool {
	f, ok := l.finding(v, e)
	if !ok {
		return false
	}
	l.count.queued.Add(1) // before it is in the queue: the mark must not overtake it
	select {
	case l.queue <- f:
		return true
	default:
		l.count.dropped.Add(1)
		l.count.stored.Add(1)
		return false
	}
}

// FeedNow is Feed for news that comes once: after nil it is on disk here.
func (l *List) FeedNow(v *reputation.Verdict, e *message.Event) (added bool, err error) {
	f, ok := l.finding(v, e)
	if !ok {
		return false, nil
	}
	_, r, err := l.store.Feed([]suppression.Finding{f})
	if err != nil {
		return false, fmt.Errorf("suppress a recipient: %w", err)
	}
	l.count.fed.Add(uint64(r.Added))
	l.pokeAll(r)
	return r.Added > 0, nil
}

// finding is what a verdict says of a recipient; false if that is not for the
// list.
func (l *List) finding(v *reputation.Verdict, e *message.Event) (f suppression.Finding, ok bool) {
	if v.Action != reputation.ActSuppress && v.Action != reputation.ActSecond || !l.wants(e.Tenant, policy.SuppressBounces) {
		return f, false
	}
	f = suppression.Finding{Second: v.Action == reputation.ActSecond, Entry: suppression.Entry{
		Tenant: e.Tenant, Address: l.Key(e.Recipient), Kind: suppression.Bounce, Category: string(v.Category),
		Reason: e.Reply.String(), Event: e.ID.String(), By: l.by(),
	}}
	if err := f.Check(); err != nil {
		l.count.refused.Add(1)
		return f, false
	}
	return f, true
}

func (l *List) by() string { return "node " + l.o.Name }

func (l *List) wants(tenant, what string) bool {
	if l.o.Policy == nil {
		return true
	}
	return l.o.Policy().Tenants[tenant].Suppresses(what)
}

// Told is a complaint or an unsubscribe of a recipient.
type Told struct {
	Kind                    suppression.Kind // Complaint or Unsubscribe
	Tenant, Address, Stream string           // Stream "" is all of them
	Reason, Event           string
}

// Note stores a complaint or an unsubscribe, if the tenant wants that and nothing
// stands there. After nil it is on disk here, and on its way to the others.
func (l *List) Note(t Told) (added bool, err error) {
	what := policy.SuppressComplaints
	if t.Kind == suppression.Unsubscribe {
		what = policy.SuppressUnsubscribes
	}
	if !l.wants(t.Tenant, what) {
		return false, nil
	}
	_, r, err := l.store.Feed([]suppression.Finding{{Entry: suppression.Entry{
		Tenant: t.Tenant, Address: l.Key(t.Address), Stream: t.Stream, Kind: t.Kind, Reason: t.Reason, Event: t.Event, By: l.by(),
	}}})
	if err != nil {
		return false, err
	}
	l.pokeAll(r)
	return r.Added > 0, nil
}

// Add stores entries in place of those of the same names. Addresses may be
// written in any way.
func (l *List) Add(es []suppression.Entry) (suppression.Result, error) {
	if l.o.Room != nil {
		if err := l.o.Room(); err != nil {
			return suppression.Result{}, fmt.Errorf("%w: nothing is added for now: %w", suppression.ErrFull, err)
		}
	}
	for i := range es {
		es[i].Address = l.Key(es[i].Address)
	}
	r, err := l.store.Add(es)
	l.pokeAll(r)
	return r, err
}

// Remove takes entries off the list.
func (l *List) Remove(refs []suppression.Ref, by, reason string) (suppression.Result, error) {
	for i := range refs {
		refs[i].Address = l.Key(refs[i].Address)
	}
	r, err := l.store.Remove(refs, by, reason)
	l.pokeAll(r)
	return r, err
}

// Get gives the entries of an address in one list.
func (l *List) Get(tenant, address string) ([]suppression.Entry, error) {
	return l.store.Get(tenant, l.Key(address))
}

// Key is the form of an address under which it is on the list.
func (l *List) Key(address string) string {
	if l.o.Destination != nil && !plainDomain(address) {
		if d, err := l.o.Destination(address); err == nil {
			return message.SuppressionKeyAt(address, d)
		}
	}
	return message.SuppressionKey(address)
}

// plainDomain reports whether a domain needs no mapping: nearly all.
func plainDomain(address string) bool {
	for i := len(address) - 1; i >= 0 && address[i] != '@'; i-- {
		if address[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// Page is part of a listing.
func (l *List) Page(f suppression.Filter, cursor string, limit int) (suppression.Page, error) {
	return l.store.List(f, cursor, limit)
}

// Counts are how much each tenant has; "" is the global list.
func (l *List) Counts() map[string]suppression.Counts { return l.store.Counts() }

// Has reports whether an operation is on this node's disk, after waiting for it
// for a while.
func (l *List) Has(ctx context.Context, p suppression.Position, wait time.Duration) bool {
	if wait <= 0 || l.store.Has(p) {
		return l.store.Has(p)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(hasEvery)
	defer tick.Stop()
	for !l.store.Has(p) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return l.store.Has(p)
		}
	}
	return true
}

// hasEvery is how often Has looks.
const hasEvery = 5 * time.Millisecond

// Run pulls from the other nodes, tells them and stores what is fed, until ctx
// ends. What was fed until then is stored.
func (l *List) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { l.runFeed(ctx) })
	wg.Go(func() { l.runMissed(ctx) })
	wg.Go(func() { l.runPeers(ctx) })
	wg.Wait()
}

// feedAtOnce are stored with one sync.
const feedAtOnce = 1000

func (l *List) runFeed(ctx context.Context) {
	fs := make([]suppression.Finding, 0, feedAtOnce)
	for {
		fs = fs[:0]
		select {
		case f := <-l.queue:
			fs = append(fs, f)
		case <-ctx.Done():
		}
		for more := true; more && len(fs) < feedAtOnce; {
			select {
			case f := <-l.queue:
				fs = append(fs, f)
			default:
				more = false
			}
		}
		if len(fs) == 0 { // ctx has ended, and nothing is left
			return
		}
		_, r, err := l.store.Feed(fs)
		if err != nil {
			l.count.dropped.Add(uint64(len(fs)))
			l.count.stored.Add(uint64(len(fs)))
			l.log.Error("store what was fed to the suppression list", "findings", len(fs), "error", err)
			continue
		}
		l.count.stored.Add(uint64(len(fs)))
		l.count.fed.Add(uint64(r.Added))
		l.pokeAll(r)
	}
}

// pokeAll tells the other nodes that there is something new.
func (l *List) pokeAll(r suppression.Result) {
	if r.At.Seq == 0 || l.o.UnsafeNoPoke {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.mu.peers {
		signal(p.poke)
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

type counters struct {
	fed, dropped, refused, parcels, snapshots, failures, served atomic.Uint64
	// queued are all that were fed; stored those of them that are on disk, or dropped.
	queued, stored atomic.Uint64
	found          atomic.Uint64
}

// Metrics is a snapshot for the metrics page.
type Metrics struct {
	Store     suppression.Metrics
	Fed       uint64 // entries that findings have made
	Dropped   uint64 // findings that were not stored at once: the queue was full
	Found     uint64 // entries that findings in the event log have made, beside Fed
	Refused   uint64 // findings of addresses that cannot be stored
	Queue     int    // findings that wait; MaxQueue is full
	MaxQueue  int
	Parcels   uint64 // taken from other nodes
	Snapshots uint64 // likewise
	Failures  uint64 // to ask another node
	Served    uint64 // parcels and snapshots given
	Peers     []PeerState
}

// PeerState is how it stands with another node.
type PeerState struct {
	Name   string
	Behind bool   // it is known to lack something that is here
	Why    string // why it cannot be asked
	For    time.Duration
}

// Metrics is a snapshot.
func (l *List) Metrics() Metrics {
	m := Metrics{
		Store: l.store.Metrics(), Fed: l.count.fed.Load(), Dropped: l.count.dropped.Load(), Found: l.count.found.Load(), Refused: l.count.refused.Load(),
		Queue: len(l.queue), MaxQueue: cap(l.queue), Parcels: l.count.parcels.Load(), Snapshots: l.count.snapshots.Load(),
		Failures: l.count.failures.Load(), Served: l.count.served.Load(),
	}
	here := l.store.Vector()
	for _, p := range l.peers() {
		p.mu.Lock()
		s := PeerState{Name: p.name, Behind: !covers(p.mu.has, here), Why: p.mu.last}
		if s.Why != "" {
			s.For = l.o.Now().Sub(p.mu.lag)
		}
		p.mu.Unlock()
		m.Peers = append(m.Peers, s)
	}
	return m
}

func covers(has, wanted suppression.Vector) bool {
	for o, seq := range wanted {
		if has[o] < seq {
			return false
		}
	}
	return true
}
