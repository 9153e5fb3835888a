package delivery

import (
	"cmp"
	"context"
	"math"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/smtp"
	"hikyaku/spool/message"
)

// Session is one connection of a lane. It belongs to the goroutine that calls
// Run.
type Session struct {
	client *Client
	target *Target
	work   Work
	times  Timeouts

	ctx  context.Context // of Run
	conn *connection
	wire *wire
	caps smtp.Capabilities

	hostAddr, sourceAddr string

	waiting    []*Result      // jobs with recipients that are not in a transaction yet
	spare      []*transaction // two at most are in use at once
	head       *transaction   // the one whose answers are being read
	begun      int            // transactions
	ended      int            // transactions that the peer answered to the end
	recipients int            // RCPT commands
	mostRcpt   int            // what the peer was seen to bear in one transaction
	dirty      bool           // the peer may hold an open transaction: RSET first
	closing    bool           // no further job
	// loose says that the connection can be closed at once when the fence closes:
	// it is being opened, or a MAIL is being written and may hang there. It is
	// set before the fence is asked, so that either the asker or who closes
	// the connection sees the other.
	loose   atomic.Bool
	last421 message.Reply // what the peer said when it announced the end
	lost    message.Reply // why the connection cannot be used any more
}

// Ended is how a session ended.
type Ended struct {
	// Connected says that a host was ready to take mail. Otherwise no job was
	// taken, Failures says what each host tried answered, and Reply what that
	// comes to: the node lets the site rest, and may charge one delivery.
	Connected bool
	Failures  []HostFailure // also those before the host that took the connection
	// Unfinished says that Work allowed no further connection while there was
	// an address left that may well take it: the next session tries that first.
	Unfinished bool
	// Fenced says that the source was not ours any more at the end. Nothing of
	// the above says anything about the hosts then.
	Fenced bool
	// Reply is why the connection was lost, or the peer's 421. Its Code is 0
	// when we ended the session ourselves.
	Reply        message.Reply
	Host         string
	HostAddr     string
	Transactions int
}

// NewSession makes a session. The target must not change while it runs.
func (c *Client) NewSession(t *Target, work Work) *Session {
	return &Session{client: c, target: t, work: work, times: t.Timeouts.withDefaults(), mostRcpt: math.MaxInt}
}

// Run connects, carries jobs and quits. When ctx ends it stops at once: jobs
// whose content has not ended are given back as not attempted. To end a
// session in peace, let Work say that there is no job.
func (s *Session) Run(ctx context.Context) Ended {
	s.client.count.sessions.Add(1)
	defer s.client.count.sessions.Add(-1)
	if f := s.target.Fence; f != nil {
		s.loose.Store(true)
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(f.Stopped(), func() {
			if s.loose.Load() {
				cancel()
			}
		})()
	}
	s.ctx = ctx
	c := connecting{client: s.client, target: s.target, id: s.client.lastID.Add(1), again: s.work.Reconnect}
	conn := c.connect(ctx)
	failures := c.failures
	if conn == nil {
		return Ended{Failures: failures, Reply: c.summary, Unfinished: c.unfinished, Fenced: !s.target.mayUse()}
	}
	defer conn.close()
	s.loose.Store(false)
	conn.wire.fence, conn.wire.loose = s.target.Fence, &s.loose
	s.conn, s.wire, s.caps = conn, conn.wire, conn.caps
	s.hostAddr = conn.to.String()
	s.sourceAddr = addressOnly(conn.wire)
	if s.target.NoPipelining {
		s.caps.Pipelining = false
	}
	if s.target.NoChunking {
		s.caps.Chunking = false
	}
	s.pump()
	s.giveBack()
	if s.lost.Code == 0 {
		s.quit()
	} else {
		s.client.count.broken[s.lost.Fault].Add(1)
	}
	fenced := !s.target.mayUse()
	if fenced && s.wire.stopped.Load() {
		conn.wire.forget()
	}
	return Ended{
		Fenced:    fenced,
		Connected: true, Failures: failures, Reply: cmp.Or(s.last421, s.lost),
		Host: conn.host.Name, HostAddr: s.hostAddr, Transactions: s.begun,
	}
}

func addressOnly(w *wire) string {
	a := w.conn.LocalAddr()
	if t, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return t.AddrPort().Addr().Unmap().String()
	}
	return a.String()
}

// pump carries transactions until there are no more or the connection is lost.
func (s *Session) pump() {
	var tx *transaction
	for {
		if tx == nil {
			warm := true
			if tx = s.take(true); tx == nil {
				warm = false
				if tx = s.take(false); tx == nil {
					return
				}
			}
			s.wire.limit = s.limitOf(tx)
			if !s.quiet() {
				s.end(tx)
				return
			}
			s.offer(tx, warm)
			s.wire.flush()
			if s.wire.withheld {
				s.end(tx)
				return
			}
		}
		next := s.exchange(tx)
		if s.lost.Code != 0 {
			if next != nil {
				s.settleLost(next)
				s.end(next)
			}
			return
		}
		if next != nil && s.wire.withheld {
			s.end(next)
			return
		}
		tx = next
	}
}

