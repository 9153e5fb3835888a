package controlplane_test

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"hikyaku/controlplane/keyspace"
)

// What a history of assignments and one of daily permits must look like (I26),
// as models for porcupine. One source, or one budget, is one register in etcd.
// Its writers are the control planes, by compare and set; nodes read it, and act
// by it.

// verb is what was done to a record, or by it.
type verb string

const (
	writes verb = "write" // a control plane, by a guarded transaction
	reads  verb = "read"  // anybody, from etcd
	uses   verb = "use"   // a node sends from the source
	letsGo verb = "let go"
	// comes is the registration of a new process in the place of an old one with
	// the same data directory: a proof that the old one is dead.
	comes verb = "come instead"
	gets  verb = "get" // a node holds more permits than before
	gives verb = "give back"
)

// outcome of a write.
type outcome string

const (
	done    outcome = "done"
	refused outcome = "refused"
	unknown outcome = "unknown" // it may take effect, now, later or never
)

// step is one operation of a history.
type step struct {
	key    string // of the record
	verb   verb
	term   int64               // of the writer
	mod    int64               // a write: the revision it was decided on; a read: that it found
	rev    int64               // a write that is done: its revision
	end    outcome             // of a write
	source keyspace.Assignment // written, read, or used by
	n      int64               // permits: counted after a write or by a read, or moved
}

func (s step) String() string {
	what := fmt.Sprintf("%d", s.n)
	if s.source.Source != "" {
		what = fmt.Sprintf("%s %d on %s/%x", s.source.State, s.source.Epoch, s.source.Node, s.source.Lease)
	}
	switch s.verb {
	case writes:
		return fmt.Sprintf("term %d writes %s over %d: %s %d", s.term, what, s.mod, s.end, s.rev)
	case reads:
		return fmt.Sprintf("read %s at %d", what, s.mod)
	}
	return fmt.Sprintf("%s %s", s.verb, what)
}

// never is when an operation returns whose outcome nobody knows.
const never = math.MaxInt64

// place is where a record stands in etcd. After a write of unknown outcome has
// taken effect, its revision is known only to be above mod.
type place struct {
	mod   int64
	above bool
	term  int64 // of the last writer
}

// at reports whether the record may be at a revision.
func (p place) at(mod int64) bool { return mod == p.mod && !p.above || mod > p.mod && p.above }

// passed reports whether the record can never be at a revision any more.
func (p place) passed(mod int64) bool { return mod < p.mod || mod == p.mod && p.above }

// put is the place after a write, and whether there may have been one. effect is
// false where it is as if nothing had been asked.
func (p place) put(s step) (after place, effect, ok bool) {
	switch {
	case s.end == refused:
		return p, false, true
	case p.at(s.mod):
		after = place{mod: s.rev, term: s.term}
		if s.end == unknown {
			after.mod, after.above = s.mod, true
		}
		// A term that has ended writes no more, and revisions only rise.
		return after, true, s.term >= p.term && (s.end == unknown || s.rev > s.mod)
	case s.end == unknown:
		// One that had no effect comes last, or when it is too late for ever.
		return p, false, p.passed(s.mod)
	}
	return p, false, false
}

// read is the place when a revision has been found.
func (p place) read(mod int64) (place, bool) {
	return place{mod: mod, term: p.term}, p.at(mod)
}

// register is a source.
type register struct {
	place
	epoch int64
	node  string
	lease int64
	state string // "": there is no record yet
	letGo bool   // its holder has said that it has stopped
	dead  string // leases whose processes others have taken the place of
}

// holds reports whether an assignment is of the holder and the epoch that stand.
func (r register) holds(a *keyspace.Assignment) bool {
	return r.node == a.Node && r.lease == a.Lease && r.epoch == a.Epoch
}

// usable reports whether the holder may be sending.
func (r register) usable() bool {
	live := r.state == keyspace.Held || r.state == keyspace.Releasing && !r.letGo
	return live && !strings.Contains(r.dead, mark(r.lease))
}

func mark(lease int64) string { return fmt.Sprintf("%x,", lease) }

// next is the register after an assignment, and whether that may follow: the
// epoch rises by one with each new holder and otherwise stays, and nobody takes
// what another one may be using.
func (r register) next(a *keyspace.Assignment) (register, bool) {
	n := register{place: r.place, epoch: a.Epoch, node: a.Node, lease: a.Lease, state: a.State, dead: r.dead}
	switch a.State {
	case keyspace.Held:
		return n, a.Epoch == r.epoch+1 && !r.usable() || r.state == keyspace.Held && r.holds(a)
	case keyspace.Releasing, keyspace.Quarantined:
		n.letGo = r.letGo
		return n, r.state != "" && r.holds(a)
	case keyspace.Free:
		return n, a.Epoch == r.epoch && !r.usable()
	}
	return n, false
}

