package reputation

import (
	"slices"
	"strings"
	"time"

	"hikyaku/bench/carriers"
	"hikyaku/scheduler"
	"hikyaku/spool/message"
)

// session is one connection from the sender's side, as package node has them: it
// pulls a delivery when it is free, waits for its idle time when there is none,
// and ends after so many messages.
type session struct {
	d        *day
	lane     scheduler.Lane
	carrier  int
	peer     *carriers.Session
	opened   bool
	took     int // transactions that the peer has not ended the connection in
	served   int
	most     int
	idle     time.Duration
	waiting  bool
	deadline time.Time // of waiting
	turn     int       // which wait it is
	delivery *message.Delivery
}

// roundTrip is the time that a command and its answer travel.
const roundTrip = 20 * time.Millisecond

// From is the sender of all mail.
const from = "bounce@sender.test"

// open begins a session.
func (d *day) open(a scheduler.Action) {
	c := d.number[a.Carrier]
	p := d.base.Carriers[a.Carrier]
	s := &session{d: d, lane: a.Lane, carrier: c, most: p.MessagesPerConnection, idle: p.IdleTimeout.Or(policyIdle)}
	if r := p.RecipientsPerConnection; r > 0 { // each message has one
		s.most = min(s.most, r)
	}
	var answer carriers.Answer
	s.peer, answer = d.carriers[c].Connect(d.now, a.Lane.Source, a.Lane.Site)
	if answer.OK() {
		hello := s.peer.Hello(d.now, true)
		answer.Delay += hello.Delay + 2*roundTrip
	}
	d.events.push(event{at: d.now.Add(answer.Delay + roundTrip), kind: evConnected, session: s, answer: answer})
}

// policyIdle is the product's default.
const policyIdle = 5 * time.Second

func (s *session) connected(a carriers.Answer) {
	if !a.OK() {
		s.refused(replyOf(a, message.PhaseBanner))
		return
	}
	s.pull()
}

// refused ends a session that has carried nothing. As in package node, one
// delivery carries the failure as its attempt.
func (s *session) refused(r message.Reply) {
	d := s.d
	m := s.met(r)
	m.beside = d.s.TooMany(s.lane, &r)
	if v, ok := d.s.Victim(d.now, s.lane); ok {
		s.delivery = v.Delivery
		s.fill(m)
		s.brake(d.mind.read(m)) // a refused connection ends no recipient
		s.reschedule(reading{})
	} else {
		s.brake(d.mind.read(m))
	}
	s.close(&r)
}

func (s *session) close(failed *message.Reply) {
	s.peer.Closed(s.d.now)
	s.d.s.SessionClosed(s.d.now, s.lane, s.opened, failed)
}

// pull asks for a delivery, as node's outbound does.
func (s *session) pull() {
	d := s.d
	if !s.opened {
		s.opened = true
		d.s.SessionOpened(d.now, s.lane)
	}
	if s.served >= s.most {
		s.close(nil)
		return
	}
	for {
		v, retry, ok := d.s.Next(d.now, s.lane)
		if !ok {
			s.wait(retry)
			return
		}
		if to := v.Delivery.Recipients[0].Address; d.listed[to] {
			d.accounts[s.carrier].Withheld++
			d.end(v.Delivery, nil)
			continue
		}
		s.delivery = v.Delivery
		s.attempt()
		return
	}
}

// wait notes that the session has nothing to do, until it is woken, its budget
// lets it go on, or it has waited long enough.
func (s *session) wait(retry time.Time) {
	d := s.d
	if d.s.Crowded(d.now, s.lane) {
		s.close(nil)
		return
	}
	if s.deadline.IsZero() {
		s.deadline = d.now.Add(s.idle)
	}
	if !d.now.Before(s.deadline) {
		s.close(nil)
		return
	}
	d.s.Idle(s.lane, 1)
	s.waiting = true
	s.turn++
	d.waiting[s.lane.Site] = append(d.waiting[s.lane.Site], s)
	until := s.deadline
	if !retry.IsZero() && retry.Before(until) {
		until = retry
	}
	d.events.push(event{at: until, kind: evLook, session: s, turn: s.turn})
}

// look ends the wait of that turn, if it has not ended otherwise.
func (s *session) look(turn int) {
	if !s.waiting || s.turn != turn {
		return
	}
	d := s.d
	ws := d.waiting[s.lane.Site]
	if i := slices.Index(ws, s); i >= 0 {
		d.waiting[s.lane.Site] = slices.Delete(ws, i, i+1)
	}
	s.stopWaiting()
}

func (s *session) stopWaiting() {
	s.waiting = false
	s.d.s.Idle(s.lane, -1)
	s.pull()
}

// wake lets one waiting session of each lane of a site look again, the one that
// has waited longest.
func (d *day) wake(site string) bool {
	var woken []*session
	d.waiting[site] = slices.DeleteFunc(d.waiting[site], func(s *session) bool {
		if slices.ContainsFunc(woken, func(o *session) bool { return o.lane == s.lane }) {
			return false
		}
		woken = append(woken, s)
		return true
	})
	for _, s := range woken {
		s.stopWaiting()
	}
	return len(woken) > 0
}

