package delivery

import (
	"context"
	"errors"
	"time"

	"hikyaku/node/smtp"
	"hikyaku/spool/message"
)

// greeting takes one address from TCP to readiness for MAIL:
//
//	connect → [TLS] → banner → EHLO, else HELO → [STARTTLS → TLS → EHLO] → [AUTH]
//
// The phase is where it stands; a failure is said in it.
type greeting struct {
	client *Client
	target *Target
	cand   candidate
	times  Timeouts
	limit  time.Time
	id     uint64
	again  func() bool // whether one more connection may be made

	wire  *wire
	stop  func() bool
	caps  smtp.Capabilities
	tls   string
	phase message.Phase
	plain bool // TLS is known to be broken here

	unfinished bool // it wants a second connection, which may not be made
}

// refusal is a reply as an error: what the peer said, or what we say for it.
type refusal struct{ reply message.Reply }

func (r *refusal) Error() string { return r.reply.String() }

// open makes a connection, and a second one without TLS where TLS was only a
// wish and proved broken.
func (g *greeting) open(ctx context.Context) (*connection, message.Reply) {
	g.plain = g.target.TLS == TLSOpportunistic && g.client.brokenTLS.has(g.cand.to, time.Now())
	err := g.try(ctx)
	if errors.Is(err, errPlainAgain) {
		g.client.brokenTLS.remember(g.cand.to, time.Now().Add(g.client.opt.BrokenTLSFor))
		g.client.count.tlsFallback.Add(1)
		g.plain = true
		if !g.again() {
			g.unfinished = true // the next session begins in plain
			return nil, message.Reply{}
		}
		err = g.try(ctx)
	}
	if err == nil {
		g.wire.limit = time.Time{}
		return &connection{wire: g.wire, caps: g.caps, host: g.cand.host, to: g.cand.to, tls: g.tls, stop: g.stop}, message.Reply{}
	}
	var r *refusal
	if errors.As(err, &r) {
		return nil, r.reply
	}
	return nil, faultReply(err, g.phase)
}

// try makes one connection and greets. On failure it is closed.
func (g *greeting) try(ctx context.Context) error {
	g.phase, g.wire, g.caps, g.tls = message.PhaseConnect, nil, smtp.Capabilities{}, ""
	if err := g.dial(ctx); err != nil {
		return err
	}
	err := g.greet()
	if err != nil {
		g.stop()
		_ = g.wire.conn.Close()
	}
	return err
}

func (g *greeting) greet() error {
	if g.target.TLS == TLSImplicit {
		if err := g.handshake(); err != nil {
			return err
		}
	}
	if err := g.banner(); err != nil {
		return err
	}
	if err := g.hello(); err != nil {
		return err
	}
	if err := g.secure(); err != nil {
		return err
	}
	return g.login()
}

// said is the peer's last reply as a refusal.
func (g *greeting) said() error { return &refusal{g.wire.reply.Keep(g.phase)} }

// ours is a refusal in our own words.
func (g *greeting) ours(code uint16, e message.Enhanced, fault message.Fault, text string) error {
	return &refusal{message.Fail(code, e, g.phase, fault, text)}
}

// quiet fails when the peer has said more than it was asked.
func (g *greeting) quiet() error {
	if g.wire.in.Buffered() > 0 {
		return g.ours(451, enhProtocol, message.FaultProtocol, "the host talks out of turn")
	}
	return nil
}

func (g *greeting) banner() error {
	g.phase = message.PhaseBanner
	if err := g.wire.hear(g.phase, g.times.Banner); err != nil {
		return err
	}
	if g.wire.reply.Code != 220 {
		return g.said()
	}
	return g.quiet()
}

// hello says EHLO, and HELO to a peer that refuses EHLO for good (RFC 5321
// 3.2). HELO brings no extensions, and after STARTTLS none of those offered
// before it count (RFC 3207 4.2).
func (g *greeting) hello() error {
	g.phase = message.PhaseEHLO
	g.caps = smtp.Capabilities{}
	for _, verb := range [...]string{"EHLO", "HELO"} {
		line, err := smtp.AppendHello(nil, verb, g.target.EHLO)
		if err != nil {
			return g.ours(451, enhLocal, message.FaultLocal, "the source's EHLO name is not a host name")
		}
		if err := g.wire.command(string(line), g.phase, g.times.EHLO); err != nil {
			return err
		}
		switch {
		case g.wire.reply.Code == 250:
			if verb == "EHLO" {
				g.caps = smtp.ParseCapabilities(&g.wire.reply)
			}
			return g.quiet()
		case !g.wire.is(5):
			return g.said()
		}
	}
	return g.said()
}

