package delivery_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/node/delivery"
	"hikyaku/spool/message"
)

// capricious is a receiver that keeps to the RFCs but is in every mood: it
// refuses, answers slowly, closes and resets wherever the dice say. It forgets
// a transaction only where an RFC says so, so that a client which relies on
// more mixes messages up in its book.
type capricious struct {
	rng    *rand.Rand
	temper int // one of so many answers is bad
	pipes  bool
	chunks bool
	late   bool // says 354 even without recipients

	c    *memConn
	in   *bufio.Reader
	out  bytes.Buffer
	from string
	open bool
	to   []string

	book       *[]entry
	violations *[]string
}

// entry is a message that the receiver took responsibility for.
type entry struct {
	from    string
	to      []string
	content string
}

// stop is how a connection ends early.
type stop struct{}

func (s *capricious) bad() bool { return s.temper > 0 && s.rng.IntN(s.temper) == 0 }

func (s *capricious) serve() {
	defer s.c.Close()
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(stop); !ok {
				panic(r)
			}
		}
	}()
	s.say("220 capricious ESMTP")
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return
		}
		if !strings.HasSuffix(line, "\r\n") {
			*s.violations = append(*s.violations, fmt.Sprintf("line %q", line))
			return
		}
		s.command(strings.TrimSuffix(line, "\r\n"))
	}
}

// say answers. The connection may end before, in the middle of or after it.
func (s *capricious) say(line string) {
	if s.temper > 0 && s.rng.IntN(s.temper*12) == 0 {
		s.flush()
		switch s.rng.IntN(5) {
		case 0:
			s.c.reset()
		case 1: // silence until the client has had enough
			_, _ = io.Copy(io.Discard, s.in)
		case 2:
			s.out.WriteString(line[:s.rng.IntN(len(line))])
			s.flush()
		case 3:
			if strings.HasSuffix(line, "taken") { // 421 in its place is a refusal
				*s.book = (*s.book)[:len(*s.book)-1]
			}
			s.out.WriteString("421 4.3.2 not today\r\n")
			s.flush()
		}
		panic(stop{})
	}
	if s.rng.IntN(10) == 0 {
		s.out.WriteString(line[:3] + "-" + "a line more\r\n")
	}
	s.out.WriteString(line + "\r\n")
	// RFC 2920 3.2: replies may be held back while more commands are waiting.
	if s.in.Buffered() == 0 || s.rng.IntN(3) == 0 {
		s.flush()
	}
}

func (s *capricious) flush() {
	b := s.out.Bytes()
	for len(b) > 0 { // in odd pieces
		n := 1 + s.rng.IntN(len(b))
		if _, err := s.c.Write(b[:n]); err != nil {
			break
		}
		b = b[n:]
	}
	s.out.Reset()
}

func (s *capricious) refuse(what string) {
	codes := []string{"450 4.2.0", "550 5.1.1", "451 4.3.0", "554 5.7.1", "452 4.3.1"}
	s.say(codes[s.rng.IntN(len(codes))] + " " + what)
}

func (s *capricious) command(line string) {
	verb, rest, _ := strings.Cut(line, " ")
	if !s.pipes && s.in.Buffered() > 0 && verb != "BDAT" {
		*s.violations = append(*s.violations, "pipelined without PIPELINING behind "+line)
	}
	switch verb {
	case "EHLO":
		s.hello()
	case "RSET":
		s.open, s.to = false, nil
		s.say("250 2.0.0 forgotten")
	case "MAIL":
		s.mail(rest)
	case "RCPT":
		s.rcpt(rest)
	case "DATA":
		s.data()
	case "BDAT":
		s.bdat(rest)
	case "QUIT":
		s.say("221 2.0.0 bye")
		panic(stop{})
	default:
		*s.violations = append(*s.violations, "unknown command "+line)
		panic(stop{})
	}
}

func (s *capricious) hello() {
	caps := []string{"capricious"}
	if s.pipes {
		caps = append(caps, "PIPELINING")
	}
	if s.chunks {
		caps = append(caps, "CHUNKING")
	}
	for i, c := range caps {
		sep := "-"
		if i == len(caps)-1 {
			sep = " "
		}
		s.out.WriteString("250" + sep + c + "\r\n")
	}
	s.flush()
}