// attempt is one transaction. MAIL, RCPT and DATA go out together, as where
// PIPELINING is offered, so they are seen at one moment; what is said to them
// comes a round trip later, and the content after that.
func (s *session) attempt() {
	d := s.d
	s.served++
	s.deadline = time.Time{}
	d.accounts[s.carrier].Series.Sent[d.bucket()]++
	a := s.peer.Mail(d.now, from)
	took, phase := roundTrip+a.Delay, message.PhaseMail
	if a.OK() {
		a = s.peer.Rcpt(d.now, s.delivery.Recipients[0].Address)
		took, phase = took+a.Delay, message.PhaseRcpt
	}
	if a.OK() {
		a = s.peer.Data(d.now)
		took, phase = took+a.Delay, message.PhaseData
	}
	if a.OK() {
		o := s.peer.Content(d.now.Add(took + roundTrip))
		a = o.Answer
		took, phase = took+roundTrip+a.Delay, message.PhaseDot
		for i := range o.Notices {
			if n := &o.Notices[i]; n.Due.Before(d.w.end) {
				d.events.push(event{at: n.Due, kind: evNotice, notice: n})
			}
		}
	}
	d.events.push(event{at: d.now.Add(took), kind: evDone, session: s, answer: a, phase: phase})
}

// done is the outcome of a transaction.
func (s *session) done(a carriers.Answer, phase message.Phase) {
	d, x := s.d, s.delivery
	r := replyOf(a, phase)
	m := s.met(r)
	s.fill(m)
	read := d.mind.read(m)
	s.brake(read)
	account := d.accounts[s.carrier]
	switch {
	case r.Code < 400:
		s.delivered(account, x)
		d.end(x, nil)
	case read.final:
		account.Refused++
		if read.suppress {
			d.suppress(s.carrier, m.to, false)
		}
		d.end(x, nil)
	default:
		s.reschedule(read)
	}
	s.delivery = nil
	if !a.Close && !a.Reset && !a.Drop {
		s.took++
		s.pull()
		return
	}
	if s.took == 0 {
		s.close(&r) // a peer that greets and takes nothing is as closed as one that does not answer
		return
	}
	s.close(nil)
}

// brake stops the source at the carrier, as package node does before it is told to.
func (s *session) brake(r reading) {
	if !r.brake.IsZero() {
		s.d.s.Brake(s.d.now, s.d.w.profiles[s.carrier].Name, s.lane.Source, r.brake)
	}
}

func (s *session) delivered(a *Account, x *message.Delivery) {
	d := s.d
	if truthOf(d.carriers[s.carrier], x.Recipients[0].Address) != takes {
		a.Returned++
		return
	}
	a.Delivered++
	a.Series.Delivered[d.bucket()]++
	a.delays = append(a.delays, uint32(d.now.Sub(x.Accepted)/(100*time.Millisecond)))
}

// reschedule keeps the delivery for later.
func (s *session) reschedule(r reading) {
	d, x := s.d, s.delivery
	next := x.Clone()
	if r.atOnce {
		next.Due = x.Due
	} else {
		next.Attempts++
		carrier := d.w.profiles[s.carrier].Name
		wait := scheduler.RetryAfter(d.base.RetryFor(nil, carrier), int(next.Attempts), d.chance.Uint64())
		if r.soon > 0 {
			wait = d.w.sooner(r.soon)
		}
		next.Due = d.now.Add(max(wait, d.w.sooner(r.wait))).Truncate(time.Microsecond)
	}
	if next.Due.After(next.Expires) {
		next.Due = next.Expires
	}
	if !next.Due.After(x.Due) {
		next.Due = x.Due.Add(time.Microsecond)
	}
	d.end(x, next)
	s.delivery = nil
}

func (s *session) met(r message.Reply) *met {
	return &met{at: s.d.now, carrier: s.d.w.profiles[s.carrier].Name, source: s.lane.Source, reply: r}
}

// fill adds what is known of the delivery.
func (s *session) fill(m *met) {
	x := s.delivery
	m.to, m.tenant, m.job, m.attempts = x.Recipients[0].Address, x.Queue.Tenant, x.Queue.Job, x.Attempts
	m.domain = x.Queue.Tenant + ".test"
}

// replyOf is an answer as a client hears it.
func replyOf(a carriers.Answer, phase message.Phase) message.Reply {
	lost := message.Enhanced{Class: 4, Subject: 4, Detail: 2}
	switch {
	case a.Reset:
		return message.Fail(451, lost, phase, message.FaultReset, "connection reset by the host")
	case a.Drop:
		return message.Fail(451, lost, phase, message.FaultClosed, "connection closed by the host without a reply")
	case a.Reply == "":
		return message.Reply{Code: 250, Phase: phase}
	}
	return parseReply(a.Reply, phase)
}

// parseReply reads "550 5.1.1 text".
func parseReply(s string, phase message.Phase) message.Reply {
	r := message.Reply{Phase: phase, Text: s[min(4, len(s)):]}
	for i := range 3 {
		r.Code = r.Code*10 + uint16(s[i]-'0')
	}
	if word, rest, ok := strings.Cut(r.Text, " "); ok {
		if e, is := message.ParseEnhanced(word); is {
			r.Enhanced, r.Text = e, rest
		}
	}
	return r
}

// domainOf is the part behind the last @.
func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }
