package carriers

import (
	"strings"
	"time"

	"hikyaku/bench/carriers/late"
)

// Answer is what a carrier does in one phase. The zero value says yes at once.
type Answer struct {
	Reply              string // "" is the plain success of the phase
	Delay              time.Duration
	Close, Reset, Drop bool // after the reply; RST or FIN instead of one
}

// OK reports whether the answer takes what was offered.
func (a *Answer) OK() bool { return a.Reply == "" && !a.Reset && !a.Drop }

// when is the time of an event: now, and the span in which it was sent.
type when struct{ now, since, until time.Time }

// Session is one connection from the carrier's side.
type Session struct {
	c          *Carrier
	src        *source
	host       string
	dice       dice
	begun      time.Time
	since      time.Time // when the next command was sent, if Heard has told
	until      time.Time
	counted    bool // it is one of the open connections
	secure     bool
	messages   int
	recipients int
	delivered  int64
	tx         transaction
}

// transaction is one message.
type transaction struct {
	from    string
	named   int // RCPT commands
	taken   int
	first   *fate     // of the first recipient taken: what the dot's answer hangs on
	to      string    // that recipient
	special []special // recipients whose mail does not simply arrive
	none    bool      // MAIL was refused
}

type special struct {
	to   string
	fate *fate
}

// Connect is a new connection from a source to one of the carrier's hosts. It
// gives a Session even when the answer turns it away; Closed must follow.
func (c *Carrier) Connect(now time.Time, source, host string) (*Session, Answer) {
	src := c.sourceOf(now, source)
	src.sessions++
	c.count.Connected++
	s := &Session{c: c, src: src, host: host, begun: now}
	s.dice.state = hash(c.seed^src.sessions, source)
	if say := c.blocked(now, src); say != nil {
		c.count.Blocked++
		return s, s.turnAway(say)
	}
	over := &c.profile.Over
	if c.full(now, src) {
		return s, s.turnAway(or(over.Connections, "421 4.7.0 Too many connections from your host, try again later"))
	}
	at := when{now, now, now}
	own := c.spend(at, src, src.connect, "per_source.connection_rate")
	if all := c.spend(at, src, c.connect, "limits.connection_rate"); !own || !all {
		return s, s.turnAway(or(over.ConnectionRate, "421 4.7.0 Connecting too often, try again later"))
	}
	if say := s.chance("connect"); say != nil {
		return s, s.turnAway(say)
	}
	s.counted = true
	src.open++
	c.open++
	c.count.Connections++
	c.count.Peak = max(c.count.Peak, c.count.Connections)
	return s, Answer{Delay: c.latency.connect.draw(&s.dice) + c.slowness(now, src)}
}

// turnAway refuses a connection: whatever is said, it ends.
func (s *Session) turnAway(say *Say) Answer {
	a := s.say(say)
	a.Close = !a.Reset && !a.Drop
	return a
}

// Heard tells between which times the commands that follow were sent. Without
// it, each is taken as sent when it is handed in.
func (s *Session) Heard(since, until time.Time) { s.since, s.until = since, until }

// Hello is EHLO or HELO; secure says that TLS has begun.
func (s *Session) Hello(now time.Time, secure bool) Answer {
	s.secure = secure
	return Answer{Delay: s.c.latency.hello.draw(&s.dice) + s.c.slowness(now, s.src)}
}

// at is the time of a command, as far as Heard has told.
func (s *Session) at(now time.Time) when {
	if s.since.IsZero() || s.until.After(now) || s.since.After(s.until) {
		return when{now, now, now}
	}
	return when{now, s.since, s.until}
}

