package simulate

import (
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// at is true time, in nanoseconds since the beginning. Only the world and the
// checks know it; processes have their own clocks.
type at int64

const never = at(1) << 62

// event is something that happens. Two at the same time happen in the order in
// which they were planned.
type event struct {
	at  at
	seq uint64
	do  func()
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// sim is a world.
type sim struct {
	opt  Options
	rnd  *rand.Rand
	now  at
	end  at
	calm at // when faults end
	seq  uint64
	heap []event

	etcd     *etcd
	controls []*control
	nodes    []*node
	policies []*policy // by revision - 1
	check    *checker
	gremlin  gremlin

	sum  hash.Hash64
	word [8]byte
	res  Result

	decisionTime, reportTime time.Duration
}

// plan makes something happen later.
func (s *sim) plan(in time.Duration, do func()) {
	s.seq++
	s.heap = append(s.heap, event{s.now + at(max(in, 0)), s.seq, do})
	h := s.heap
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h[i].before(&h[parent]) {
			break
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

// step lets the next event happen; false is the end.
func (s *sim) step() bool {
	h := s.heap
	if len(h) == 0 || h[0].at > s.end {
		return false
	}
	e := h[0]
	last := len(h) - 1
	h[0] = h[last]
	h[last] = event{}
	h = h[:last]
	s.heap = h
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && h[child+1].before(&h[child]) {
			child++
		}
		if !h[child].before(&h[i]) {
			break
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
	s.now = e.at
	s.res.Events++
	e.do()
	return true
}

// note makes something part of the hash.
func (s *sim) note(kind byte, values ...int64) {
	s.word[0] = kind
	_, _ = s.sum.Write(s.word[:1])
	s.noteWord(int64(s.now))
	for _, v := range values {
		s.noteWord(v)
	}
}

func (s *sim) noteWord(v int64) {
	binary.LittleEndian.PutUint64(s.word[:], uint64(v))
	_, _ = s.sum.Write(s.word[:])
}

// between is a random duration.
func (s *sim) between(from, to time.Duration) time.Duration {
	if to <= from {
		return from
	}
	return from + time.Duration(s.rnd.Int64N(int64(to-from)))
}

func (s *sim) chance(p float64) bool { return s.rnd.Float64() < p }

// epoch is where processes' clocks begin, somewhere.
var epoch = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

// process is something that has a clock, can be stopped, and dies.
type process struct {
	s    *sim
	name string
	id   int64 // in the hash
	// Its monotonic clock: speed in parts of a million beside true time, and
	// where it began. Its wall clock is wrong by skew.
	ppm    int64
	offset time.Duration
	skew   time.Duration

	up      bool
	life    int // of this incarnation; callbacks of others are dropped
	stopped bool
	resumed at       // when it went on last
	backlog []func() // what it finds when it goes on

	// Until when messages to and from etcd, and to and from the others, are
	// lost; and until when etcd's replies are late, by how much.
	cutEtcd, cutPeers, slowUntil at
	slowBy                       time.Duration
}

func newProcess(s *sim, name string, id int64) process {
	p := process{s: s, name: name, id: id, up: true, life: 1}
	p.ppm = s.rnd.Int64N(2*MaxDrift*1e6+1) - MaxDrift*1e6
	p.offset = s.between(0, 1000*time.Hour)
	p.skew = s.between(-5*time.Minute, 5*time.Minute)
	return p
}

// clock is its monotonic clock. A time without a monotonic reading is compared
// as it stands, so package lease takes it for one.
func (p *process) clock() time.Time {
	return epoch.Add(p.offset + time.Duration(p.s.now) + time.Duration(int64(p.s.now)/1000*p.ppm/1000))
}

// wall is its wall clock.
func (p *process) wall() time.Time { return epoch.Add(time.Duration(p.s.now) + p.skew) }

// after runs something when so much time has passed on its own clock.
func (p *process) after(d time.Duration, do func()) {
	d = max(d, 0)
	p.s.plan(d-time.Duration(int64(d)/1000*p.ppm/1000)+time.Microsecond, p.mine(do))
}

// mine is do, for as long as this incarnation lives, and not while it is
// stopped.
func (p *process) mine(do func()) func() {
	life := p.life
	return func() {
		switch {
		case !p.up || p.life != life:
		case p.stopped:
			p.backlog = append(p.backlog, func() {
				if p.up && p.life == life {
					do()
				}
			})
		default:
			do()
		}
	}
}

// stop is SIGSTOP. It comes between two steps of the process.
func (p *process) stop() { p.stopped = true }

// goOn is SIGCONT: everything that was due happens now, one after another.
func (p *process) goOn() {
	p.stopped, p.resumed = false, p.s.now
	for len(p.backlog) > 0 && !p.stopped {
		do := p.backlog[0]
		p.backlog = p.backlog[1:]
		do()
	}
}

// kill ends the incarnation.
func (p *process) kill() {
	p.up, p.stopped, p.backlog = false, false, nil
	p.life++
}

// delay is how long a message takes on a link that is well.
func (s *sim) delay() time.Duration {
	switch s.rnd.IntN(100) {
	case 0:
		return s.between(20*time.Millisecond, 300*time.Millisecond)
	default:
		return s.between(200*time.Microsecond, 5*time.Millisecond)
	}
}

// lost reports whether a message is lost on its way, beside any cut.
func (s *sim) lost() bool { return s.chance(s.gremlin.loss) }

// toPeer brings a message from one process to another, once, never, or twice.
func (s *sim) toPeer(from, to *process, do func()) {
	if s.now < from.cutPeers || s.now < to.cutPeers || s.lost() {
		return
	}
	s.plan(s.delay(), to.mine(do))
	if s.chance(s.gremlin.loss / 4) {
		s.plan(s.between(0, 3*time.Second), to.mine(do))
	}
}

func newSim(o Options) *sim {
	s := &sim{
		opt: o, rnd: rand.New(rand.NewPCG(o.Seed, 0x68696b79616b75)), sum: fnv.New64a(),
		end: at(o.Duration), calm: at(o.Duration - o.Calm),
	}
	s.res.Options = o
	s.res.Faults = map[string]int{}
	s.policies = []*policy{s.firstPolicy()}
	s.check = newChecker(s)
	s.etcd = newEtcd(s)
	for i := range o.Controls {
		s.controls = append(s.controls, newControl(s, i))
	}
	for i := range o.Nodes {
		s.nodes = append(s.nodes, newNode(s, i))
	}
	return s
}

func (s *sim) begin() {
	s.etcd.begin()
	for _, c := range s.controls {
		c.start()
	}
	for _, n := range s.nodes {
		s.plan(s.between(0, 3*time.Second), n.start)
	}
	s.gremlin.begin(s)
	s.check.begin()
}

func (s *sim) finish() {
	s.now = s.end
	s.check.finish()
	s.res.Hash = fmt.Sprintf("%016x", s.sum.Sum64())
	s.res.RecordsPerSecond = float64(s.res.Records) / s.opt.Duration.Seconds()
	s.res.WritesPerSecond = float64(s.res.Writes) / s.opt.Duration.Seconds()
	if s.res.Decisions > 0 {
		s.res.DecisionMean = s.decisionTime / time.Duration(s.res.Decisions)
	}
	if s.res.Reports > 0 {
		s.res.ReportMean = s.reportTime / time.Duration(s.res.Reports)
	}
}
