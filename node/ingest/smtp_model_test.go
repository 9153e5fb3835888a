package ingest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

// model is what a session should do, in as few words as possible: no buffers,
// no pieces, no wire. It says the reply codes and the content accepted.
type model struct {
	relay, hello, extended, authed bool
	mail                           bool
	rcpts, refused                 int
	chunking                       bool
	chunk                          string
	errors, mails, badAuth         int
	thrown                         int
	closed                         bool
	codes                          []string
	accepted                       []string
}

const (
	modelErrors   = 12
	modelMessages = 20
	modelRcpts    = 100
	modelSize     = 64 << 10
	modelBadAuth  = 3
)

func modelListener(l *SMTPListener) {
	l.MaxErrors, l.MaxMessagesPerConnection, l.MaxRecipients, l.MaxMessageSize = modelErrors, modelMessages, modelRcpts, modelSize
	l.MaxAuthFailures, l.MaxAuthFailuresPerClient = modelBadAuth, 1<<20
	no := false
	l.AddMissingHeaders = &no // what is accepted is compared byte by byte
}

func (m *model) say(code string) { m.codes = append(m.codes, code) }

func (m *model) refuse(code string) {
	m.say(code)
	if m.errors++; m.errors >= modelErrors && !m.closed {
		m.say("421")
		m.closed = true
	}
}

func (m *model) end(code string) { m.say(code); m.closed = true }

func (m *model) reset() {
	m.mail, m.rcpts, m.refused, m.chunking, m.chunk = false, 0, 0, false, ""
}

func (m *model) accept(content string) {
	m.say("250")
	m.accepted = append(m.accepted, content)
	m.errors = 0
	m.reset()
}

// step is one thing a client can say.
type step struct {
	name string
	text string // with the line end, and the chunk of a BDAT
	do   func(m *model, pending bool)
}

func refusing(name, text, code string) step {
	return step{name, text, func(m *model, _ bool) { m.refuse(code) }}
}

func hello(verb string) step {
	return step{verb, verb + " client.test\r\n", func(m *model, pending bool) {
		if !m.hello && pending {
			m.end("554")
			return
		}
		m.reset()
		m.hello, m.extended = true, verb == "EHLO"
		m.say("250")
	}}
}

func mailStep(text, bad string) step { // "501p" is a 501 for a parameter
	return step{"MAIL", "MAIL FROM:" + text + "\r\n", func(m *model, _ bool) {
		_, params, _ := strings.Cut(text, "> ")
		switch {
		case !m.hello, m.mail:
			m.refuse("503")
		case m.mails >= modelMessages:
			m.end("421")
		case !m.relay && !m.authed:
			m.refuse("530")
		case bad == "501": // a bad path is seen before its parameters
			m.refuse("501")
		case params != "" && !m.extended:
			m.refuse("555")
		case bad == "552":
			m.say("552")
		case bad != "":
			m.refuse(strings.TrimSuffix(bad, "p"))
		default:
			m.mail = true
			m.mails++
			m.say("250")
		}
	}}
}

func rcptStep(text string, ok bool) step {
	return step{"RCPT", "RCPT TO:" + text + "\r\n", func(m *model, _ bool) {
		switch {
		case !m.mail, m.chunking:
			m.refuse("503")
		case m.rcpts >= modelRcpts:
			m.refused++
			m.say("452")
		case !ok:
			m.refused++
			m.say("501")
		default:
			m.rcpts++
			m.say("250")
		}
		if m.refused > modelRcpts {
			m.end("421")
		}
	}}
}

func authStep(text string, ok bool) step {
	return step{"AUTH", "AUTH " + text + "\r\n", func(m *model, _ bool) {
		switch {
		case !m.hello, !m.extended, m.mail, m.authed:
			m.refuse("503")
		case m.relay: // not a network where a login in clear text is heard
			m.refuse("502")
		case ok:
			m.authed, m.badAuth = true, 0
			m.say("235")
		default:
			if m.badAuth++; m.badAuth >= modelBadAuth {
				m.refuse("535")
				m.end("421")
				return
			}
			m.refuse("535")
		}
	}}
}

