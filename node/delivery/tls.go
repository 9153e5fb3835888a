package delivery

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"

	"hikyaku/spool/message"
)

// handshake puts TLS around the connection. It has a deadline of its own: a
// stalled handshake is as broken as a failed one.
func (g *greeting) handshake() error {
	g.phase = message.PhaseTLS
	w := g.wire
	conn := tls.Client(w.conn, g.tlsConfig())
	_ = w.conn.SetDeadline(w.deadline(g.times.Handshake))
	if w.stopped.Load() {
		_ = w.conn.SetDeadline(past)
	}
	if err := conn.Handshake(); err != nil {
		if w.stopped.Load() {
			return errStopped
		}
		return err
	}
	w.secure(conn)
	w.in.Reset(w)
	g.client.count.tls.Add(1)
	state := conn.ConnectionState()
	g.tls = strings.ReplaceAll(tls.VersionName(state.Version), " ", "") + " " + tls.CipherSuiteName(state.CipherSuite)
	if g.verifies() {
		g.tls += " verified"
	}
	return nil
}

func (g *greeting) verifies() bool {
	return g.target.TLS == TLSVerified || g.target.TLS == TLSImplicit
}

// tlsConfig is a configuration for the host. Where TLS is a wish, or any
// certificate will do, nobody is kept from encrypting by an old version or a
// certificate of their own making (RFC 7435); the alternative is plain text.
//
// Sessions are not resumed: a resumption that fails would count as broken TLS
// and cost three days of it, and a connection carries many messages anyway.
func (g *greeting) tlsConfig() *tls.Config {
	c := &tls.Config{RootCAs: g.target.RootCAs, MinVersion: tls.VersionTLS12, ServerName: g.cand.host.Name}
	if g.verifies() {
		return c
	}
	c.InsecureSkipVerify = true //nolint:gosec // any certificate will do here
	c.MinVersion = tls.VersionTLS10
	return c
}

func isTLSError(err error) bool {
	var (
		record  tls.RecordHeaderError
		alert   tls.AlertError
		cert    *tls.CertificateVerificationError
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
	)
	return errors.As(err, &record) || errors.As(err, &alert) || errors.As(err, &cert) ||
		errors.As(err, &unknown) || errors.As(err, &name) || strings.Contains(err.Error(), "tls: ")
}
