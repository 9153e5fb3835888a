package sources

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"hikyaku/controlplane/keyspace"
)

// none is no node.
const none = int32(-1)

// stepState is what one Step works with; its slices are used again by the next.
type stepState struct {
	a   *Allocator
	now time.Time
	in  *Input
	out Decision

	nodes  []node
	byNode map[string]int32
	weight []int64 // by node: see weigh
	// strangers are records of sources that the policy does not have.
	strangers []*Assigned

	// By pool and node: sources that are held or on their way there, and mail
	// that waits; the latter is empty if none does.
	count   []int32
	backlog []int64
	// By source: its record, what a node said of it, where it is or will be
	// (none if nowhere), and whether it is held there and nothing is to happen
	// to it.
	recs  []*Assigned
	words []*Word
	at    []int32
	firm  []bool
	// free are the sources to place, by group when sorted.
	free []waiting
	// eligible nodes by class, and the same as a bit by class and node.
	eligible [][]int32
	may      []bool
}

// node is a Node as Step needs it.
type node struct {
	*Node
	cap     int64
	load    int64
	settled bool
}

// weigh works out what one source more would weigh on a node: the growth of load
// squared, for each part of the capacity. Fine enough to tell any two loads apart.
func (s *stepState) weigh(n int32) {
	s.weight[n] = ((2*s.nodes[n].load + 1) << 20) / s.nodes[n].cap
}

// waiting is a source that may be placed.
type waiting struct {
	source int32
	rec    *Assigned // nil: there is none
	prefer int32     // node
	why    string
}

func (s *stepState) begin(a *Allocator, now time.Time, in *Input) {
	*s = stepState{
		a: a, now: now, in: in, nodes: s.nodes[:0], byNode: s.byNode, weight: s.weight[:0], strangers: s.strangers[:0],
		count: s.count[:0], backlog: s.backlog[:0], recs: s.recs[:0], words: s.words[:0], at: s.at[:0], firm: s.firm[:0],
		free: s.free[:0], eligible: s.eligible[:0], may: s.may[:0],
	}
	for range a.sources {
		s.at, s.recs, s.words, s.firm = append(s.at, none), append(s.recs, nil), append(s.words, nil), append(s.firm, false)
	}
	for i := range in.Assigned {
		if n, ok := a.byName[in.Assigned[i].Source]; ok {
			s.recs[n] = &in.Assigned[i]
		} else {
			s.strangers = append(s.strangers, &in.Assigned[i])
		}
	}
	for i := range in.Words {
		// Several nodes may speak of a source; the newest epoch counts.
		w := &in.Words[i]
		if n, ok := a.byName[w.Source]; ok && (s.words[n] == nil || w.Epoch > s.words[n].Epoch) {
			s.words[n] = w
		}
	}
	s.beginNodes(in)
}

func (s *stepState) beginNodes(in *Input) {
	if s.byNode == nil {
		s.byNode = map[string]int32{}
	}
	clear(s.byNode)
	waiting := false
	for i := range in.Nodes {
		n := &in.Nodes[i]
		s.nodes = append(s.nodes, node{Node: n, cap: int64(max(n.Capacity, 1))})
		waiting = waiting || len(n.Backlog) > 0
	}
	slices.SortFunc(s.nodes, func(x, y node) int { return cmp.Compare(x.Name, y.Name) })
	for i := range s.nodes {
		s.weight = append(s.weight, 0)
		s.weigh(int32(i))
		s.byNode[s.nodes[i].Name] = int32(i)
	}
	s.count = append(s.count, make([]int32, len(s.a.pools)*len(s.nodes))...)
	if waiting {
		for _, p := range s.a.pools {
			for i := range s.nodes {
				s.backlog = append(s.backlog, s.nodes[i].Backlog[p])
			}
		}
	}
	s.may = append(s.may, make([]bool, len(s.a.classes)*len(s.nodes))...)
	for c := range s.a.classes {
		var list []int32
		for n := range s.nodes {
			if !s.nodes[n].Drain && fits(s.nodes[n].Labels, s.a.classes[c].labels) {
				list = append(list, int32(n))
				s.may[c*len(s.nodes)+n] = true
			}
		}
		s.eligible = append(s.eligible, list)
	}
}

