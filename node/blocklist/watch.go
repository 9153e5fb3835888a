package blocklist

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Lookup asks DNS. No such name is an empty answer without an error.
type Lookup interface {
	A(ctx context.Context, name string) ([]netip.Addr, error)
	TXT(ctx context.Context, name string) ([]string, error)
}

// Source is an address that this node sends from.
type Source struct {
	Name string
	Addr netip.Addr
}

// Options set up a Watch. Lookup, Sources and Zones are required.
type Options struct {
	Lookup Lookup
	// Sources are those that the node has at the moment, Zones those that policy
	// names. Both are asked each minute.
	Sources func() []Source
	Zones   func() []string
	Logger  *slog.Logger
}

// refresh is how often sources and zones are looked at.
const refresh = time.Minute

// askTime bounds one question.
const askTime = 30 * time.Second

// Listing is what one zone says of one source.
type Listing struct {
	Source  Source
	Zone    string
	State   string
	Means   []string // of a listing or a refusal, or why there was no answer
	Reason  string   // in the list's own words
	Checked time.Time
	Since   time.Time // of being listed
}

// Watch asks on and on. Its one goroutine is started by New and waited for by
// Close.
type Watch struct {
	o       Options
	plan    Plan // the goroutine's own
	stop    context.CancelFunc
	running sync.WaitGroup

	mu struct {
		sync.Mutex
		sources []Source
		zones   []string
		found   map[Pair]Listing // without the source's name
	}
}

