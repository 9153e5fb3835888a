package scheduler

// line is the members of a class or a tenant that have mail, in the order in
// which they are to go: stride scheduling (Waldspurger and Weihl, 1995), which
// is start-time fair queueing with a cost of one a message. Each message moves
// its member back by a stride of strideOne/weight.
//
// Who comes new begins one stride behind whose turn it is, as if it had just
// been served: or one that comes and goes with each message would always be
// first. Who was away for want of budget keeps its place, but gains nothing by
// it: so a job that may send 15/s gets them if its fair share is 20/s, and its
// share if that is less. (Deficit round robin was tried: with few tokens at a
// time, a limited job lost those that came while others had their turns.)
type line struct {
	members []*turn // a heap by pass, then by who has waited longer
	now     int64   // the pass of whose turn it was last
	seq     uint64
}

// strideOne is one message of a member with weight 1.
const strideOne = 1 << 20

func (t *turn) stride() int64 { return strideOne / int64(max(1, t.weight)) }

func (l *line) first() *turn {
	if len(l.members) == 0 {
		return nil
	}
	return l.members[0]
}

// add puts a member in, if it is not yet.
func (l *line) add(t *turn) {
	if t.pos > 0 {
		return
	}
	if t.fresh {
		t.fresh = false
		t.pass = l.now + t.stride()
	}
	t.pass = max(t.pass, l.now)
	l.number(t)
	l.members = append(l.members, t)
	l.up(len(l.members) - 1)
}

func (l *line) number(t *turn) {
	l.seq++
	t.seq = l.seq
}

func (l *line) remove(t *turn) {
	if t.pos == 0 {
		return
	}
	i, last := int(t.pos-1), len(l.members)-1
	moved := l.members[last]
	l.members[last] = nil
	l.members = l.members[:last]
	t.pos = 0
	if i < last {
		l.put(i, moved)
		l.fix(i)
	}
}

// spend charges a member with one message. One that is out of the line carries
// the charge back into it.
func (l *line) spend(t *turn) {
	if t.pos == 0 {
		t.pass += t.stride()
		return
	}
	l.now = max(l.now, l.members[0].pass)
	t.pass += t.stride()
	l.number(t)
	l.fix(int(t.pos - 1))
}

func (t *turn) before(o *turn) bool {
	return t.pass < o.pass || t.pass == o.pass && t.seq < o.seq
}

func (l *line) put(i int, t *turn) {
	l.members[i] = t
	t.pos = int32(i + 1)
}

func (l *line) fix(i int) {
	if i > 0 && l.members[i].before(l.members[(i-1)/2]) {
		l.up(i)
		return
	}
	l.down(i)
}

func (l *line) up(i int) {
	t := l.members[i]
	for i > 0 && t.before(l.members[(i-1)/2]) {
		l.put(i, l.members[(i-1)/2])
		i = (i - 1) / 2
	}
	l.put(i, t)
}

func (l *line) down(i int) {
	t := l.members[i]
	for {
		child := 2*i + 1
		if child >= len(l.members) {
			break
		}
		if child+1 < len(l.members) && l.members[child+1].before(l.members[child]) {
			child++
		}
		if !l.members[child].before(t) {
			break
		}
		l.put(i, l.members[child])
		i = child
	}
	l.put(i, t)
}