// secure starts TLS where the target wants it. Where TLS is only a wish, a
// refusal of STARTTLS is no harm, and anything that breaks the connection asks
// for a second one in plain (RFC 7435). A peer whose bytes follow its answer to
// STARTTLS gets no second chance: somebody may be in between.
func (g *greeting) secure() error {
	t := g.target
	if t.TLS == TLSNone || t.TLS == TLSImplicit || g.plain {
		return nil
	}
	wish := t.TLS == TLSOpportunistic
	if !g.caps.StartTLS {
		if wish {
			return nil
		}
		g.phase = message.PhaseSTARTTLS
		return g.ours(451, message.Enhanced{Class: 4, Subject: 7, Detail: 4}, message.FaultTLS, "the host does not offer STARTTLS, which is required")
	}
	g.phase = message.PhaseSTARTTLS
	if err := g.wire.command("STARTTLS\r\n", g.phase, g.times.StartTLS); err != nil {
		return g.brokenTLS(err, wish)
	}
	if g.wire.reply.Code != 220 {
		if wish && g.wire.reply.Code != 421 {
			return nil
		}
		return g.said()
	}
	if err := g.quiet(); err != nil {
		return err
	}
	if err := g.handshake(); err != nil {
		return g.brokenTLS(err, wish)
	}
	// In TLS 1.3 the peer may refuse the handshake after we think it is done.
	if err := g.hello(); err != nil {
		var said *refusal
		if errors.As(err, &said) {
			return err
		}
		return g.brokenTLS(err, wish)
	}
	return nil
}

func (g *greeting) brokenTLS(err error, wish bool) error {
	if wish && !errors.Is(err, errStopped) && time.Now().Before(g.limit) {
		return errPlainAgain
	}
	return err
}

// login says AUTH with the route's credentials (RFC 4954).
func (g *greeting) login() error {
	t := g.target
	if t.Username == "" {
		return nil
	}
	g.phase = message.PhaseAuth
	enh := message.Enhanced{Class: 4, Subject: 7, Detail: 0}
	switch {
	case g.tls == "" && !t.AuthPlaintext:
		return g.ours(454, enh, message.FaultTLS, "the route has credentials, which are not sent without TLS")
	case g.caps.AuthPlain:
		g.wire.note("AUTH PLAIN ***")
		g.secret(smtp.AppendAuthPlain(g.wire.buffer(), t.Username, t.Password.Reveal()))
	case g.caps.AuthLogin:
		if err := g.loginSteps(); err != nil {
			return err
		}
	default:
		return g.ours(454, enh, message.FaultProtocol, "the host offers neither AUTH PLAIN nor AUTH LOGIN")
	}
	if err := g.wire.hear(g.phase, g.times.Auth); err != nil {
		return err
	}
	if g.wire.reply.Code != 235 {
		return g.said()
	}
	return g.quiet()
}

// loginSteps says AUTH LOGIN up to the password; its answer is still to come.
func (g *greeting) loginSteps() error {
	if err := g.wire.command("AUTH LOGIN\r\n", g.phase, g.times.Auth); err != nil {
		return err
	}
	if g.wire.reply.Code != 334 {
		return g.said()
	}
	g.wire.note("***")
	g.secret(smtp.AppendAuthAnswer(g.wire.buffer(), g.target.Username))
	if err := g.wire.hear(g.phase, g.times.Auth); err != nil {
		return err
	}
	if g.wire.reply.Code != 334 {
		return g.said()
	}
	g.wire.note("***")
	g.secret(smtp.AppendAuthAnswer(g.wire.buffer(), g.target.Password.Reveal()))
	return nil
}

// secret sends a line that no trace shows.
func (g *greeting) secret(line []byte) {
	g.wire.out = line
	g.wire.flush()
}