func (s *capricious) mail(rest string) {
	switch {
	case s.open:
		s.say("503 5.5.1 nested MAIL") // and the old transaction stays
	case s.bad():
		s.refuse("sender")
	default:
		s.from = path(rest)
		s.open, s.to = true, nil
		s.say("250 2.1.0 ok")
	}
}

func (s *capricious) rcpt(rest string) {
	switch {
	case !s.open:
		s.say("503 5.5.1 MAIL first")
	case s.bad() && s.rng.IntN(3) == 0:
		s.say("452 4.5.3 too many recipients")
	case s.bad():
		s.refuse("recipient")
	default:
		s.to = append(s.to, path(rest))
		s.say("250 2.1.5 ok")
	}
}

func path(rest string) string {
	_, a, _ := strings.Cut(rest, "<")
	a, _, _ = strings.Cut(a, ">")
	return a
}

func (s *capricious) data() {
	switch {
	case len(s.to) == 0 && (!s.late || !s.open):
		s.say("503 5.5.1 RCPT first")
		return
	case s.bad():
		s.refuse("data") // the transaction stays
		return
	}
	s.say("354 go")
	s.flush()
	var content strings.Builder
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			panic(stop{})
		}
		if line == ".\r\n" {
			break
		}
		content.WriteString(strings.TrimPrefix(line, "."))
	}
	s.take(content.String())
	s.open, s.to = false, nil // RFC 5321 4.1.1.4: whatever the answer
}

func (s *capricious) bdat(rest string) {
	n, err := strconv.Atoi(strings.TrimSuffix(rest, " LAST"))
	if err != nil {
		*s.violations = append(*s.violations, "BDAT "+rest)
		panic(stop{})
	}
	content := make([]byte, n)
	if _, err := io.ReadFull(s.in, content); err != nil {
		panic(stop{})
	}
	if len(s.to) == 0 {
		s.say("503 5.5.1 RCPT first")
		return
	}
	// RFC 3030 2: after a failure the transaction stays until RSET.
	if s.take(string(content)) {
		s.open, s.to = false, nil
	}
}

// take answers content. What is answered with 250 is in the book first.
func (s *capricious) take(content string) bool {
	if len(s.to) == 0 {
		s.say("554 5.5.1 no valid recipients")
		return false
	}
	if s.bad() {
		s.refuse("content")
		return false
	}
	*s.book = append(*s.book, entry{s.from, slices.Clone(s.to), content})
	s.say("250 2.0.0 taken")
	return true
}

// randomContent has what content can have: dots, empty lines, no last CRLF.
func randomContent(rng *rand.Rand, k int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Subject: %d\r\n\r\n", k)
	for range rng.IntN(20) {
		b.WriteString([]string{".", "..", "", "x", ".\r\n.", strings.Repeat("long ", rng.IntN(300))}[rng.IntN(6)])
		b.WriteString("\r\n")
	}
	if rng.IntN(40) == 0 {
		b.WriteString(strings.Repeat("0123456789abcde\r\n", 6000)) // beyond mostWhole
	}
	if rng.IntN(10) == 0 {
		b.WriteString("no end")
	}
	return b.String()
}

func split(rng *rand.Rand, s string) (pieces [][]byte) {
	for len(s) > 0 {
		n := len(s)
		if rng.IntN(2) == 0 {
			n = 1 + rng.IntN(len(s))
		}
		pieces = append(pieces, []byte(s[:n]))
		s = s[n:]
	}
	return pieces
}

// trial is one run of random jobs against one capricious receiver.
type trial struct {
	jobs       []*delivery.Job
	contents   map[string]string // by sender
	book       []entry
	violations []string
	outcome    map[string]uint16 // by recipient: code, 0 not attempted
	ambiguous  map[string]bool
	extra      []string
}

