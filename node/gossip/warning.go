package gossip

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// Warning says that a carrier refuses a source, as one node has seen it. Others
// may slow down by it until Until; nothing else follows from it.
type Warning struct {
	Carrier string
	Source  string // "" is any
	Pattern string // what was said there, in a word: "421 4.7.0 rate"
	Until   time.Time
	From    string // the node; Warn sets it
}

// Bounds of warnings.
const (
	// MaxWarning is how long a warning holds at most.
	MaxWarning = time.Minute
	// MaxWarnings are kept; new ones above that are dropped.
	MaxWarnings = 4096

	maxOfOneNode = 256
	// repeatAfter is how long the same warning is not sent again.
	repeatAfter = time.Second
	// sentPerSecond bounds what this node sends; a burst may be twice that.
	sentPerSecond = 20
	// toldAtOnce members get a warning without waiting for gossip to pass it on.
	toldAtOnce = 32
	// callsWaiting bounds what OnWarning has not been told yet.
	callsWaiting = 256
)

// warningKey is what makes two warnings the same.
type warningKey struct{ from, carrier, source, pattern string }

func (k warningKey) String() string {
	return strings.Join([]string{k.from, k.carrier, k.source, k.pattern}, "\x00")
}

// warned is a warning as it is kept.
type warned struct {
	text  warningText
	until time.Time // on our monotonic clock
	sent  time.Time // own warnings
}

// ErrTooMany says that a warning was not sent since there were too many.
var ErrTooMany = errors.New("gossip: too many warnings")

// Warn tells all nodes. A warning that was sent within the last second is not
// sent again. Until is cut to MaxWarning from now, and Pattern, which is a
// stranger's text, to what can be sent.
func (g *Gossip) Warn(w Warning) error {
	now := time.Now()
	left := min(w.Until.Sub(now), MaxWarning)
	t := warningText{From: g.name, Boot: g.boot, Seq: 1, Carrier: w.Carrier, Source: w.Source, Pattern: shorten(w.Pattern), Left: left.Milliseconds()}
	if err := t.check(); err != nil {
		return fmt.Errorf("gossip: warn: %w", err)
	}
	key := warningKey{g.name, t.Carrier, t.Source, t.Pattern}
	g.mu.Lock()
	was, again := g.mu.warnings[key]
	switch {
	case g.mu.closed:
		g.mu.Unlock()
		return errClosed
	case again && now.Sub(was.sent) < repeatAfter:
		g.mu.metrics.WarningsRepeated++
		g.mu.Unlock()
		return nil
	case !g.mu.allowance.take(now) || !again && !g.roomLocked(g.name, now):
		g.mu.metrics.WarningsDropped++
		g.mu.Unlock()
		return ErrTooMany
	}
	g.mu.warningSeq++
	t.Seq = g.mu.warningSeq
	g.mu.warnings[key] = warned{t, now.Add(left), now}
	if !again {
		g.mu.ofNode[g.name]++
	}
	g.mu.metrics.WarningsSent++
	g.mu.Unlock()

	b := encode(kindWarning, t)
	g.warningQueue.QueueBroadcast(&broadcast{key.String(), b})
	g.sendAtOnce(b)
	return nil
}

// shorten makes a text fit to be sent and shown.
func shorten(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxText)], "")
	return strings.Map(func(r rune) rune {
		if !plain(string(r)) {
			return ' '
		}
		return r
	}, s)
}

// sendAtOnce spares up to toldAtOnce members the rounds of gossip. It is one
// datagram each; who does not get it hears of it by gossip.
func (g *Gossip) sendAtOnce(b []byte) {
	g.mu.Lock()
	to := make([]memberlist.Address, 0, toldAtOnce)
	for name, p := range g.mu.peers { // in random order
		if name != g.name && len(to) < toldAtOnce {
			to = append(to, memberlist.Address{Addr: p.addr.String(), Name: name})
		}
	}
	g.mu.Unlock()
	for _, a := range to {
		if err := g.list.SendToAddress(a, b); err != nil {
			g.log.Debug("gossip: send a warning", "to", a.Name, "error", err)
		}
	}
}

// hearWarning takes a warning of another node, and reports whether it was news.
func (g *Gossip) hearWarning(t warningText) bool {
	if t.From == g.name {
		return false
	}
	now := time.Now()
	key := warningKey{t.From, t.Carrier, t.Source, t.Pattern}
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.mu.peers[t.From]
	switch {
	case g.mu.closed:
		return false
	case p == nil || p.boot != t.Boot:
		g.mu.metrics.Foreign++
		return false
	case !p.warnings.take(t.Seq):
		g.mu.metrics.WarningsRepeated++
		return false
	}
	was, again := g.mu.warnings[key]
	if again && was.text.Boot == t.Boot && was.text.Seq > t.Seq {
		return false // overtaken on the way
	}
	if !again && !g.roomLocked(t.From, now) {
		g.mu.metrics.WarningsDropped++
		return false
	}
	w := warned{text: t, until: now.Add(time.Duration(t.Left) * time.Millisecond)}
	g.mu.warnings[key] = w
	if !again {
		g.mu.ofNode[t.From]++
	}
	g.mu.metrics.WarningsHeard++
	select {
	case g.calls <- w.warning():
	default:
		g.mu.metrics.WarningsDropped++
	}
	return true
}

// roomLocked reports whether one more warning of a node can be kept.
func (g *Gossip) roomLocked(from string, now time.Time) bool {
	if len(g.mu.warnings) >= MaxWarnings || g.mu.ofNode[from] >= maxOfOneNode {
		g.expireLocked(now)
	}
	return len(g.mu.warnings) < MaxWarnings && g.mu.ofNode[from] < maxOfOneNode
}

// expireLocked forgets the warnings that are over.
func (g *Gossip) expireLocked(now time.Time) {
	for key, w := range g.mu.warnings {
		if now.Before(w.until) {
			continue
		}
		delete(g.mu.warnings, key)
		if g.mu.ofNode[key.from]--; g.mu.ofNode[key.from] <= 0 {
			delete(g.mu.ofNode, key.from)
		}
	}
}

// Warnings are those in force, this node's own among them.
func (g *Gossip) Warnings() []Warning {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []Warning
	for _, w := range g.mu.warnings {
		if now.Before(w.until) {
			out = append(out, w.warning())
		}
	}
	slices.SortFunc(out, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(a.Carrier, b.Carrier), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Pattern, b.Pattern), cmp.Compare(a.From, b.From))
	})
	return out
}

func (w *warned) warning() Warning {
	return Warning{Carrier: w.text.Carrier, Source: w.text.Source, Pattern: w.text.Pattern, Until: w.until, From: w.text.From}
}

// left is the warning as it is passed on: with the time that is left of it.
func (w *warned) left(now time.Time) (warningText, bool) {
	t := w.text
	t.Left = w.until.Sub(now).Milliseconds()
	return t, t.Left > 0
}

// allowance is a bucket of warnings to send.
type allowance struct {
	n  float64
	at time.Time
}

func (a *allowance) take(now time.Time) bool {
	if a.at.IsZero() {
		a.n = 2 * sentPerSecond
	} else {
		a.n = min(2*sentPerSecond, a.n+now.Sub(a.at).Seconds()*sentPerSecond)
	}
	a.at = now
	if a.n < 1 {
		return false
	}
	a.n--
	return true
}