// take prepares the next transaction: of a job that has recipients left, else
// of a new job. now says not to wait for one.
func (s *Session) take(now bool) *transaction {
	for s.mayBegin() {
		if len(s.waiting) == 0 {
			job, ok := s.pull(now)
			if !ok {
				return nil
			}
			r := s.prepare(job)
			if len(r.todo) > 0 {
				s.wait(r)
				continue
			}
			s.done(r)
			if now {
				// The peer waits, maybe for content that is not flushed yet: a
				// run of jobs that cannot be sent must not hold it up.
				return nil
			}
			continue
		}
		r := s.waiting[0]
		if r.begun && !s.work.Again(r.Job) {
			s.leave(r)
			continue
		}
		r.begun = true
		tx := s.newTransaction(r, s.batch(r))
		if len(r.todo) == 0 {
			s.waiting = slices.Delete(s.waiting, 0, 1) // rarely more than one
			r.waiting = false
		}
		return tx
	}
	return nil
}

func (s *Session) pull(now bool) (*Job, bool) {
	if now {
		return s.work.TryNext()
	}
	return s.work.Next(s.ctx, cmp.Or(s.target.IdleTimeout, policy.DefaultIdleTimeout))
}

// mayBegin reports whether the connection may carry one more transaction.
func (s *Session) mayBegin() bool {
	if s.closing || s.lost.Code != 0 || s.wire.stopped.Load() || s.wire.withheld || s.wire.writeErr != nil {
		return false
	}
	most := cmp.Or(s.target.MessagesPerConnection, policy.DefaultMessagesPerConnection)
	if s.caps.MailMax > 0 {
		most = min(most, s.caps.MailMax)
	}
	return s.begun < most && s.room() > 0
}

// room is how many recipients the connection may still name.
func (s *Session) room() int {
	if s.target.RecipientsPerConnection <= 0 {
		return math.MaxInt
	}
	return s.target.RecipientsPerConnection - s.recipients
}

// batch is how many of the job's recipients go into the next transaction.
func (s *Session) batch(r *Result) int {
	n := min(len(r.todo), r.Job.maxRecipients(), s.mostRcpt, s.room())
	if s.caps.RcptMax > 0 {
		n = min(n, s.caps.RcptMax)
	}
	return n
}

func (s *Session) wait(r *Result) {
	r.waiting = true
	s.waiting = append(s.waiting, r)
}

// leave gives up the recipients of the first waiting job that are in no
// transaction. One that has not ended yet ends the job.
func (s *Session) leave(r *Result) {
	s.waiting = slices.Delete(s.waiting, 0, 1)
	r.waiting, r.todo, r.Withheld = false, r.todo[:0], true
	if r.open == 0 {
		s.done(r)
	}
}

// done fills in what all results of the connection share and hands it over.
func (s *Session) done(r *Result) {
	r.close()
	r.Host, r.HostAddr, r.SourceAddr, r.TLS = s.conn.host.Name, s.hostAddr, s.sourceAddr, s.conn.tls
	r.Stages.Connect = s.conn.opened
	s.conn.opened = 0
	r.pieces = nil
	s.client.count.result(r)
	s.work.Done(r)
}

// giveBack ends the jobs whose remaining recipients found no transaction.
func (s *Session) giveBack() {
	for _, r := range s.waiting {
		s.done(r)
	}
	s.waiting = nil
}

// limitOf is when the exchange of a transaction must be over.
func (s *Session) limitOf(tx *transaction) time.Time {
	limit := time.Now().Add(s.times.Attempt)
	if d := tx.r.Job.Deadline; !d.IsZero() && d.Before(limit) {
		return d
	}
	return limit
}

// hear reads one reply; false means that the connection is lost.
func (s *Session) hear(phase message.Phase, wait time.Duration) bool {
	if err := s.wire.hear(phase, wait); err != nil {
		s.lose(faultReply(err, phase))
		return false
	}
	if s.wire.reply.Code == 421 {
		s.last421 = s.wire.reply.Keep(phase)
		s.closing, s.wire.closing = true, true
	}
	return true
}

// lose marks the connection as lost. When the peer had announced the end, its
// own words are the reason.
func (s *Session) lose(reply message.Reply) {
	if s.last421.Code != 0 && reply.Fault != message.FaultLocal {
		reply = s.last421
	}
	s.lost = reply
	s.closing = true
}

// confused gives the connection up: the peer answered something that has no
// meaning at this place.
func (s *Session) confused(phase message.Phase, text string) {
	s.lose(message.Fail(451, enhProtocol, phase, message.FaultProtocol, text))
}

// quiet looks for words that nobody asked for, before a transaction begins
// with nothing outstanding: 421 is a farewell, all else is nonsense.
func (s *Session) quiet() bool {
	if s.wire.in.Buffered() == 0 {
		return true
	}
	if s.hear(message.PhaseMail, s.times.Closing) {
		if s.last421.Code != 0 {
			s.lose(s.last421)
		} else {
			s.confused(message.PhaseMail, "the host talks out of turn")
		}
	}
	return false
}

// quit says farewell. The answer is waited for briefly, so that the peer sees
// an orderly end; it changes nothing any more.
func (s *Session) quit() {
	if s.last421.Code != 0 || s.wire.stopped.Load() {
		return
	}
	s.wire.limit = time.Time{}
	s.wire.withheld = false
	_ = s.wire.command("QUIT\r\n", message.PhaseQuit, s.times.Quit)
}