// dirty says whether chunks so far have something that is refused at once.
func dirty(s string, last bool) bool {
	rest := strings.ReplaceAll(s, "\r\n", "")
	if !last {
		rest = strings.TrimSuffix(rest, "\r")
	}
	return strings.ContainsAny(rest, "\r\n\x00")
}

func bdatStep(chunk string, last bool) step {
	text := fmt.Sprintf("BDAT %d", len(chunk))
	if last {
		text += " LAST"
	}
	return step{text, text + "\r\n" + chunk, func(m *model, _ bool) {
		switch {
		case !m.mail || m.rcpts == 0:
			code := "503"
			if m.mail {
				code = "554"
			}
			m.reset()
			if m.thrown += len(chunk); m.thrown > 2*modelSize+1<<20 {
				m.end("421")
				return
			}
			m.refuse(code)
			return
		}
		m.chunking = true
		m.chunk += chunk
		switch {
		case dirty(m.chunk, last):
			m.say("550")
			m.reset()
		case len(m.chunk) > modelSize:
			m.say("552")
			m.reset()
		case last:
			if m.chunk != "" && !strings.HasSuffix(m.chunk, "\n") {
				m.chunk += "\r\n"
			}
			m.accept(m.chunk)
		default:
			m.say("250")
		}
	}}
}

// contents are what may follow a 354: the text, what is kept of it, or the
// code of its refusal.
var contents = []struct{ text, kept, code string }{
	{"Subject: x\r\n\r\nbody\r\n.\r\n", "Subject: x\r\n\r\nbody\r\n", "250"},
	{".\r\n", "", "250"},
	{"\r\n..\r\n.x\r\n.\r\n", "\r\n.\r\nx\r\n", "250"},
	{"a\nb\r\n.\r\n", "", "550"},
	{"a\rb\r\n.\r\n", "", "550"},
	{"a\x00b\r\n.\r\n", "", "550"},
	{"X-Hikyaku-Nonsense: 1\r\n\r\n.\r\n", "", "550"},
	{"From: a@acme.test\r\nFrom: b@acme.test\r\n\r\n.\r\n", "", "550"},
	{strings.Repeat("Received: x\r\n", 51) + "\r\n.\r\n", "", "554"},
	{"x: y\r\n.\nMAIL FROM:<>\r\n.\r\n", "", "521"},
	{"x: y\n.\r\nMAIL FROM:<>\r\n.\r\n", "", "521"},
	{"x: y\r\n.\rMAIL FROM:<>\r\n.\r\n", "", "521"},
}

func (m *model) content(k int) {
	c := contents[k]
	switch c.code {
	case "250":
		m.accept(c.kept)
	case "521":
		m.end("521")
	default:
		m.say(c.code)
		m.reset()
	}
}

var dataStep = step{"DATA", "DATA\r\n", func(m *model, pending bool) {
	switch {
	case pending:
		m.end("503")
	case !m.mail, m.chunking:
		m.refuse("503")
	case m.rcpts == 0:
		m.refuse("554")
	default:
		m.say("354")
	}
}}

// steps with weights: most of what is said should lead somewhere.
var steps = func() (all []step) {
	add := func(weight int, s step) {
		for range weight {
			all = append(all, s)
		}
	}
	add(4, hello("EHLO"))
	add(1, hello("HELO"))
	add(1, refusing("EHLO", "EHLO\r\n", "501"))
	add(1, refusing("EHLO", "EHLO (bad)\r\n", "501"))
	add(12, mailStep("<a@acme.test>", ""))
	add(3, mailStep("<>", ""))
	add(3, mailStep("<a@acme.test> SIZE=1000 BODY=8BITMIME", ""))
	add(1, mailStep("<a@acme.test> SIZE=100000", "552"))
	add(1, mailStep("<a@acme.test> NONSENSE=1", "555"))
	add(1, mailStep("<a@acme.test> SIZE=1 SIZE=1", "501p"))
	add(1, mailStep("<a@acme..test>", "501"))
	add(1, mailStep("a@acme.test", "501"))
	add(20, rcptStep("<b@dest.test>", true))
	add(3, rcptStep(`<"x> NOTIFY=NEVER RCPT TO:<y"@dest.test>`, true))
	add(3, rcptStep("<.a..b.@docomo.test>", true))
	add(1, rcptStep("<.a..b.@dest.test>", false))
	add(1, rcptStep(`<".a..b."@dest.test>`, true))
	add(3, rcptStep("<b@[IPv6:::1]>", true))
	add(2, rcptStep("<b@-dest.test>", false))
	add(1, rcptStep("<>", false))
	add(14, dataStep)
	add(3, bdatStep("Subject: x\r\n\r\n", false))
	add(2, bdatStep("x", false))
	add(1, bdatStep("x\r", false))
	add(1, bdatStep("\nQUIT\r\n", false))
	add(1, bdatStep("\r\n.\r\nQUIT\r\n", false))
	add(1, bdatStep("a\nb", true))
	add(4, bdatStep("", true))
	add(4, bdatStep("QUIT\r\n", true))
	add(4, step{"RSET", "RSET\r\n", func(m *model, _ bool) { m.reset(); m.say("250") }})
	add(4, step{"NOOP", "NOOP x\r\n", func(m *model, _ bool) { m.say("250") }})
	add(1, step{"VRFY", "vrfy x\r\n", func(m *model, _ bool) { m.say("252") }})
	add(1, step{"HELP", "HELP\r\n", func(m *model, _ bool) { m.say("214") }})
	add(1, refusing("EXPN", "EXPN x\r\n", "502"))
	add(1, refusing("unknown", "XYZZY\r\n", "500"))
	add(1, refusing("empty", "\r\n", "500"))
	add(1, refusing("long", "NOOP "+strings.Repeat("x", 600)+"\r\n", "500"))
	add(1, refusing("control", "NOOP \x01\r\n", "500"))
	add(1, refusing("STARTTLS", "STARTTLS\r\n", "502"))
	add(1, refusing("XCLIENT", "XCLIENT ADDR=192.0.2.9\r\n", "550"))
	add(3, authStep("PLAIN AHVzZXIAc2VjcmV0", true))
	add(1, authStep("PLAIN AHVzZXIAd3Jvbmc=", false))
	rare := []step{
		{"QUIT", "QUIT\r\n", func(m *model, _ bool) { m.end("221") }},
		{"bare LF", "NOOP\nNOOP\r\n", func(m *model, _ bool) { m.end("521") }},
		{"foreign", "GET / HTTP/1.1\r\n", func(m *model, _ bool) { m.end("521") }},
		{"BDAT?", "BDAT -1\r\n", func(m *model, _ bool) { m.end("501") }},
		{"BDAT!", "BDAT 99999999\r\n", func(m *model, _ bool) { m.end("552") }},
	}
	for _, s := range rare {
		add(1, s)
	}
	return all
}()

// forward is a step that leads to a message from where the session stands.
func (m *model) forward(rng *rand.Rand) step {
	switch {
	case !m.hello, !m.extended && !m.mail:
		return hello("EHLO")
	case !m.relay && !m.authed:
		return authStep("PLAIN AHVzZXIAc2VjcmV0", true)
	case !m.mail:
		return mailStep("<a@acme.test>", "")
	case m.rcpts == 0, !m.chunking && rng.IntN(4) == 0:
		return rcptStep("<b@dest.test>", true)
	case m.chunking, rng.IntN(4) == 0:
		return bdatStep("Subject: x\r\n\r\nx", rng.IntN(2) == 0)
	}
	return dataStep
}

// TestRefusalsBehindAMessageCountFromIt: a message whose 250 is put off to the
// end of the read begins the count of refusals anew all the same. This seed once
// found a session that was closed for refusals before and behind a message.
func TestRefusalsBehindAMessageCountFromIt(t *testing.T) {
	rng := rand.New(rand.NewPCG(1795348401624990203, 0))
	s := newTestServer(t, modelListener)
	for done := 0; done < 45_000 && !t.Failed(); {
		done += modelSession(t, s, rng)
	}
}

// TestSessionAgainstModel says random things, in random pieces, and compares.
func TestSessionAgainstModel(t *testing.T) {
	total := 50_000
	if os.Getenv("HIKYAKU_LONG") != "" {
		total = 1_000_000
	}
	if testing.Short() {
		total = 5_000
	}
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("HIKYAKU_SEED"); v != "" {
		if _, err := fmt.Sscan(v, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d (HIKYAKU_SEED)", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := newTestServer(t, modelListener)
	for done := 0; done < total; {
		done += modelSession(t, s, rng)
		if t.Failed() {
			t.Fatalf("after %d steps; seed %d", done, seed)
		}
	}
	if n := s.buffers.lent.Load(); n != 0 {
		t.Errorf("%d bytes of content buffers were not given back", n)
	}
	// A random walk that gets nowhere proves nothing.
	if n := s.Metrics()[0].Messages; n < uint64(total/25) {
		t.Errorf("only %d messages were accepted in %d steps", n, total)
	} else {
		t.Logf("%d messages accepted in %d steps", n, total)
	}
}

// modelSession plays one session and returns how many steps it took before the
// connection ended.
func modelSession(t *testing.T, s testServer, rng *rand.Rand) int {
	m := &model{relay: rng.IntN(3) > 0}
	m.say("220")
	var turns []string
	turn := ""
	var log []string
	count, live := 5+rng.IntN(60), 0
	say := func(text string, cut bool) {
		// A cut inside what is said: never at its end, which is what decides
		// whether input is pending behind it.
		if len(text) > 2 && rng.IntN(4) == 0 {
			at := 1 + rng.IntN(len(text)-1)
			turns, turn = append(turns, turn+text[:at]), text[at:]
		} else {
			turn += text
		}
		if cut || len(turn) > 4000 {
			turns, turn = append(turns, turn), ""
		}
	}
	for i := range count {
		st := steps[rng.IntN(len(steps))]
		if rng.IntN(3) > 0 {
			st = m.forward(rng)
		}
		ordered := st.name == "DATA" || st.name == "EHLO" || st.name == "HELO"
		cut := rng.IntN(3) == 0 || i == count-1 || (ordered && rng.IntN(20) > 0)
		before := len(turn) + len(st.text)
		cut = cut || before > 4000
		log = append(log, st.name)
		said := len(m.codes)
		if !m.closed {
			st.do(m, !cut)
			live++
		}
		say(st.text, cut)
		if st.name == "DATA" && !m.closed && len(m.codes) > said && m.codes[said] == "354" {
			k := rng.IntN(len(contents))
			if rng.IntN(2) == 0 {
				k = 0
			}
			log = append(log, "content "+contents[k].code)
			m.content(k)
			say(contents[k].text, rng.IntN(2) == 0)
		}
	}
	if turn != "" {
		turns = append(turns, turn)
	}
	from := "203.0.113.1"
	if m.relay {
		from = "192.0.2.1"
	}
	s.store.mu.subs = s.store.mu.subs[:0]
	c := s.talkFrom(from, turns...)
	compare(t, m, c, s.store.mu.subs, log, turns)
	return live
}

func compare(t *testing.T, m *model, c *scripted, subs []*Submission, log, turns []string) {
	t.Helper()
	var codes []string
	for line := range strings.SplitSeq(strings.TrimSuffix(c.all(), "\r\n"), "\r\n") {
		if len(line) < 4 {
			t.Fatalf("not a reply: %q", line)
		}
		if line[3] == ' ' {
			codes = append(codes, line[:3])
		}
	}
	if got, want := strings.Join(codes, " "), strings.Join(m.codes, " "); got != want {
		t.Errorf("replies\n%s\nmodel\n%s\nsteps %q\nturns %q", got, want, log, turns)
		return
	}
	if len(subs) != len(m.accepted) {
		t.Errorf("%d messages, model %d; steps %q", len(subs), len(m.accepted), log)
		return
	}
	for i, sub := range subs {
		raw := sub.Message.Raw
		rest := raw[fieldEnd(raw, 0):]
		if !bytes.HasPrefix(raw, []byte("Received: from ")) || !bytes.HasSuffix(rest, []byte(m.accepted[i])) ||
			(len(rest) != len(m.accepted[i]) && string(rest) != "\r\n"+m.accepted[i]) {
			t.Errorf("message %d is %q, model %q", i, raw, m.accepted[i])
		}
		if cap(raw) > len(raw)+len(raw)/4+64 {
			t.Errorf("message of %d bytes holds on to %d", len(raw), cap(raw))
		}
	}
}
