package replies

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/reputation"
	"hikyaku/spool/message"
)

// samples are replies as they were said, grouped by what is the same in them:
// those since the last report, and those that no rule knows, for people.
type samples struct {
	mu struct {
		sync.Mutex
		fresh   map[exchange.Sample]uint32 // keys have N 0
		looked  map[sampled]int            // replies looked at since the last report
		strange map[strange]*Group
		lost    int64 // unclassified replies whose groups had to make room
	}
}

// maxStrange bounds the groups of unclassified replies.
const maxStrange = 2000

// enough replies of one meaning are looked at between two reports. To find out what
// is the same in them costs more than all else that is done with a reply.
const enough = 8

type sampled struct{ carrier, source, category string }

type strange struct {
	carrier, phase, enhanced, text string
	code                           uint16
}

// Group are unclassified replies that differ in nothing but names and numbers.
type Group struct {
	Carrier  string    `json:"carrier"`
	Phase    string    `json:"phase"`
	Code     uint16    `json:"code"`
	Enhanced string    `json:"enhanced,omitempty"`
	Text     string    `json:"text"`
	N        int64     `json:"n"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
}

func (s *samples) init() {
	s.mu.looked = map[sampled]int{}
	s.mu.fresh, s.mu.strange = map[exchange.Sample]uint32{}, map[strange]*Group{}
}

// Sample notes one reply that was not a success, about a recipient; "" is none.
func (b *Book) Sample(now time.Time, lane Lane, recipient string, r *message.Reply, v *reputation.Verdict) {
	carrier, source := lane.Carrier, lane.Source
	if v.Category == reputation.Local || v.Category == reputation.Delivered {
		return
	}
	b.wordings.note(now, carrier, v.Category)
	s := &b.samples
	if !s.look(sampled{carrier, source, string(v.Category)}) {
		return
	}
	x := exchange.Sample{Carrier: carrier, Source: source, Category: string(v.Category), Phase: r.Phase.String(), Code: r.Code, Enhanced: r.Enhanced.String(), Text: reputation.Normalise(r.Text, recipient)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.mu.fresh[x]; known || len(s.mu.fresh) < exchange.MaxSamples {
		s.mu.fresh[x]++
	}
	if v.Category != reputation.Unknown {
		return
	}
	k := strange{carrier, x.Phase, x.Enhanced, x.Text, x.Code}
	g := s.mu.strange[k]
	if g == nil {
		if len(s.mu.strange) >= maxStrange {
			s.forgetLocked()
		}
		g = &Group{Carrier: carrier, Phase: x.Phase, Code: x.Code, Enhanced: x.Enhanced, Text: x.Text, First: now}
		s.mu.strange[k] = g
	}
	g.N++
	g.Last = now
}

// forgetLocked makes room for a group: of a few it takes the least frequent, of
// those the oldest. A server that says something else each time would have filled
// all the room for good.
func (s *samples) forgetLocked() {
	var out strange
	var least *Group
	n := 0
	for k, g := range s.mu.strange { // begins somewhere else each time
		if least == nil || g.N < least.N || g.N == least.N && g.Last.Before(least.Last) {
			out, least = k, g
		}
		if n++; n == fewGroups {
			break
		}
	}
	s.mu.lost += least.N
	delete(s.mu.strange, out)
}

const fewGroups = 16

// look reports whether one more reply of a kind is worth a look. All of those are
// that no rule knows: there should be none.
func (s *samples) look(k sampled) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.category == string(reputation.Unknown) {
		return true
	}
	if n := s.mu.looked[k]; n >= enough || n == 0 && len(s.mu.looked) >= maxLanes {
		return false
	}
	s.mu.looked[k]++
	return true
}

func (s *samples) take() []exchange.Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.mu.looked)
	if len(s.mu.fresh) == 0 {
		return nil
	}
	all := make([]exchange.Sample, 0, len(s.mu.fresh))
	for x, n := range s.mu.fresh {
		x.N = n
		all = append(all, x)
	}
	clear(s.mu.fresh)
	return all
}

// Unclassified are the groups of replies that no rule knows since the node's
// start, the most frequent first, and how many replies were in groups that had to make room.
func (b *Book) Unclassified() (groups []Group, lost int64) {
	s := &b.samples
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.mu.strange {
		groups = append(groups, *g)
	}
	slices.SortFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Carrier, b.Carrier), cmp.Compare(a.Text, b.Text), cmp.Compare(a.Phase, b.Phase), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Enhanced, b.Enhanced))
	})
	return groups, s.mu.lost
}