// Mail is MAIL FROM.
func (s *Session) Mail(now time.Time, from string) Answer {
	c, src := s.c, s.src
	s.tx = transaction{special: s.tx.special[:0], none: true}
	s.messages++
	c.count.Offered++
	src.last = now
	if src.began.IsZero() {
		src.began = now
	}
	if c.began.IsZero() {
		c.began = now
	}
	much := s.tooMuch(now)
	if say := c.deferred(now, src); say != nil {
		if much == nil { // else it has been struck already
			c.strike(now, src, 1) // it keeps pushing
		}
		return s.refuse(now, say)
	}
	if much != nil {
		return s.refuse(now, much)
	}
	if say := c.topOfHour(now, src); say != nil {
		return s.refuse(now, say)
	}
	if say := s.chance("mail"); say != nil {
		return s.refuse(now, say)
	}
	s.tx.none, s.tx.from = false, strings.Clone(from)
	return Answer{Delay: c.latency.mail.draw(&s.dice) + c.slowness(now, src)}
}

// tooMuch checks the limits on messages. All of them count every MAIL.
func (s *Session) tooMuch(now time.Time) *Say {
	c, src, p := s.c, s.src, s.c.profile
	t := s.at(now)
	own := c.spend(t, src, src.rate, "per_source.rate")
	all := c.spend(t, src, c.rate, "limits.rate")
	ownDay := c.spendDay(now, src, src.day, "per_source.per_day")
	allDay := c.spendDay(now, src, c.day, "limits.per_day")
	switch {
	case p.StartTLS == startTLSRequired && !s.secure:
		return or(p.Over.TLS, "530 5.7.0 Must issue a STARTTLS command first")
	case p.MessagesPerConnection > 0 && s.messages > p.MessagesPerConnection:
		c.violate(now, src, "messages_per_connection", 0, int64(p.MessagesPerConnection), int64(s.messages))
		return or(p.Over.MessagesPerConnection, "421 4.7.0 Too many messages for this connection")
	case p.SessionTime > 0 && now.Sub(s.begun) > p.SessionTime.D():
		return or(p.Over.SessionTime, "421 4.4.2 Connection held too long")
	case !own || !all:
		return or(p.Over.Rate, "421 4.7.0 Too much mail from your host, try again later")
	case !ownDay || !allDay:
		return or(p.Over.PerDay, "421 4.7.0 Daily limit reached, try again tomorrow")
	}
	return nil
}

// Rcpt is RCPT TO.
func (s *Session) Rcpt(now time.Time, to string) Answer {
	c, p := s.c, s.c.profile
	if s.tx.none {
		return Answer{Reply: "503 5.5.1 MAIL first"}
	}
	s.recipients++
	s.tx.named++
	if most := p.RecipientsPerConnection; most > 0 && s.recipients > most {
		c.violate(now, s.src, "recipients_per_connection", 0, int64(most), int64(s.recipients))
		if p.ExcessVoidsSession {
			c.count.Voided += s.delivered
			s.delivered = 0
		}
		return s.refuse(now, or(p.Over.RecipientsPerConnection, "421 4.5.3 Too many recipients for this connection"))
	}
	if most := p.RecipientsPerTransaction; most > 0 && s.tx.named > most {
		c.violate(now, s.src, "recipients_per_transaction", 0, int64(most), int64(s.tx.named))
		return s.refuse(now, or(p.Over.RecipientsPerTransaction, "452 4.5.3 Too many recipients"))
	}
	if say := s.chance("rcpt"); say != nil {
		return s.refuse(now, say)
	}
	f := c.fateOf(to)
	c.known(now, s.src, f == nil || f.Kind != KindUnknown)
	if f != nil && f.refuses && f.Phase != phaseDot {
		return s.refuseFor(now, &f.say, to)
	}
	if reply := c.greylisted(now, s.src, to); reply != nil {
		return s.refuseFor(now, reply, to)
	}
	s.take(to, f)
	return Answer{Delay: c.latency.rcpt.draw(&s.dice) + c.slowness(now, s.src)}
}

// take adds a recipient to the transaction. Only those whose mail does not
// simply arrive are remembered.
func (s *Session) take(to string, f *fate) {
	if s.tx.taken++; s.tx.taken == 1 {
		s.tx.first = f
		if f != nil {
			s.tx.to = strings.Clone(to)
		}
	}
	if f != nil && !f.refuses {
		s.tx.special = append(s.tx.special, special{strings.Clone(to), f})
	}
}