// New begins to watch.
func New(o Options) (*Watch, error) {
	if o.Lookup == nil || o.Sources == nil || o.Zones == nil {
		return nil, errors.New("blocklists: Lookup, Sources and Zones are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Watch{o: o}
	w.mu.found = map[Pair]Listing{}
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.running.Go(func() { w.run(ctx) })
	return w, nil
}

// Close ends what is under way and waits.
func (w *Watch) Close() {
	w.stop()
	w.running.Wait()
}

func (w *Watch) run(ctx context.Context) {
	looked := time.Time{}
	for ctx.Err() == nil {
		now := time.Now()
		if now.Sub(looked) >= refresh {
			looked = now
			w.look(now)
		}
		until := looked.Add(refresh)
		x, at, ok := w.plan.Next()
		if ok && !at.After(now) {
			w.ask(ctx, x)
			w.plan.Asked(time.Now())
			continue
		}
		if ok && at.Before(until) {
			until = at
		}
		t := time.NewTimer(until.Sub(now))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// look takes the sources and zones of the moment.
func (w *Watch) look(now time.Time) {
	var sources []Source
	var addrs []netip.Addr
	for _, s := range w.o.Sources() {
		s.Addr = s.Addr.Unmap()
		if s.Addr.IsGlobalUnicast() && !s.Addr.IsPrivate() { // nobody lists the others
			sources = append(sources, s)
			addrs = append(addrs, s.Addr)
		}
	}
	var zones []string
	for _, z := range w.o.Zones() {
		if z = strings.ToLower(strings.Trim(z, ".")); z != "" && !slices.Contains(zones, z) {
			zones = append(zones, z)
		}
	}
	all := append(probes(zones), pairs(addrs, zones)...)
	if len(all) > MaxPairs {
		w.o.Logger.Warn("more sources and blocklists than are asked about", "pairs", len(all), "most", MaxPairs)
		all = all[:MaxPairs]
	}
	w.plan.Set(all, now)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.sources, w.mu.zones = sources, zones
	for x := range w.mu.found {
		if _, ok := w.plan.due[x]; !ok {
			delete(w.mu.found, x)
		}
	}
}

// ask puts one question and keeps what came.
func (w *Watch) ask(ctx context.Context, x Pair) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	name := Name(x.Addr, x.Zone)
	answer, err := w.o.Lookup.A(ctx, name)
	if ctx.Err() != nil && err == nil {
		err = ctx.Err()
	}
	now := time.Now()
	w.mu.Lock()
	old := w.mu.found[x]
	w.mu.Unlock()
	next := Listing{Zone: x.Zone, Checked: now}
	switch {
	case err != nil && (old.State == Listed || old.State == Clear && now.Sub(old.Checked) < stale):
		return // what was known stands
	case err != nil:
		next.State, next.Means = Failed, []string{err.Error()}
	default:
		next.State, next.Means = Read(x.Zone, answer)
	}
	if next.State == Listed && !isProbe(x.Addr) {
		next.Since = now
		if old.State == Listed {
			next.Since, next.Reason = old.Since, old.Reason
		}
		if texts, err := w.o.Lookup.TXT(ctx, name); err == nil {
			next.Reason = reason(texts)
		}
	}
	w.mu.Lock()
	was := w.judgeLocked(x, old)
	w.mu.found[x] = next
	is := w.judgeLocked(x, next)
	w.mu.Unlock()
	if isProbe(x.Addr) {
		w.tellProbe(x, &old, &next)
		return
	}
	w.tell(x, &was, &is)
}

// stale is for how long a zone that cannot be asked counts as having nothing
// against an address. A listing stands until the zone takes it back.
const stale = 2 * time.Hour

// judgeLocked holds what a zone says of an address against what it says of the
// addresses that it must and must not list.
func (w *Watch) judgeLocked(x Pair, l Listing) Listing {
	everybody, nobody := w.mu.found[Pair{neverListed, x.Zone}], w.mu.found[Pair{alwaysListed, x.Zone}]
	switch {
	case l.State == Listed && everybody.State == Listed:
		l.State, l.Means = Refused, []string{"the zone lists everybody, 127.0.0.1 too: it was shut down, or somebody else has it"}
		l.Since, l.Reason = time.Time{}, ""
	case l.State == Clear && nobody.State == Clear && x.Addr.Is4():
		l.State, l.Means = Refused, []string{"the zone does not list 127.0.0.2, as each must: it was shut down, or the resolver drops its answers"}
	}
	return l
}

// tellProbe logs when a zone turns out to be none.
func (w *Watch) tellProbe(x Pair, old, next *Listing) {
	if old.State == next.State {
		return
	}
	switch {
	case x.Addr == neverListed && next.State == Listed:
		w.o.Logger.Warn("a blocklist lists everybody, and is not believed", "blocklist", x.Zone)
	case x.Addr == alwaysListed && next.State == Clear:
		w.o.Logger.Warn("a blocklist does not list its test address, and its silence is not believed", "blocklist", x.Zone)
	}
}

// tell logs what changed.
func (w *Watch) tell(x Pair, old, next *Listing) {
	if old.State == next.State {
		return
	}
	log := w.o.Logger.With("address", x.Addr, "blocklist", x.Zone)
	switch {
	case next.State == Listed:
		log.Error("a source is on a blocklist", "means", next.Means, "reason", next.Reason)
	case old.State == Listed && next.State == Clear:
		log.Info("a source is no longer on a blocklist", "after", next.Checked.Sub(old.Since).Round(time.Minute))
	case next.State == Refused:
		log.Warn("a blocklist does not answer our resolver", "means", next.Means)
	case next.State == Failed:
		log.Warn("a blocklist cannot be asked", "error", next.Means)
	}
}

// Status lists what is known, by source and zone.
func (w *Watch) Status() []Listing {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]Listing, 0, len(w.mu.sources)*len(w.mu.zones))
	for _, s := range w.mu.sources {
		for _, z := range w.mu.zones {
			if len(out) == MaxPairs {
				break
			}
			x := Pair{s.Addr, z}
			l, ok := w.mu.found[x]
			if !ok {
				l = Listing{Zone: z, State: Waiting}
			}
			l = w.judgeLocked(x, l)
			l.Source = s
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b Listing) int {
		return cmp.Or(cmp.Compare(a.Source.Name, b.Source.Name), a.Source.Addr.Compare(b.Source.Addr), cmp.Compare(a.Zone, b.Zone))
	})
	return out
}

// Alarms are the listings, in words.
func (w *Watch) Alarms() []string {
	var out []string
	for _, l := range w.Status() {
		if l.State == Listed {
			out = append(out, fmt.Sprintf("source %s (%s) is on the blocklist %s: %s", l.Source.Name, l.Source.Addr, l.Zone, strings.Join(l.Means, ", ")))
		}
	}
	return out
}
