package replies

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/reputation"
)

// A carrier that changes its wording says so by replies that no rule knows: until
// somebody has written a rule, they are judged by their codes alone.

const (
	strangeSpan  = 5 * time.Minute
	strangeSlots = 12 // an hour
	// From so many of them in the last hour, and from such a part of the replies
	// that were no success, a person should look.
	strangeLeast = 20
	strangePart  = 0.1
	maxCarriers  = 512
)

// wordings counts by carrier how many of the replies of the last hour no rule knew.
type wordings struct {
	mu struct {
		sync.Mutex
		carriers map[string]*wording
	}
}

type wording struct {
	at      int64 // number of the slot that is filling, since 1970
	bad     [strangeSlots]uint32
	strange [strangeSlots]uint32
}

// advance empties the slots between the last one and that of now.
func (w *wording) advance(now time.Time) {
	at := now.Unix() / int64(strangeSpan/time.Second)
	for gap := max(w.at, at-strangeSlots) + 1; gap <= at; gap++ {
		w.bad[gap%strangeSlots], w.strange[gap%strangeSlots] = 0, 0
	}
	w.at = max(w.at, at) // a clock that was set back counts into the slot that was open
}

func (s *wordings) init() { s.mu.carriers = map[string]*wording{} }

// note counts a reply that was no success. What the default carrier says is what
// thousands of hosts say, each in its own words.
func (s *wordings) note(now time.Time, carrier string, category reputation.Category) {
	if carrier == policy.DefaultName {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.mu.carriers[carrier]
	if w == nil {
		if len(s.mu.carriers) >= maxCarriers {
			return
		}
		w = &wording{}
		s.mu.carriers[carrier] = w
	}
	w.advance(now)
	w.bad[w.at%strangeSlots]++
	if category == reputation.Unknown {
		w.strange[w.at%strangeSlots]++
	}
}

// Stranger is a carrier of whose replies too many are known to no rule.
type Stranger struct {
	Carrier      string
	Unclassified int // of the last hour
	Bad          int // replies that were no success, those included
}

// Strangers are the carriers whose wording seems to have changed, the most
// frequent first.
func (b *Book) Strangers(now time.Time) (list []Stranger) {
	s := &b.wordings
	s.mu.Lock()
	defer s.mu.Unlock()
	for carrier, w := range s.mu.carriers {
		w.advance(now)
		x := Stranger{Carrier: carrier}
		for i := range w.bad {
			x.Bad += int(w.bad[i])
			x.Unclassified += int(w.strange[i])
		}
		if x.Unclassified >= strangeLeast && float64(x.Unclassified) >= strangePart*float64(x.Bad) {
			list = append(list, x)
		}
	}
	slices.SortFunc(list, func(a, b Stranger) int {
		return cmp.Or(cmp.Compare(b.Unclassified, a.Unclassified), cmp.Compare(a.Carrier, b.Carrier))
	})
	return list
}
