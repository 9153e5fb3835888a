package webhook

import (
	"cmp"
	"slices"
	"time"
)

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
	now, head, broken := time.Now(), h.o.Log.End().Seq, h.shelf.broken()
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]Status, 0, len(h.mu.set))
	for name, w := range h.mu.set {
		s := Status{Name: name, Tenant: w.Tenant, Endpoint: endpoint(w.URL), State: StateOK}
		rec := h.mu.rest[name]
		switch r := h.mu.runners[name]; {
		case w.Disabled:
			s.State = StateDisabled
		case r != nil:
			r.fill(&s, head, now, broken)
		case rec != nil && rec.Gone != "":
			s.State, s.Since, s.LastError = StateGone, rec.GoneAt, goneText
			s.Counts.GivenUp, s.GivenUp = rec.GivenUp, rec.LastGivenUp
		default:
			s.State, s.LastError = StateBroken, "not begun yet"
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Status) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Problem is why places cannot be kept, "" where all is well. What is posted
// while they cannot would be posted again after a restart.
func (h *Hooks) Problem() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.problem
}