// Data is DATA, before the content.
func (s *Session) Data(now time.Time) Answer {
	if say := s.chance("data"); say != nil {
		return s.refuse(now, say)
	}
	return Answer{Delay: s.c.latency.data.draw(&s.dice) + s.c.slowness(now, s.src)}
}

// Outcome is what becomes of a message.
type Outcome struct {
	Answer
	// Dropped are recipients whose mail was taken and thrown away.
	Dropped []string
	// Notices are to be mailed back later.
	Notices []late.Notice
}

// Content is the end of a message's content.
func (s *Session) Content(now time.Time) Outcome {
	c := s.c
	if f := s.tx.first; f != nil && f.refuses {
		return Outcome{Answer: s.refuseFor(now, &f.say, s.tx.to)}
	}
	if say := s.chance("dot"); say != nil {
		return Outcome{Answer: s.refuse(now, say)}
	}
	o := Outcome{Answer: Answer{Delay: c.latency.dot.draw(&s.dice) + c.slowness(now, s.src)}}
	c.count.Messages++
	c.count.Delivered += int64(s.tx.taken)
	s.delivered += int64(s.tx.taken)
	for _, x := range s.tx.special {
		switch x.fate.Kind {
		case KindDropped:
			c.count.Dropped++
			o.Dropped = append(o.Dropped, x.to)
		default:
			if x.fate.Kind == KindBounce {
				c.count.Bounces++
			} else {
				c.count.Complaints++
			}
			o.Notices = append(o.Notices, late.Notice{
				Kind: late.Kind(x.fate.Kind), Carrier: c.profile.Name, Host: s.host, From: s.tx.from, To: x.to, Source: s.src.name,
				Arrived: now, Due: now.Add(x.fate.after.draw(&s.dice)), Status: x.fate.Status, Text: x.fate.Reply,
			})
		}
	}
	s.tx = transaction{special: s.tx.special[:0], none: true}
	return o
}

// Gone tells that the sender has ended the connection, although what it sent
// before may not have been read. It counts no longer as open.
func (s *Session) Gone() {
	if s.counted {
		s.counted = false
		s.src.open--
		s.c.open--
		s.c.count.Connections--
	}
}

// Closed is the end of the connection.
func (s *Session) Closed(now time.Time) {
	s.Gone()
	s.src.last = now
}

// chance throws for the ordinary refusals of a phase.
func (s *Session) chance(phase string) *Say {
	all := s.c.chances[phase]
	for i := range all {
		if s.dice.hit(all[i].Share) {
			return &all[i].Say
		}
	}
	return nil
}

func (s *Session) refuse(now time.Time, say *Say) Answer { return s.refuseFor(now, say, "") }

// refuseFor refuses a command, as slowly as everything is answered.
func (s *Session) refuseFor(now time.Time, say *Say, to string) Answer {
	a := s.answer(say, to)
	a.Delay = s.c.slowness(now, s.src)
	return a
}

func (s *Session) say(say *Say) Answer { return s.answer(say, "") }

// answer makes an Answer of what a profile says, and counts it.
func (s *Session) answer(say *Say, to string) Answer {
	if say.Reset || say.Drop {
		s.c.count.Resets++
		return Answer{Reset: say.Reset, Drop: say.Drop}
	}
	text := say.Reply
	if strings.IndexByte(text, '{') >= 0 {
		text = strings.NewReplacer("{source}", s.src.name, "{rcpt}", to, "{from}", s.tx.from, "{host}", s.host).Replace(text)
	}
	if text[0] == '4' {
		s.c.count.Deferred++
	} else {
		s.c.count.Refused++
	}
	return Answer{Reply: text, Close: say.Close || strings.HasPrefix(text, "421")}
}

// or is say, or a plain reply where the profile says nothing.
func or(say *Say, plain string) *Say {
	if say != nil {
		return say
	}
	return &Say{Reply: plain}
}
