package webhook

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"hikyaku/controlplane/policy"
)

// Log is the node's event log, as far as it matters here.
type Log interface {
	// Open reads on where the consumer is; one that is not known begins now.
	Open(consumer string) (Reader, error)
	// Forget removes a consumer, so that it holds nothing on disk any more.
	Forget(consumer string) error
	// Consumers lists all there are, those of others too.
	Consumers() []Consumer
	// Head is the last number that is durable.
	Head() uint64
}

// Consumer is a reader's place in the log.
type Consumer struct {
	Name string
	Lost uint64 // numbers that retention removed before they were read
}

// Reader reads the log in order. It is used by one goroutine.
type Reader interface {
	// Next waits for the next block.
	Next(context.Context) (Block, error)
	Close()
}

// Block is lines of the log.
type Block struct {
	Lines       []byte // valid until the next call of Next
	First, Last uint64 // numbers, which no other block has
	// Commit makes the place after the block durable. It stays valid.
	Commit func() error
}

// Options set up Hooks. Node, Store, Log and Dir are required.
type Options struct {
	Node  string // the node's name, told to receivers
	Store string // id of the spool whose events these are; part of their ids
	Log   Log
	Dir   string // for what is kept beside the offsets
	// Lookup finds the addresses of a name. Default: the system's resolver.
	Lookup  func(ctx context.Context, host string) ([]netip.Addr, error)
	Roots   *x509.CertPool // nil: the system's
	Version string         // for User-Agent
	Logger  *slog.Logger
}

// Hooks is all webhooks of a node.
type Hooks struct {
	o        Options
	breakers breakers
	dial     dialFunc // net.Dialer's but in tests

	root    context.Context
	stop    context.CancelFunc
	changed chan struct{} // capacity 1: policy or the grace of an orphan
	running sync.WaitGroup

	mu struct {
		sync.Mutex
		set     map[string]*policy.Webhook // nil before the first Apply
		runners map[string]*runner         // by consumer
		gone    map[string]*record         // ended by 410, by consumer
		broken  map[string]string          // why a webhook could not begin
	}
	orphans map[string]time.Time // consumers without a webhook; manage's own, as is told
	told    map[string]uint64    // numbers that a consumer lost and the log has heard of
}

// orphanGrace is how long the offset of a webhook that is not in policy is
// kept. A node that starts without its policy must not forget where it was.
const orphanGrace = 10 * time.Minute

// tidyEvery is how often orphans are looked at, and what could not begin is
// tried again.
const tidyEvery = time.Minute

// New starts to follow; nothing is posted before the first Apply.
func New(o Options) (*Hooks, error) {
	if o.Node == "" || o.Store == "" || o.Log == nil || o.Dir == "" {
		return nil, errors.New("webhooks: Node, Store, Log and Dir are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Lookup == nil {
		// The resolver of Go alone: that of the system takes "0x7f.1" for an address.
		r := &net.Resolver{PreferGo: true}
		o.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) { return r.LookupNetIP(ctx, "ip", host) }
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the folder of webhooks: %w", err)
	}
	h := &Hooks{o: o, dial: dialer, changed: make(chan struct{}, 1), orphans: map[string]time.Time{}, told: map[string]uint64{}}
	h.breakers.mu.of = map[string]*breaker{}
	h.mu.runners, h.mu.gone, h.mu.broken = map[string]*runner{}, map[string]*record{}, map[string]string{}
	h.root, h.stop = context.WithCancel(context.Background())
	h.running.Go(h.manage) // waited for by Close
	return h, nil
}

// Apply takes the webhooks of a policy. It returns at once.
func (h *Hooks) Apply(set *policy.Set) {
	h.mu.Lock()
	h.mu.set = set.Webhooks
	if h.mu.set == nil {
		h.mu.set = map[string]*policy.Webhook{}
	}
	h.mu.Unlock()
	h.poke()
}

func (h *Hooks) poke() {
	select {
	case h.changed <- struct{}{}:
	default: // it is about to look
	}
}

// Close stops posting and waits. What was posted so far is committed.
func (h *Hooks) Close() {
	h.stop()
	h.running.Wait()
}

// manage keeps the runners as policy wants them, and waits for them in the end.
func (h *Hooks) manage() {
	tidy := time.NewTicker(tidyEvery)
	defer tidy.Stop()
	for {
		select {
		case <-h.changed:
		case <-tidy.C:
		case <-h.root.Done():
			h.mu.Lock()
			rs := h.runnersLocked()
			h.mu.Unlock()
			for _, r := range rs {
				r.close()
			}
			return
		}
		h.reconcile(time.Now())
	}
}

func (h *Hooks) runnersLocked() []*runner {
	rs := make([]*runner, 0, len(h.mu.runners))
	for _, r := range h.mu.runners {
		rs = append(rs, r)
	}
	return rs
}

// reconcile starts, changes and stops runners. Only manage calls it.
func (h *Hooks) reconcile(now time.Time) {
	h.mu.Lock()
	set := h.mu.set
	h.mu.Unlock()
	if set == nil {
		return
	}
	wanted := map[string]bool{}
	for name, w := range set {
		id := consumerName(name)
		wanted[id] = true
		if w.Disabled {
			h.drop(id, name)
			continue
		}
		if err := h.ensure(id, name, w); err != nil {
			h.mu.Lock()
			if h.mu.broken[id] == "" {
				h.o.Logger.Error("webhook cannot begin", "webhook", name, "error", err)
			}
			h.mu.broken[id] = err.Error()
			h.mu.Unlock()
		}
	}
	h.mu.Lock()
	var gone []*runner
	for id, r := range h.mu.runners {
		if !wanted[id] {
			gone = append(gone, r)
		}
	}
	h.mu.Unlock()
	for _, r := range gone {
		h.halt(r)
	}
	h.forgetOrphans(wanted, now)
	h.tellLost()
}

// tellLost says what the log's retention took before it was read.
func (h *Hooks) tellLost() {
	for _, c := range h.o.Log.Consumers() {
		if strings.HasPrefix(c.Name, consumerPrefix) && c.Lost > h.told[c.Name] {
			h.o.Logger.Error("the event log was trimmed before a webhook had read it", "consumer", c.Name, "numbers", c.Lost-h.told[c.Name])
			h.told[c.Name] = c.Lost
		}
	}
}

// ensure has the webhook posted, with these settings.
func (h *Hooks) ensure(id, name string, w *policy.Webhook) error {
	h.mu.Lock()
	r, gone := h.mu.runners[id], h.mu.gone[id]
	h.mu.Unlock()
	if r != nil && !r.ended() {
		r.change(w)
		return nil
	}
	if r != nil { // the endpoint answered 410
		h.halt(r)
		gone = r.record()
	}
	rec := gone
	if rec == nil {
		var err error
		if rec, err = readRecord(h.o.Dir, id); err != nil {
			return err
		}
	}
	if rec.Gone != "" && rec.Gone == fingerprint(w) {
		if err := h.forget(id, name); err != nil {
			return err
		}
		h.mu.Lock()
		h.mu.gone[id] = rec
		h.mu.Unlock()
		return nil
	}
	if rec.Gone != "" {
		rec = &record{}
	}
	reader, err := h.o.Log.Open(id)
	if err != nil {
		return fmt.Errorf("open the event log: %w", err)
	}
	r = newRunner(h, id, name, w, reader, rec)
	h.mu.Lock()
	delete(h.mu.gone, id)
	delete(h.mu.broken, id)
	h.mu.runners[id] = r
	h.mu.Unlock()
	r.start()
	return nil
}

// drop stops a webhook that is disabled: what happens meanwhile is not posted.
func (h *Hooks) drop(id, name string) {
	h.mu.Lock()
	r := h.mu.runners[id]
	delete(h.mu.gone, id)
	delete(h.mu.broken, id)
	h.mu.Unlock()
	if r != nil {
		h.halt(r)
	}
	if err := errors.Join(h.forget(id, name), removeRecord(h.o.Dir, id)); err != nil {
		h.o.Logger.Error("webhook's place in the event log cannot be removed", "webhook", name, "error", err)
	}
}

// halt stops a runner and takes it off the list.
func (h *Hooks) halt(r *runner) {
	r.close()
	h.mu.Lock()
	delete(h.mu.runners, r.id)
	h.mu.Unlock()
	h.breakers.drop(r.id)
}

func (h *Hooks) forget(id, name string) error {
	known := slices.ContainsFunc(h.o.Log.Consumers(), func(c Consumer) bool { return c.Name == id })
	if !known {
		return nil
	}
	if err := h.o.Log.Forget(id); err != nil {
		return fmt.Errorf("forget the place of webhook %s: %w", name, err)
	}
	return nil
}