// fits reports whether a node has all labels that are asked for.
func fits(has, asked map[string]string) bool {
	for k, v := range asked {
		if got, ok := has[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// mayHold reports whether a node may be given a source.
func (s *stepState) mayHold(src, n int32) bool {
	return s.may[int(s.a.sources[src].class)*len(s.nodes)+int(n)]
}

// seeLeases notes which leases have come and which have gone.
func (s *stepState) seeLeases() {
	for _, m := range s.a.leases {
		m.mark = false
	}
	for i := range s.nodes {
		n := &s.nodes[i]
		m := s.a.leases[n.Lease]
		if m == nil {
			m = &leaseMemory{since: s.now}
			s.a.leases[n.Lease] = m
		}
		m.gone, m.mark = time.Time{}, true
		n.settled = s.now.Sub(m.since) >= s.a.cfg.Settle
	}
	for _, m := range s.a.leases {
		if !m.mark && m.gone.IsZero() {
			m.gone = s.now
		}
	}
}

// gone is when a lease that is not registered went. Of one that this leader has
// never seen nobody can say when that was, so it counts from a TTL after this
// leader's beginning.
func (s *stepState) gone(lease int64) time.Time {
	m := s.a.leases[lease]
	if m == nil {
		m = &leaseMemory{gone: s.a.start.Add(s.a.cfg.TTL)}
		if m.gone.Before(s.now) {
			m.gone = s.now
		}
		s.a.leases[lease] = m
	}
	m.mark = true
	return m.gone
}

// holder is how the lease of a record stands.
type holder int

const (
	living   holder = iota // registered
	replaced               // the same node's next incarnation is registered
	missing                // neither
)

func (s *stepState) holderOf(r *Assigned) (int32, holder) {
	n, ok := s.byNode[r.Node]
	switch {
	case !ok || r.Lease == 0:
		return none, missing
	case s.nodes[n].Lease == r.Lease:
		return n, living
	case s.nodes[n].Replaces == r.Lease:
		return n, replaced
	}
	return n, missing
}

// judge decides on one source of the policy.
func (s *stepState) judge(i int32) {
	src := &s.a.sources[i]
	rec := s.recs[i]
	if !src.Movable {
		if rec != nil {
			s.letGo(rec, s.words[i], "the source is disabled, pinned or has no address")
		}
		return
	}
	if rec == nil {
		s.wait(i, nil, none, "new source")
		return
	}
	st := src.stayUnder(rec.Epoch, s.now)
	switch rec.State {
	case keyspace.Held:
		s.judgeHeld(i, rec, st)
	case keyspace.Releasing:
		s.out.Releasing++
		s.judgeReleasing(i, rec, st)
	case keyspace.Quarantined:
		s.out.Quarantined++
		s.judgeQuarantined(i, rec)
	default:
		s.wait(i, rec, none, "free")
	}
}

func (s *stepState) judgeHeld(i int32, rec *Assigned, st *stay) {
	n, h := s.holderOf(rec)
	switch h {
	case missing:
		s.out.Held++
		s.quarantine(rec)
	case replaced:
		if s.mayHold(i, n) {
			s.wait(i, rec, n, "the node has started again")
		} else {
			s.wait(i, rec, none, "the node has started again and may not hold it any more")
		}
	case living:
		if s.released(rec, s.words[i]) {
			// It let go by itself, as when its policy was ahead of ours for a
			// moment, and never uses a source again under the same epoch.
			s.wait(i, rec, none, "given back by "+rec.Node)
			return
		}
		s.out.Held++
		switch why := s.mustLeave(i, n, rec, st); {
		case why != "":
			s.release(rec, why, false)
		default:
			s.firm[i] = true
			s.settle(i, n)
		}
	}
}

// mustLeave says why a node may not keep a source; "" if it may.
func (s *stepState) mustLeave(i, n int32, rec *Assigned, st *stay) string {
	if s.nodes[n].Drain {
		return "the node drains"
	}
	if !s.mayHold(i, n) {
		return "the node's labels are not those that the source asks for"
	}
	w := s.words[i]
	if w == nil || w.Fault == "" || w.Node != rec.Node || w.Lease != rec.Lease || w.Epoch != rec.Epoch {
		return ""
	}
	st.bad, st.badUntil = rec.Node, s.now.Add(s.a.cfg.FaultPause)
	if len(s.eligible[s.a.sources[i].class]) < 2 {
		return "" // nobody else could do better
	}
	return "the node cannot use it: " + w.Fault
}

func (s *stepState) judgeReleasing(i int32, rec *Assigned, st *stay) {
	switch n, h := s.holderOf(rec); {
	case h == missing:
		s.quarantine(rec)
	case h == replaced || s.released(rec, s.words[i]):
		target := none
		if t, ok := s.byNode[st.target]; ok && st.target != "" && s.mayHold(i, t) {
			target = t
		}
		if h == replaced && target == none && s.mayHold(i, n) {
			target = n
		}
		s.wait(i, rec, target, "released by "+rec.Node)
	default:
		// Its place is taken, so that others do not go there.
		if t, ok := s.byNode[st.target]; ok && st.target != "" && s.mayHold(i, t) {
			s.settle(i, t)
		}
	}
}

// released reports whether the holder has said that it let go.
func (s *stepState) released(rec *Assigned, w *Word) bool {
	return w != nil && w.Released && w.Node == rec.Node && w.Lease == rec.Lease && w.Epoch == rec.Epoch
}

func (s *stepState) judgeQuarantined(i int32, rec *Assigned) {
	n, h := s.holderOf(rec)
	switch {
	case h == living:
		// Its registration was taken away by hand and is back under the same
		// lease. It knows nothing of time; it must say that it let go.
		s.release(rec, "the holder is back under the same lease", false)
	case h == replaced && s.mayHold(i, n):
		s.wait(i, rec, n, "the node has started again")
	case h == replaced || s.over(rec):
		prefer := none
		if n != none && s.mayHold(i, n) {
			prefer = n // it is back, and was the last to have it
		}
		s.wait(i, rec, prefer, "the quarantine after "+rec.Node+" is over")
	}
}

// over reports whether the quarantine has passed, and otherwise notes when.
func (s *stepState) over(rec *Assigned) bool {
	until := s.gone(rec.Lease).Add(s.a.cfg.Quarantine)
	if !until.After(s.now) {
		return true
	}
	if s.out.Next.IsZero() || until.Before(s.out.Next) {
		s.out.Next = until
	}
	return false
}

// letStrangersGo takes back what belongs to no source of the policy.
func (s *stepState) letStrangersGo() {
	if len(s.strangers) == 0 {
		return
	}
	words := map[string]*Word{}
	for i := range s.in.Words {
		if w := &s.in.Words[i]; words[w.Source] == nil || w.Epoch > words[w.Source].Epoch {
			words[w.Source] = w
		}
	}
	for _, rec := range s.strangers {
		s.letGo(rec, words[rec.Source], "the source is not in the policy")
	}
}

// letGo brings a record to Free, by the way of its state.
func (s *stepState) letGo(rec *Assigned, word *Word, why string) {
	_, h := s.holderOf(rec)
	switch rec.State {
	case keyspace.Held:
		switch h {
		case living:
			s.release(rec, why, false)
		case replaced:
			s.set(rec, keyspace.Free, why)
		case missing:
			s.quarantine(rec)
		}
	case keyspace.Releasing:
		switch {
		case h == replaced || h == living && s.released(rec, word):
			s.set(rec, keyspace.Free, why)
		case h == missing:
			s.quarantine(rec)
		}
	case keyspace.Quarantined:
		switch {
		case h == living:
			s.release(rec, why, false)
		case h == replaced || s.over(rec):
			s.set(rec, keyspace.Free, why)
		}
	}
}

// quarantine notes that the holder is gone.
func (s *stepState) quarantine(rec *Assigned) {
	s.over(rec) // for Next
	s.set(rec, keyspace.Quarantined, fmt.Sprintf("the lease of %s is gone", rec.Node))
}

// release asks the holder to let go.
func (s *stepState) release(rec *Assigned, why string, move bool) {
	s.set(rec, keyspace.Releasing, why)
	s.out.Changes[len(s.out.Changes)-1].Move = move
}

// set changes a record's state and keeps epoch and holder; a free one has none.
func (s *stepState) set(rec *Assigned, state, why string) {
	next := rec.Assignment
	next.State, next.Since, next.Reason = state, s.now, why
	if state == keyspace.Free {
		next.Node, next.Lease = "", 0
	}
	s.out.Changes = append(s.out.Changes, Change{Revision: rec.Revision, New: next})
}

// give makes a node the holder, under the next epoch.
func (s *stepState) give(w waiting, n int32) {
	c := Change{New: keyspace.Assignment{
		Source: s.a.sources[w.source].Name, Epoch: 1, Node: s.nodes[n].Name, Lease: s.nodes[n].Lease,
		State: keyspace.Held, Since: s.now, Reason: w.why,
	}}
	if w.rec != nil {
		c.Revision, c.New.Epoch = w.rec.Revision, w.rec.Epoch+1
	}
	s.out.Changes = append(s.out.Changes, c)
	s.settle(w.source, n)
}

// settle counts a source where it is or will be.
func (s *stepState) settle(i, n int32) {
	s.at[i] = n
	s.shift(i, n, 1)
}

func (s *stepState) shift(i, n int32, by int32) {
	s.nodes[n].load += int64(by)
	s.weigh(n)
	for _, p := range s.a.sources[i].pools {
		s.count[int(p)*len(s.nodes)+int(n)] += by
	}
}

func (s *stepState) wait(i int32, rec *Assigned, prefer int32, why string) {
	s.out.Free++
	s.free = append(s.free, waiting{i, rec, prefer, why})
}

// stayUnder is what is remembered of a source that stands under this epoch.
func (s *source) stayUnder(epoch int64, now time.Time) *stay {
	if s.stay.epoch != epoch {
		s.stay.epoch, s.since, s.target = epoch, now, ""
	}
	return &s.stay
}

// remembered is how long a lease that has gone is remembered though no record
// names it: one may be on its way to etcd.
const remembered = 5 * time.Minute

// forget drops memory that no record needs any more.
func (s *stepState) forget() {
	for lease, m := range s.a.leases {
		if !m.mark && s.now.Sub(m.gone) >= remembered {
			delete(s.a.leases, lease)
		}
	}
}