// step is porcupine's: whether a step may be next, and what stands after it.
func (r register) step(s step) (bool, register) {
	switch s.verb {
	case writes:
		p, effect, ok := r.put(s)
		if !ok || !effect {
			return ok, r
		}
		n, ok := r.next(&s.source)
		n.place = p
		return ok, n
	case reads:
		same := r.state == s.source.State && r.holds(&s.source)
		p, ok := r.read(s.mod)
		r.place = p
		return ok && same, r
	case uses:
		return r.usable() && r.holds(&s.source), r
	case letsGo:
		ok := r.state == keyspace.Releasing && r.holds(&s.source)
		r.letGo = true
		return ok, r
	case comes:
		r.dead += mark(s.source.Lease)
		return true, r
	}
	return false, r
}

// sourceModel is the register of each source.
func sourceModel() porcupine.Model {
	return porcupine.Model{
		Partition: byKey,
		Init:      func() any { return register{} },
		Step: func(state, input, _ any) (bool, any) {
			return state.(register).step(input.(step))
		},
		DescribeOperation: func(input, _ any) string { return input.(step).String() },
		DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
	}
}

// counter is a daily budget: what etcd counts, and what nodes hold or have used.
type counter struct {
	place
	counted, out int64
}

func (c counter) step(s step, limit int64) (bool, counter) {
	switch s.verb {
	case writes:
		p, effect, ok := c.put(s)
		if !ok || !effect {
			return ok, c
		}
		c.place, c.counted = p, s.n
		return c.out <= c.counted && c.counted <= limit, c
	case reads:
		p, ok := c.read(s.mod)
		c.place = p
		return ok && c.counted == s.n, c
	case gets:
		c.out += s.n
		return c.out <= c.counted, c
	case gives:
		c.out -= s.n
		return c.out >= 0, c
	}
	return false, c
}

// permitModel is the counter of each budget: what is out was counted before, and
// what is counted is within the limit.
func permitModel(limit int64) porcupine.Model {
	return porcupine.Model{
		Partition: byKey,
		Init:      func() any { return counter{} },
		Step: func(state, input, _ any) (bool, any) {
			return state.(counter).step(input.(step), limit)
		},
		DescribeOperation: func(input, _ any) string { return input.(step).String() },
		DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
	}
}

func byKey(history []porcupine.Operation) (parts [][]porcupine.Operation) {
	at := map[string]int{}
	for _, op := range history {
		key := op.Input.(step).key
		i, ok := at[key]
		if !ok {
			i = len(parts)
			at[key] = i
			parts = append(parts, nil)
		}
		parts[i] = append(parts[i], op)
	}
	return parts
}

// linearizable checks a history. One that is not is drawn in a file, whose path
// is logged.
func linearizable(t testing.TB, m porcupine.Model, history []porcupine.Operation) bool {
	t.Helper()
	result, info := porcupine.CheckOperationsVerbose(m, history, 20*time.Second)
	if result == porcupine.Ok {
		return true
	}
	f, err := os.CreateTemp("", "not-linearizable-*.html")
	if err != nil {
		t.Fatal(err)
	}
	if err := porcupine.Visualize(m, info, f); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("%d operations: %s, drawn in %s", len(history), result, f.Name())
	if result == porcupine.Unknown {
		t.Fatal("the history could not be checked in time")
	}
	return false
}