func runTrial(seed uint64) *trial {
	rng := rand.New(rand.NewPCG(seed, 1))
	tr := &trial{contents: map[string]string{}, outcome: map[string]uint16{}, ambiguous: map[string]bool{}}
	for k := range 1 + rng.IntN(12) {
		text := randomContent(rng, k)
		var to []string
		for i := range 1 + rng.IntN(6)*rng.IntN(2) {
			to = append(to, fmt.Sprintf("r%d-%d@b.example", k, i))
		}
		j := makeJob(fmt.Sprintf("s%d@a.example", k), to, "")
		j.Content = &content{pieces: split(rng, text)}
		j.MaxRecipients = rng.IntN(4)
		tr.contents[j.Sender] = text
		tr.jobs = append(tr.jobs, j)
	}
	work := &fixedWork{jobs: tr.jobs, keep: tr.note}
	grudge := rng.IntN(4)
	work.again = func(*delivery.Job) bool { return rng.IntN(4) >= grudge }
	if rng.IntN(3) == 0 {
		work.gap = func(i int) time.Duration { return time.Duration(i%3) * time.Second }
	}
	temper := rng.IntN(8)
	pipes, chunks, late := rng.IntN(4) > 0, rng.IntN(2) == 0, rng.IntN(2) == 0
	nw := &network{room: 4096 + rng.IntN(64<<10), serve: func(n int, c *memConn) {
		s := &capricious{rng: rand.New(rand.NewPCG(seed, uint64(n)+2)), temper: temper, pipes: pipes, chunks: chunks, late: late,
			c: c, in: bufio.NewReaderSize(c, 64<<10), book: &tr.book, violations: &tr.violations}
		s.serve()
	}}
	c := delivery.New(delivery.Options{Dial: nw.dial})
	target := sinkTarget()
	target.MessagesPerConnection = rng.IntN(6)
	target.RecipientsPerConnection = rng.IntN(2) * (1 + rng.IntN(8))
	// As a node does: sessions one after another while there are jobs left.
	for range 200 {
		if work.next == len(work.jobs) {
			break
		}
		ctx, cancel := context.WithCancel(context.Background())
		if rng.IntN(10) == 0 {
			time.AfterFunc(time.Duration(rng.IntN(3000))*time.Millisecond, cancel)
		}
		c.NewSession(target, work).Run(ctx)
		cancel()
		nw.wg.Wait()
	}
	tr.extra = work.extra
	return tr
}

func (tr *trial) note(r *delivery.Result) {
	for i := range r.Job.Delivery.Recipients {
		tr.outcome[r.Job.Delivery.Recipients[i].Address] = 0
	}
	for _, e := range r.Replies {
		a := r.Job.Delivery.Recipients[e.Index].Address
		tr.outcome[a] = e.Reply.Code
		tr.ambiguous[a] = r.AmbiguousDot && e.Reply.Class() == message.Temporary
	}
}

// problems are broken promises, none for a good run.
func (tr *trial) problems() []string {
	bad := slices.Concat(tr.violations, tr.extra)
	taken := map[string]int{}
	for _, e := range tr.book {
		k := strings.TrimSuffix(strings.TrimPrefix(e.from, "s"), "@a.example")
		want := tr.contents[e.from]
		if e.content != want && e.content != want+"\r\n" {
			bad = append(bad, fmt.Sprintf("content of %s is not what was given: %q, want %q", e.from, e.content, want))
		}
		for _, a := range e.to {
			taken[a]++
			if !strings.HasPrefix(a, "r"+k+"-") {
				bad = append(bad, fmt.Sprintf("%s got the message of %s", a, e.from))
			}
		}
	}
	for _, j := range tr.jobs {
		for _, to := range j.Delivery.Recipients {
			a := to.Address
			code, done := tr.outcome[a]
			switch n := taken[a]; {
			case !done:
				bad = append(bad, a+" has no result")
			case code/100 == 2 && n != 1:
				bad = append(bad, fmt.Sprintf("%s is reported delivered, the receiver took it %d times", a, n))
			case code/100 != 2 && n > 0 && !tr.ambiguous[a]:
				bad = append(bad, fmt.Sprintf("%s was taken, but is reported as %d and not ambiguous", a, code))
			case n > 1:
				bad = append(bad, fmt.Sprintf("%s was taken %d times", a, n))
			}
		}
	}
	return bad
}

func TestCapriciousReceivers(t *testing.T) {
	seeds := 3000
	if testing.Short() {
		seeds = 300
	}
	var delivered, refused, given, ambiguous int
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			tr := runTrial(uint64(seed))
			for _, p := range tr.problems() {
				t.Errorf("seed %d: %s", seed, p)
			}
			for a, code := range tr.outcome {
				switch {
				case code == 0:
					given++
				case code/100 == 2:
					delivered++
				default:
					refused++
				}
				if tr.ambiguous[a] {
					ambiguous++
				}
			}
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d delivered, %d refused, %d given back, %d ambiguous", delivered, refused, given, ambiguous)
	if delivered == 0 || refused == 0 || given == 0 || ambiguous == 0 {
		t.Error("the trials did not reach every kind of outcome")
	}
}
