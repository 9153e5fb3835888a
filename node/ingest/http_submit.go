package ingest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"hikyaku/controlplane/policy"
	"hikyaku/node/smtp"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// submit is POST /v1/messages: who may send is known; the rest happens in the
// order of cost, and 202 comes last, after the message is durable.
func (s *HTTPServer) submit(ctx *fasthttp.RequestCtx, c *caller) error {
	if err := wantJSON(ctx); err != nil {
		return err
	}
	if err := s.backend.Acceptor.Admit(c.tenant); err != nil {
		return err
	}
	key, err := idempotencyKey(ctx)
	if err != nil {
		return err
	}
	body, err := s.readBody(ctx)
	defer s.release(body)
	if err != nil {
		return err
	}
	s.counters.bytes.Add(uint64(len(body.b)))
	began := s.now()
	out, replayed, err := s.inject(c, key, body.b)
	if err != nil {
		return err
	}
	if replayed {
		s.counters.replayed.Add(1)
		ctx.Response.Header.Set("Idempotency-Replayed", "true")
	} else {
		s.counters.accepted(s.now().Sub(began))
	}
	ctx.SetStatusCode(fasthttp.StatusAccepted)
	ctx.Response.Header.SetContentType("application/json")
	ctx.Response.SetBodyRaw(out)
	return nil
}

// inject takes one request's body to its answer. With a key, requests of that
// key go one after another, and the stored answer of the first is the others'.
func (s *HTTPServer) inject(c *caller, key string, body []byte) (answer []byte, replayed bool, err error) {
	ctx, cancel := context.WithTimeout(c.ctx, s.l.Timeouts.Accept.D())
	defer cancel()
	leave := func() {}
	if len(body) > largeBody {
		if leave, err = s.turns.enter(ctx); err != nil {
			return nil, false, err
		}
		defer leave()
	}
	sub, err := decodeSubmit(body, s.l.MaxRecipients)
	if err != nil {
		return nil, false, err
	}
	var idem *spool.Idempotency
	if key != "" {
		unlock, err := s.keys.lock(ctx, c.tenant+"\x00"+key)
		if err != nil {
			return nil, false, outcomeUnknown()
		}
		defer unlock()
		idem = &spool.Idempotency{Tenant: c.tenant, Key: key, BodyHash: hashRequest(c.tenant, body)}
		if answer, err = s.replay(idem, sub); answer != nil || err != nil {
			return answer, err == nil, err
		}
		idem.Expires = s.now().Add(s.l.IdempotencyRetention.D())
	}
	in := &injection{s: s, c: c, sub: sub, set: s.backend.Acceptor.Policy(), now: s.now().UTC().Truncate(time.Microsecond)}
	if err := in.build(); err != nil {
		return nil, false, err
	}
	if idem != nil {
		idem.Answer = in.compact()
		in.out.Idempotency = idem
	}
	accepted := len(in.out.Recipients)
	in.out.Encoded = leave
	answer = in.answer() // before Accept: nothing of the submission is ours after it
	if err := s.backend.Acceptor.Accept(ctx, in.out); err != nil {
		if errors.Is(err, spool.ErrDuplicate) && idem != nil { // an attempt whose outcome was unknown had landed
			if answer, err := s.replay(idem, sub); answer != nil || err != nil {
				return answer, err == nil, err
			}
		}
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			return nil, false, outcomeUnknown()
		}
		return nil, false, err
	}
	s.counters.messages.Add(1)
	s.counters.recipients.Add(uint64(accepted))
	s.counters.rejected.Add(uint64(len(in.rejected)))
	return answer, false, nil
}

func outcomeUnknown() error {
	e := refuse(fasthttp.StatusServiceUnavailable, codeUnavailable, "the message may or may not have been accepted; ask again with the same Idempotency-Key")
	e.retryAfter = 5 * time.Second
	return e
}

// injection is one request on its way to a Submission.
type injection struct {
	s        *HTTPServer
	c        *caller
	sub      *submit
	set      *policy.Set
	now      time.Time
	problems []Problem
	out      *Submission
	tmpl     CompiledTemplate // nil for raw
	kept     []int            // indexes in to of the accepted
	rejected []rejection
	job      string // in the answer
}

// rejection is one refused recipient, by its place in to.
type rejection struct {
	index  int
	reason string
}

func (in *injection) bad(path, reason string) {
	in.problems = append(in.problems, Problem{path, reason})
}

// build makes the submission, or says all that is wrong with the request.
func (in *injection) build() error {
	q := &in.sub.req
	m := &message.Message{
		ID: in.s.backend.Acceptor.NewID(in.now), Accepted: in.now, Tenant: in.c.tenant, Via: "http", From: in.c.from(),
		Tags: q.Tags, Metadata: []byte(q.Metadata), Stream: q.Stream, Pool: q.Pool, Job: q.Job,
	}
	in.out = &Submission{Message: m, OneEach: true}
	in.labels(m)
	in.times()
	var author string
	if in.sub.raw {
		author = in.raw(m)
	} else {
		author = in.template(m)
	}
	in.sender(m, author)
	if len(in.problems) > 0 {
		return refuse(fasthttp.StatusUnprocessableEntity, codeInvalidField, "the request cannot be accepted as it is", in.problems...)
	}
	if err := in.mayUse(m, author); err != nil {
		return err
	}
	in.recipients()
	if len(in.out.Recipients) == 0 {
		e := refuse(fasthttp.StatusUnprocessableEntity, codeNoRecipients, "no recipient can be accepted")
		for _, r := range in.rejected {
			e.details = append(e.details, Problem{"to[" + strconv.Itoa(r.index) + "]", r.reason})
		}
		return e
	}
	if m.Job == "" && len(in.sub.rcpts) > 1 {
		m.Job = m.ID.String()
	}
	// A message to one recipient needs no queue and no counters of its own; its
	// job in the answer is the message under its job-like name (http_status.go).
	if in.job = m.Job; in.job == "" {
		in.job = m.ID.String()
	}
	if m.Template != nil {
		m.Template.Job = in.job
	}
	if !m.UTF8 && len(in.out.Recipients) == 1 {
		m.UTF8 = needsUTF8(in.out.Recipients[0].Address)
	}
	return nil
}

// labels checks the names under which the message is queued.
func (in *injection) labels(m *message.Message) {
	if m.Stream != "" {
		switch st, _ := in.set.StreamOf(m.Tenant, m.Stream); {
		case !resourceName([]byte(m.Stream)):
			in.bad("stream", "want 1 to 64 of a-z, 0-9, '.', '_' and '-'")
		case st == nil:
			in.bad("stream", "there is no such stream")
		}
	}
	if m.Pool != "" && in.set.Pools[m.Pool] == nil {
		in.bad("pool", "there is no such pool")
	}
	if m.Job != "" && !visible([]byte(m.Job), maxJobName) {
		in.bad("job", fmt.Sprintf("want 1 to %d characters of printable ASCII without spaces", maxJobName))
	}
	switch p := in.sub.req.Priority; p {
	case "":
	case "high", "normal", "low":
		m.Priority, in.out.PriorityGiven = message.ParsePriority(p)
	default:
		in.bad("priority", "want high, normal or low")
	}
}

func (in *injection) times() {
	q := &in.sub.req
	ahead := in.s.l.MaxSendAhead
	start := in.now
	if q.SendAt != nil {
		if q.SendAt.Sub(in.now) > ahead.D() {
			in.bad("send_at", "more than "+ahead.String()+" ahead")
		}
		in.out.SendAt = *q.SendAt
		if q.SendAt.After(start) {
			start = *q.SendAt
		}
	}
	if q.ExpiresAt != nil {
		switch {
		case !q.ExpiresAt.After(start):
			in.bad("expires_at", "not after now and send_at")
		case q.ExpiresAt.Sub(start) > ahead.D():
			in.bad("expires_at", "more than "+ahead.String()+" after now and send_at")
		}
		in.out.Expires = *q.ExpiresAt
	}
}

// template checks the parts of a built message and returns its author.
func (in *injection) template(m *message.Message) string {
	q := &in.sub.req
	if q.From == nil {
		in.bad("from", "missing; a message needs from, or raw")
		return ""
	}
	t := &message.Template{
		From: message.Address(*q.From), Subject: q.Subject, Text: q.Text, HTML: q.HTML, Missing: q.Missing,
		Date: in.now, MessageIDDomain: in.s.l.Hostname,
	}
	in.mailbox("from.email", q.From.Email)
	if q.ReplyTo != nil {
		in.mailbox("reply_to.email", q.ReplyTo.Email)
		t.ReplyTo = &message.Address{Email: q.ReplyTo.Email, Name: q.ReplyTo.Name}
	}
	for _, h := range q.Headers {
		t.Headers = append(t.Headers, message.Header(h))
	}
	for _, f := range q.Attachments {
		t.Attachments = append(t.Attachments, message.Attachment(f))
	}
	for _, f := range q.Inline {
		t.Inline = append(t.Inline, message.Attachment(f))
	}
	if len(in.problems) > 0 {
		return q.From.Email
	}
	var problems []Problem
	in.tmpl, problems = in.s.backend.Compile(t)
	in.problems = append(in.problems, problems...)
	m.Template = t
	m.UTF8 = needsUTF8(t.From.Email) || t.ReplyTo != nil && needsUTF8(t.ReplyTo.Email)
	return q.From.Email
}

// raw checks a whole message and returns its first author.
func (in *injection) raw(m *message.Message) string {
	if in.sub.built != "" {
		in.bad(in.sub.built, "cannot be given together with raw")
	}
	if in.sub.vars {
		in.bad("to["+strconv.Itoa(in.sub.at)+"].vars", "cannot be given together with raw, which is no template")
	}
	if len(in.problems) > 0 {
		return ""
	}
	c, content, err := readRaw(in.sub.req.Raw, in.s.l.Hostname)
	if err != nil {
		in.problems = append(in.problems, asHTTPError(err).details...)
		return ""
	}
	tenant := in.set.Tenants[m.Tenant]
	for _, d := range c.domains {
		if tenant != nil && !tenant.SenderAllowed(d) {
			in.bad("raw", "the From header names a domain that this tenant may not use")
			break
		}
	}
	m.UTF8 = c.utf8
	if c.eight {
		m.Body = message.Body8BitMIME
	}
	m.Raw = c.assemble(m, content, in.c.addr.String(), in.s.l.Hostname)
	return c.from
}

func (in *injection) mailbox(path, address string) {
	if reason := badAddress(address); reason != "" {
		in.bad(path, reason)
	}
}

// sender settles the envelope sender and the domain that signs.
func (in *injection) sender(m *message.Message, author string) {
	m.Sender = author
	if e := in.sub.req.EnvelopeFrom; e != nil {
		m.Sender = *e
		if *e != "" {
			in.mailbox("envelope_from", *e)
		}
	}
	if len(in.problems) > 0 {
		return
	}
	m.UTF8 = m.UTF8 || needsUTF8(m.Sender)
	m.HeaderFrom, _ = Destination(author)
	if m.HeaderFrom[0] == '[' {
		m.HeaderFrom = ""
	}
}

// mayUse holds the tenant to its domains, in the envelope and in From.
func (in *injection) mayUse(m *message.Message, author string) error {
	tenant := in.set.Tenants[m.Tenant]
	if tenant == nil {
		return nil
	}
	for _, a := range []struct{ path, address string }{{"envelope_from", m.Sender}, {"from.email", author}} {
		if a.address == "" {
			continue
		}
		if domain, err := Destination(a.address); err != nil || !tenant.SenderAllowed(domain) {
			if a.path == "envelope_from" && in.sub.req.EnvelopeFrom == nil {
				a.path = "from.email"
			}
			return refuse(fasthttp.StatusForbidden, codeForbidden, "this tenant may not send as that domain", Problem{a.path, "the domain is not among the tenant's sender domains"})
		}
	}
	return nil
}

// recipients keeps those who can get the message, in order.
func (in *injection) recipients() {
	rcpts := in.sub.rcpts
	var seen map[string]struct{}
	if !in.sub.req.AllowDuplicates && len(rcpts) > 1 {
		seen = make(map[string]struct{}, len(rcpts))
	}
	in.out.Recipients = make([]message.Recipient, 0, len(rcpts))
	in.kept = make([]int, 0, len(rcpts))
	for i := range rcpts {
		breathe(i)
		if reason := in.judge(&rcpts[i], seen); reason != "" {
			in.rejected = append(in.rejected, rejection{i, reason})
			continue
		}
		in.kept = append(in.kept, i)
		in.out.Recipients = append(in.out.Recipients, rcpts[i])
	}
}

// breathe lets others run in a loop over the recipients of one request. Ten
// thousand of them are tens of milliseconds of work, and Go would take the
// processor away only after ten.
func breathe(i int) {
	if i%64 == 63 {
		runtime.Gosched()
	}
}

// judge says why a recipient cannot get the message.
func (in *injection) judge(r *message.Recipient, seen map[string]struct{}) string {
	if reason := badAddress(r.Address); reason != "" {
		return reason
	}
	if oddLocal(in.set, r.Address) {
		return "not an address that mail can be sent to: " + oddLocalText
	}
	if in.tmpl != nil {
		if err := in.tmpl.Check(r); err != nil {
			return err.Error()
		}
	}
	if seen == nil {
		return ""
	}
	address := smtp.QuoteOdd(r.Address) // with or without its quotes, it is one mailbox
	if _, again := seen[address]; again {
		return "duplicate: the address was given before"
	}
	seen[address] = struct{}{}
	return ""
}

// badAddress says what is wrong with a mailbox by the grammar of SMTP.
func badAddress(address string) string {
	var buf [320]byte
	p, bad := smtp.ParseMailbox(append(buf[:0], address...))
	if bad != nil {
		return "not an address that mail can be sent to (RFC 5321 4.1.2)"
	}
	if p.At < 0 {
		return "an address without a domain"
	}
	if _, err := Destination(address); err != nil {
		return err.Error()
	}
	return ""
}

// needsUTF8 reports whether an address can only travel with SMTPUTF8 (RFC 6531):
// a U-label alone can be written as an A-label.
func needsUTF8(address string) bool {
	for i := len(address) - 1; i >= 0; i-- {
		if address[i] == '@' {
			return !isASCII(address[:i])
		}
	}
	return false
}

// answer is the body of 202.
func (in *injection) answer() []byte {
	emails := func(i int) string { return in.sub.rcpts[i].Address }
	return appendAnswer(make([]byte, 0, 128+96*len(in.sub.rcpts)), in.job, in.out.Message.ID, in.kept, in.rejected, emails)
}

// appendAnswer writes a SubmitAnswer.
func appendAnswer(b []byte, job string, id message.ID, kept []int, rejected []rejection, email func(int) string) []byte {
	b = appendJSONString(append(b, `{"job":`...), job)
	b = append(b, `,"messages":[`...)
	for n, i := range kept {
		breathe(n)
		if n > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"id":"`...)
		b = message.DeliveryID{Message: id, Index: uint16(n)}.AppendText(b)
		b = append(b, `","email":`...)
		b = append(appendJSONString(b, email(i)), '}')
	}
	b = append(b, `],"rejected":[`...)
	for n, r := range rejected {
		if n > 0 {
			b = append(b, ',')
		}
		b = appendJSONString(append(b, `{"email":`...), clipText(email(r.index)))
		b = appendJSONString(append(b, `,"error":`...), r.reason)
		b = strconv.AppendInt(append(b, `,"path":"to[`...), int64(r.index), 10)
		b = append(b, `]"}`...)
	}
	return append(b, "]}\n"...)
}

// clipText shortens what a client gave as an address for the answer.
func clipText(s string) string {
	if len(s) <= 320 {
		return s
	}
	return string(clipBytes([]byte(s)[:320])) + "…"
}
