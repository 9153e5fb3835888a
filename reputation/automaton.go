package reputation

import "math/bits"

// automaton finds which of many literals a text holds, in one pass over it
// whatever their number (Aho and Corasick 1975, as a table: one look-up a byte).
// It reports rules rather than literals.
//
// The rules of all carriers share one automaton: what other carriers' rules find
// is masked out afterwards, which is cheaper than a table for each carrier.
type automaton struct {
	class [256]uint8 // byte → column; folds like fold does
	shift uint8      // a state has 1<<shift columns
	next  []uint16   // state<<shift | column
	// States from firstHit on report something: hits[from[s-firstHit]:from[s-firstHit+1]].
	firstHit uint16
	from     []uint32
	hits     []hit
}

// hit says that a literal of a rule was seen. sure: nothing else of its text
// needs to be looked at.
type hit struct {
	rule uint16
	sure bool
}

const (
	maxStates = 60_000 // a state's number is 16 bits
	maxKey    = 24     // bytes of a literal that are looked for; the rest is compared afterwards
)

// builder is the trie that becomes an automaton.
type builder struct {
	nodes []node
}

type node struct {
	child []edge // most have one
	hits  []hit
	fail  int
}

type edge struct {
	char byte
	to   int
}

func newBuilder() *builder { return &builder{nodes: make([]node, 1, 1<<13)} }

// after is where a character leads from a node.
func (b *builder) after(at int, c byte) (int, bool) {
	for _, e := range b.nodes[at].child {
		if e.char == c {
			return e.to, true
		}
	}
	return 0, false
}

// add notes that text with the literal may be the rule's. It reports false when
// there is no room.
func (b *builder) add(literal string, h hit) bool {
	if len(literal) > maxKey {
		literal, h.sure = literal[:maxKey], false
	}
	if len(b.nodes)+len(literal) >= maxStates {
		return false
	}
	at := 0
	for i := range len(literal) {
		c := literal[i]
		to, ok := b.after(at, c)
		if !ok {
			to = len(b.nodes)
			b.nodes = append(b.nodes, node{})
			b.nodes[at].child = append(b.nodes[at].child, edge{c, to})
		}
		at = to
	}
	b.nodes[at].hits = append(b.nodes[at].hits, h)
	return true
}

// build makes the table.
func (b *builder) build() *automaton {
	order := b.link()
	a := &automaton{}
	a.classes(b)
	// States that report come last, so that one comparison tells them.
	number := make([]uint16, len(b.nodes))
	n := uint16(0)
	for _, reports := range []bool{false, true} {
		if reports {
			a.firstHit = n
		}
		for _, i := range order {
			if (len(b.nodes[i].hits) > 0) == reports {
				number[i] = n
				n++
			}
		}
	}
	a.next = make([]uint16, len(order)<<a.shift)
	a.from = append(make([]uint32, 0, int(n-a.firstHit)+1), 0)
	for _, i := range order { // a node comes after the one it falls back to
		x := &b.nodes[i]
		row := a.row(number[i])
		if i != 0 {
			copy(row, a.row(number[x.fail]))
		}
		for _, e := range x.child {
			row[a.class[e.char]] = number[e.to]
		}
		if len(x.hits) > 0 {
			a.hits = append(a.hits, x.hits...)
			a.from = append(a.from, uint32(len(a.hits)))
		}
	}
	return a
}

// link finds each node's longest suffix that is in the trie too, and gives it
// that one's hits. It returns the nodes by depth.
func (b *builder) link() []int {
	order := []int{0}
	for i := 0; i < len(order); i++ {
		at := order[i]
		for _, e := range b.nodes[at].child {
			to := e.to
			order = append(order, to)
			if at == 0 {
				continue
			}
			f := b.nodes[at].fail
			for {
				if s, ok := b.after(f, e.char); ok {
					b.nodes[to].fail = s
					break
				}
				if f == 0 {
					break
				}
				f = b.nodes[f].fail
			}
			b.nodes[to].hits = append(b.nodes[to].hits, b.nodes[b.nodes[to].fail].hits...)
		}
	}
	return order
}

// classes gives each byte that occurs a column; all others share column 0.
func (a *automaton) classes(b *builder) {
	columns := 1
	for i := range b.nodes {
		for _, e := range b.nodes[i].child {
			if a.class[e.char] == 0 {
				a.class[e.char] = uint8(columns)
				columns++
			}
		}
	}
	for i := range a.class {
		a.class[i] = a.class[fold[i]]
	}
	a.shift = uint8(bits.Len(uint(columns - 1)))
}

func (a *automaton) row(state uint16) []uint16 {
	return a.next[int(state)<<a.shift:][:1<<a.shift]
}

// scan marks the rules of which text has a literal, and those for which that is
// all there is to ask.
//
// Each step waits for the one before it, some five nanoseconds; so two halves of
// the text are read side by side, which takes two thirds of the time. The second
// begins early enough to see a literal that lies over the middle.
func scan[T letters](a *automaton, text T, seen, sure *marks) {
	first, second := text, text[:0]
	if len(text) >= 4*maxKey {
		first, second = text[:len(text)/2], text[len(text)/2-maxKey+1:]
	}
	var s1, s2 uint16
	next, shift := a.next, a.shift&15
	for i := 0; i < len(first); i++ {
		s1 = next[int(s1)<<shift|int(a.class[first[i]])]
		if s1 >= a.firstHit {
			a.report(s1, seen, sure)
		}
		if i < len(second) {
			s2 = next[int(s2)<<shift|int(a.class[second[i]])]
			if s2 >= a.firstHit {
				a.report(s2, seen, sure)
			}
		}
	}
	for i := len(first); i < len(second); i++ {
		s2 = next[int(s2)<<shift|int(a.class[second[i]])]
		if s2 >= a.firstHit {
			a.report(s2, seen, sure)
		}
	}
}

func (a *automaton) report(state uint16, seen, sure *marks) {
	s := state - a.firstHit
	for _, h := range a.hits[a.from[s]:a.from[s+1]] {
		seen.set(int(h.rule))
		if h.sure {
			sure.set(int(h.rule))
		}
	}
}

// marks is a set of rules, by number.
type marks [maxRules / 64]uint64

func (m *marks) set(i int)      { m[i>>6] |= 1 << (i & 63) }
func (m *marks) has(i int) bool { return m[i>>6]&(1<<(i&63)) != 0 }