// forgetOrphans removes the places of webhooks that are gone from policy for
// good.
func (h *Hooks) forgetOrphans(wanted map[string]bool, now time.Time) {
	h.mu.Lock()
	for id := range h.mu.gone {
		if !wanted[id] {
			delete(h.mu.gone, id)
		}
	}
	for id := range h.mu.broken {
		if !wanted[id] {
			delete(h.mu.broken, id)
		}
	}
	h.mu.Unlock()
	seen := map[string]bool{}
	for _, c := range h.o.Log.Consumers() {
		if !strings.HasPrefix(c.Name, consumerPrefix) || wanted[c.Name] {
			continue
		}
		seen[c.Name] = true
		since, known := h.orphans[c.Name]
		if !known {
			h.orphans[c.Name] = now
			continue
		}
		if now.Sub(since) < orphanGrace {
			continue
		}
		if err := errors.Join(h.o.Log.Forget(c.Name), removeRecord(h.o.Dir, c.Name)); err != nil {
			h.o.Logger.Error("place of a webhook that is gone cannot be removed", "consumer", c.Name, "error", err)
			continue
		}
		delete(seen, c.Name)
	}
	for id := range h.orphans {
		if !seen[id] {
			delete(h.orphans, id)
		}
	}
}

const consumerPrefix = "webhook-"

// consumerName is a webhook's name as the log takes it: readable, and unlike
// that of any other webhook.
func consumerName(name string) string {
	sum := sha256.Sum256([]byte(name))
	slug := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '-':
			return r
		}
		return '-'
	}, strings.ToLower(name))
	return consumerPrefix + slug[:min(len(slug), 40)] + "-" + hex.EncodeToString(sum[:6])
}

// fingerprint tells whether a webhook was changed since its endpoint said that
// it is gone.
func fingerprint(w *policy.Webhook) string {
	j, err := json.Marshal(w)
	if err != nil {
		panic("BUG: webhook has no JSON: " + err.Error())
	}
	sum := sha256.Sum256(append(j, w.Secret.Reveal()...))
	return hex.EncodeToString(sum[:])
}

// States of a webhook.
const (
	StateOK       = "ok"
	StateRetrying = "retrying" // the last request failed
	StateOpen     = "open"     // the breaker is: the endpoint is asked now and then
	StateGone     = "gone"     // the endpoint answered 410
	StateDisabled = "disabled" // by policy
	StateBroken   = "broken"   // it could not begin, or its place cannot be read
)

// Status is how one webhook stands.
type Status struct {
	Name, Tenant string
	Endpoint     string // scheme and host; a path can be a secret
	State        string
	Since        time.Time // of the state, where it is not ok
	Behind       uint64    // numbers of the log not yet dealt with
	Lag          time.Duration
	LastSuccess  time.Time
	LastError    string
	LastErrorAt  time.Time
	NextTry      time.Time
	Counts       Counts
	GivenUp      *Range // the newest
}

// Counts are totals since the node started, but GivenUp, which is kept.
type Counts struct {
	Posted     uint64 // events
	Batches    uint64 // taken
	Failures   uint64 // requests
	GivenUp    uint64 // events
	Lost       uint64 // numbers that retention took before they were read
	Unreadable uint64 // lines of the log that are no JSON, left out
	Commits    uint64 // places written
	Unwritten  uint64 // places that could not be written
}

// Range is events that were given up in one run of failures.
type Range struct {
	First  string    `json:"first"` // event ids
	Last   string    `json:"last"`
	Events int       `json:"events"`
	From   time.Time `json:"from"` // time of the oldest and newest
	To     time.Time `json:"to"`
	Since  time.Time `json:"since"` // when the run of failures began
	At     time.Time `json:"at"`
	Why    string    `json:"why"`
}

// Status lists all webhooks of policy, by name.
func (h *Hooks) Status() []Status {
	now := time.Now()
	lost := map[string]uint64{}
	for _, c := range h.o.Log.Consumers() {
		lost[c.Name] = c.Lost
	}
	head := h.o.Log.Head()
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]Status, 0, len(h.mu.set))
	for name, w := range h.mu.set {
		id := consumerName(name)
		s := Status{Name: name, Tenant: w.Tenant, Endpoint: endpoint(w.URL), State: StateOK}
		rec := h.mu.gone[id]
		switch r := h.mu.runners[id]; {
		case w.Disabled:
			s.State = StateDisabled
		case r != nil:
			r.fill(&s, head, now)
			s.Counts.Lost = lost[id]
		case rec != nil:
			s.State, s.Since, s.LastError = StateGone, rec.GoneAt, goneText
			s.Counts.GivenUp, s.GivenUp = rec.GivenUp, rec.LastGivenUp
		default:
			s.State, s.LastError = StateBroken, cmp.Or(h.mu.broken[id], "not begun yet")
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Status) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
