package webhook

import (
	"bytes"
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
	"sync"
	"time"

	"hikyaku/controlplane/policy"
)

// Options set up Hooks. Node, Store, Log and Dir are required.
type Options struct {
	Node  string // the node's name, told to receivers
	Store string // id of the spool whose events these are; part of their ids
	Log   Log
	Dir   string // for the places in the log
	// Lookup finds the addresses of a name. Default: the system's resolver.
	Lookup  func(ctx context.Context, host string) ([]netip.Addr, error)
	Roots   *x509.CertPool // nil: the system's
	Version string         // for User-Agent
	Logger  *slog.Logger
}

// Hooks is all webhooks of a node.
type Hooks struct {
	o        Options
	shelf    *shelf
	breakers breakers
	lanes    *lanes
	dial     dialFunc // net.Dialer's but in tests

	root    context.Context
	stop    context.CancelFunc
	changed chan struct{} // capacity 1: policy, or a webhook that ended
	dirty   chan struct{} // capacity 1: places have moved
	running sync.WaitGroup

	mu struct {
		sync.Mutex
		set     map[string]*policy.Webhook // nil before the first Apply
		runners map[string]*runner
		rest    map[string]*record // of those that do not run
		problem string             // why places cannot be kept
	}
	// manage's own:
	orphans map[string]time.Time // records of webhooks that are not in policy, since when
	lost    *position            // where those begin of which the records were unreadable
	written []byte               // the records on disk
	holding *Place               // what the log keeps for us
}

const (
	// orphanGrace is how long the place of a webhook that is not in policy is
	// kept. A node that starts without its policy must not forget where it was.
	orphanGrace = 10 * time.Minute
	// tidyEvery is how often orphans are looked at.
	tidyEvery = time.Minute
	// keepEvery is how often places are written: two files, for all webhooks. A
	// crash repeats what was posted since.
	keepEvery = time.Second
)

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
	h := &Hooks{o: o, lanes: newLanes(), dial: dialer, changed: make(chan struct{}, 1), dirty: make(chan struct{}, 1), orphans: map[string]time.Time{}}
	h.breakers.mu.of = map[string]*breaker{}
	h.mu.runners = map[string]*runner{}
	if err := h.open(); err != nil {
		return nil, err
	}
	h.shelf = newShelf(o.Log, o.Logger, func() { poke(h.dirty) })
	h.root, h.stop = context.WithCancel(context.Background())
	h.running.Go(h.manage) // both waited for by Close
	h.running.Go(func() { h.shelf.watch(h.root) })
	return h, nil
}

// open reads where webhooks were. Without that they begin where the log has kept
// everything for the slowest of them: what comes twice has the same id.
func (h *Hooks) open() error {
	b, err := readBook(h.o.Dir)
	if err != nil && !errors.Is(err, errTorn) {
		return err
	}
	at, held := h.o.Log.Held()
	if held {
		h.holding = &at
	}
	if errors.Is(err, errTorn) {
		h.o.Logger.Error("webhooks begin at the oldest event that one of them may lack", "error", err)
		b = &book{Webhooks: map[string]*record{}}
		if held {
			h.lost = &position{Place: at}
		}
	}
	h.mu.rest = b.Webhooks
	return nil
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

func (h *Hooks) poke() { poke(h.changed) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is about to look
	}
}

// Close stops posting and waits, closeWithin at most for the answers to what has
// been sent. What was posted so far is kept.
func (h *Hooks) Close() {
	h.stop()
	h.running.Wait()
	h.shelf.close()
}

// manage keeps the runners as policy wants them, writes places, and waits for
// the runners in the end.
func (h *Hooks) manage() {
	tidy := time.NewTicker(tidyEvery)
	defer tidy.Stop()
	keep := time.NewTimer(keepEvery)
	keep.Stop()
	due := false
	for {
		select {
		case <-h.changed:
			h.reconcile(time.Now())
		case <-tidy.C:
			h.reconcile(time.Now())
		case <-h.dirty:
			if !due {
				due = true
				keep.Reset(keepEvery)
			}
		case <-keep.C:
			due = false
			h.keep()
		case <-h.root.Done():
			keep.Stop()
			h.mu.Lock()
			started := h.mu.set != nil
			h.mu.Unlock()
			for _, r := range h.all() {
				r.close()
			}
			if started {
				h.keep()
			}
			return
		}
	}
}