// The models themselves: each rule, kept and broken.
func TestModelsOfHistories(t *testing.T) {
	src := func(state string, epoch int64, node string, lease int64) keyspace.Assignment {
		return keyspace.Assignment{Source: "s", State: state, Epoch: epoch, Node: node, Lease: lease}
	}
	put := func(mod, rev int64, a keyspace.Assignment) step {
		return step{verb: writes, term: 1, mod: mod, rev: rev, end: done, source: a}
	}
	by := func(s step, term int64, end outcome) step { s.term, s.end = term, end; return s }
	on := func(v verb, mod int64, a keyspace.Assignment) step { return step{verb: v, mod: mod, source: a} }
	held, held2 := src(keyspace.Held, 1, "a", 7), src(keyspace.Held, 2, "b", 8)
	leaving, quiet := src(keyspace.Releasing, 1, "a", 7), src(keyspace.Quarantined, 1, "a", 7)
	day := func(mod, rev, n int64) step {
		return step{verb: writes, term: 1, mod: mod, rev: rev, end: done, n: n}
	}
	permits := func(v verb, n int64) step { return step{verb: v, n: n} }
	sources, days := sourceModel(), permitModel(500)
	for _, x := range []struct {
		name string
		m    porcupine.Model
		ok   bool
		h    []step // one after the other; what is unknown returns never
	}{
		{"held, quarantined, another's", sources, true, []step{put(0, 5, held), on(uses, 0, held), put(5, 6, quiet), put(6, 7, held2), on(reads, 7, held2)}},
		{"released and let go", sources, true, []step{put(0, 5, held), put(5, 6, leaving), on(uses, 0, held), on(letsGo, 0, held), put(6, 7, held2), on(uses, 0, held2)}},
		{"a new process of the node", sources, true, []step{put(0, 5, held), on(comes, 0, held), put(5, 6, src(keyspace.Held, 2, "a", 9))}},
		{"a new process, and another's", sources, true, []step{put(0, 5, held), put(5, 6, leaving), on(comes, 0, held), put(6, 7, held2)}},
		{"refused changes nothing", sources, true, []step{put(0, 5, held), by(put(5, 0, quiet), 1, refused), on(reads, 5, held)}},
		{"unknown, has happened", sources, true, []step{put(0, 5, held), by(put(5, 0, quiet), 1, unknown), on(reads, 6, quiet)}},
		{"unknown, has not happened", sources, true, []step{put(0, 5, held), by(put(5, 0, quiet), 1, unknown), on(reads, 5, held), put(5, 8, leaving), on(reads, 8, leaving)}},
		{"unknown, happens late", sources, true, []step{put(0, 5, held), by(put(5, 0, quiet), 1, unknown), on(reads, 5, held), on(reads, 9, quiet), put(9, 10, held2)}},
		{"unknown, but shown after its time", sources, false, []step{put(0, 5, held), by(put(5, 0, quiet), 1, unknown), put(5, 8, leaving), on(reads, 9, quiet)}},
		{"refused, but has happened", sources, false, []step{put(0, 5, held), by(put(5, 0, quiet), 1, refused), on(reads, 6, quiet)}},
		{"taken from a holder", sources, false, []step{put(0, 5, held), put(5, 6, held2)}},
		{"a new process that nobody has seen", sources, false, []step{put(0, 5, held), put(5, 6, src(keyspace.Held, 2, "a", 9))}},
		{"used by a dead process", sources, false, []step{put(0, 5, held), on(comes, 0, held), on(uses, 0, held)}},
		{"taken before it was let go", sources, false, []step{put(0, 5, held), put(5, 6, leaving), put(6, 7, held2)}},
		{"used after it was let go", sources, false, []step{put(0, 5, held), put(5, 6, leaving), on(letsGo, 0, held), on(uses, 0, held)}},
		{"used in quarantine", sources, false, []step{put(0, 5, held), put(5, 6, quiet), on(uses, 0, held)}},
		{"epoch stays", sources, false, []step{put(0, 5, held), put(5, 6, quiet), put(6, 7, src(keyspace.Held, 1, "b", 8))}},
		{"epoch jumps", sources, false, []step{put(0, 5, held), put(5, 6, quiet), put(6, 7, src(keyspace.Held, 3, "b", 8))}},
		{"an old value is read", sources, false, []step{put(0, 5, held), put(5, 6, quiet), on(reads, 5, held)}},
		{"written over an old value", sources, false, []step{put(0, 5, held), put(5, 6, quiet), put(5, 7, leaving)}},
		{"written by an old term", sources, false, []step{by(put(0, 5, held), 3, done), by(put(5, 6, quiet), 2, done)}},

		{"counted, then given", days, true, []step{day(0, 5, 100), permits(gets, 60), permits(gets, 40), permits(gives, 30), day(5, 6, 70)}},
		{"unknown count, given", days, true, []step{by(day(0, 0, 100), 1, unknown), permits(gets, 60)}},
		{"given before it was counted", days, false, []step{permits(gets, 60), day(0, 5, 100)}},
		{"more than was counted", days, false, []step{day(0, 5, 100), permits(gets, 60), permits(gets, 60)}},
		{"more than the limit", days, false, []step{day(0, 5, 501)}},
		{"count falls below what is out", days, false, []step{day(0, 5, 100), permits(gets, 60), day(5, 6, 50)}},
		{"an update is lost", days, false, []step{day(0, 5, 100), day(5, 6, 200), day(5, 7, 150)}},
		{"an old count is read", days, false, []step{day(0, 5, 100), day(5, 6, 200), {verb: reads, mod: 5, n: 100}}},
	} {
		var history []porcupine.Operation
		for i, s := range x.h {
			op := porcupine.Operation{Input: s, Call: int64(10 * i), Return: int64(10*i + 5)}
			if s.end == unknown {
				op.Return = never
			}
			history = append(history, op)
		}
		if got := porcupine.CheckOperationsTimeout(x.m, history, 10*time.Second); (got == porcupine.Ok) != x.ok {
			t.Errorf("%s: %s", x.name, got)
		}
	}
}