func (h *Hooks) all() []*runner {
	h.mu.Lock()
	defer h.mu.Unlock()
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
	for name, w := range set {
		if w.Disabled {
			h.halt(name, false)
			continue
		}
		h.ensure(name, w)
	}
	for _, r := range h.all() {
		if set[r.name] == nil {
			h.halt(r.name, true)
		}
	}
	h.forgetOrphans(set, now)
	h.lost = nil // it is for those that were there at the start
	h.keep()     // where a new one begins is kept before anything else
}

// ensure has the webhook posted, with these settings.
func (h *Hooks) ensure(name string, w *policy.Webhook) {
	h.mu.Lock()
	r, rec := h.mu.runners[name], h.mu.rest[name]
	h.mu.Unlock()
	if r != nil && !r.ended() {
		r.change(w)
		return
	}
	if r != nil { // the endpoint answered 410
		rec = r.record()
		h.halt(name, true)
	}
	switch {
	case rec == nil:
		rec = &record{At: h.lost}
	case rec.Gone == "":
	case rec.Gone == fingerprint(w):
		return // it stays off
	default:
		rec = &record{}
	}
	r = newRunner(h, name, w, rec)
	h.mu.Lock()
	delete(h.mu.rest, name)
	h.mu.runners[name] = r
	h.mu.Unlock()
	r.start()
}

// halt stops a runner, if there is one. What is kept of it waits for its return,
// or is forgotten: what happens while a webhook is disabled is not posted.
func (h *Hooks) halt(name string, remember bool) {
	h.mu.Lock()
	r := h.mu.runners[name]
	h.mu.Unlock()
	if r != nil {
		r.close()
	}
	h.mu.Lock()
	delete(h.mu.runners, name)
	delete(h.mu.rest, name)
	if r != nil && remember {
		h.mu.rest[name] = r.record()
	}
	h.mu.Unlock()
	if r != nil {
		h.shelf.leave(r.place)
		h.breakers.drop(name)
	}
}

// forgetOrphans removes the records of webhooks that are gone from policy for
// good.
func (h *Hooks) forgetOrphans(set map[string]*policy.Webhook, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name := range h.mu.rest {
		if set[name] != nil {
			continue
		}
		if since, known := h.orphans[name]; !known {
			h.orphans[name] = now
		} else if now.Sub(since) >= orphanGrace {
			delete(h.mu.rest, name)
		}
	}
	for name := range h.orphans {
		if h.mu.rest[name] == nil || set[name] != nil {
			delete(h.orphans, name)
		}
	}
}

// keep writes the places of all, then lets the log go up to the first of them. A
// crash between the two has the log keep more than is needed.
func (h *Hooks) keep() {
	b := &book{Webhooks: map[string]*record{}}
	h.mu.Lock()
	for name, rec := range h.mu.rest {
		b.Webhooks[name] = rec
	}
	for name, r := range h.mu.runners {
		b.Webhooks[name] = r.record()
	}
	h.mu.Unlock()
	var err error
	if text := b.text(); !bytes.Equal(text, h.written) {
		if err = writeBook(h.o.Dir, text); err == nil {
			h.written = text
		}
	}
	if err == nil {
		err = h.hold(b)
	}
	h.mu.Lock()
	was := h.mu.problem
	h.mu.problem = ""
	if err != nil {
		h.mu.problem = err.Error()
	}
	h.mu.Unlock()
	if err != nil {
		if was == "" {
			h.o.Logger.Error("places of webhooks cannot be kept", "error", err)
		}
		poke(h.dirty) // again in a while
	}
}

func (h *Hooks) hold(b *book) error {
	at, needed := b.floor()
	switch {
	case !needed && h.holding == nil, needed && h.holding != nil && *h.holding == at:
		return nil
	case !needed:
		if err := h.o.Log.Release(); err != nil {
			return err
		}
		h.holding = nil
	default:
		if err := h.o.Log.Hold(at); err != nil {
			return err
		}
		h.holding = &at
	}
	return nil
}

// fingerprint tells whether a webhook was changed since its endpoint said that
// it is gone.
func fingerprint(w *policy.Webhook) string {
	j, err := json.Marshal(w)
	if err != nil {
		panic("BUG: webhook has no JSON: " + err.Error())
	}
	for _, s := range []policy.Secret{w.Secret, w.FormerSecret, w.Authorization} {
		j = append(append(j, s.Reveal()...), 0)
	}
	sum := sha256.Sum256(j)
	return hex.EncodeToString(sum[:])
}
