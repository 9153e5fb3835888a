package ingest

import (
	"errors"
	"fmt"
	"net"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/smtp"
)

// SMTPListener is one SMTP port. The zero value of a field is its default.
type SMTPListener struct {
	// Listen is the address and port, as "127.0.0.1:2525" or "[::]:587".
	Listen string `json:"listen"`
	// TLS is none, starttls or implicit (TLS from the first byte, RFC 8314). Default starttls when a certificate is given, else none.
	TLS string `json:"tls,omitempty"`
	// CertFile holds the certificate chain in PEM. It is read again when it changes.
	CertFile string `json:"cert_file,omitempty"`
	// KeyFile holds the private key in PEM.
	KeyFile string `json:"key_file,omitempty"`
	// Hostname is the name in the banner, in EHLO's reply and in the Received header. Default: the node's host name.
	Hostname string `json:"hostname,omitempty"`
	// Banner is the text of the greeting after the host name. Default "ESMTP".
	Banner string `json:"banner,omitempty"`
	// Postmaster receives mail for <postmaster> without a domain. Default postmaster@ the host name.
	Postmaster string `json:"postmaster,omitempty"`

	// RelayNetworks may send without a login. They count as the tenant whose networks hold them, else as the default tenant.
	RelayNetworks []policy.Network `json:"relay_networks,omitempty"`
	// AuthPlaintextNetworks may log in without TLS. Default none.
	AuthPlaintextNetworks []policy.Network `json:"auth_plaintext_networks,omitempty"`
	// XCLIENTNetworks are proxies that may name the client with XCLIENT.
	XCLIENTNetworks []policy.Network `json:"xclient_networks,omitempty"`
	// ProxyNetworks are load balancers that begin each connection with a PROXY header, version 1 or 2. From them it is required; from others it is refused.
	ProxyNetworks []policy.Network `json:"proxy_networks,omitempty"`
	// RequireTLS refuses MAIL and AUTH on connections without TLS.
	RequireTLS bool `json:"require_tls,omitempty"`
	// RequireAuth refuses MAIL without a login, from any network.
	RequireAuth bool `json:"require_auth,omitempty"`

	// LineEndings says what becomes of a bare CR, bare LF, NUL or over-long line in content: reject (the default) or normalize (repair before anything else sees it).
	LineEndings string `json:"line_endings,omitempty"`
	// AddMissingHeaders adds Date and Message-ID where authenticated clients leave them out (RFC 6409 8). Default true.
	AddMissingHeaders *bool `json:"add_missing_headers,omitempty"`
	// IgnoreControlHeaders removes X-Hikyaku-* headers without obeying them: for listeners that take mail written by strangers.
	IgnoreControlHeaders bool `json:"ignore_control_headers,omitempty"`

	// MaxMessageSize bounds content in bytes. Default 52428800 (50 MiB).
	MaxMessageSize int `json:"max_message_size,omitempty"`
	// MaxRecipients bounds recipients of a message; beyond it 452 4.5.3. At least 100. Default 1000.
	MaxRecipients int `json:"max_recipients,omitempty"`
	// MaxErrors closes a connection after this many refused commands in a row without a message between. Default 20.
	MaxErrors int `json:"max_errors,omitempty"`
	// MaxConnections bounds open connections of this listener. Default 2000.
	MaxConnections int `json:"max_connections,omitempty"`
	// MaxConnectionsPerClient bounds them for each address (IPv6: each /64). Default 500.
	MaxConnectionsPerClient int `json:"max_connections_per_client,omitempty"`
	// MaxMessagesPerConnection bounds MAIL commands of a connection. Default 10000.
	MaxMessagesPerConnection int `json:"max_messages_per_connection,omitempty"`
	// MaxAuthFailures closes a connection after this many failed logins. Default 3.
	MaxAuthFailures int `json:"max_auth_failures,omitempty"`
	// MaxAuthFailuresPerClient refuses logins from an address (IPv6: a /64) after this many failures within ten minutes. Default 30.
	MaxAuthFailuresPerClient int `json:"max_auth_failures_per_client,omitempty"`
	// MaxCommandLine bounds MAIL and RCPT lines in bytes; AUTH and XCLIENT may have 12288 (RFC 4954 4), all others 512 (RFC 5321 4.5.3.1.4). Default 2048.
	MaxCommandLine int `json:"max_command_line,omitempty"`
	// MaxLine bounds a line of content in bytes without its CRLF. Default 998 (RFC 5322 2.1.1).
	MaxLine int `json:"max_line,omitempty"`
	// MaxHeaderBytes bounds the header section. Default 262144.
	MaxHeaderBytes int `json:"max_header_bytes,omitempty"`
	// MaxHeaders bounds the number of header fields. Default 1000.
	MaxHeaders int `json:"max_headers,omitempty"`
	// MaxReceived refuses messages with more Received headers as looping (554 5.4.6). Default 50.
	MaxReceived int `json:"max_received,omitempty"`
	// MaxReceivedHere refuses messages that passed this host name this often. Default 5.
	MaxReceivedHere int `json:"max_received_here,omitempty"`
	// MaxFutureRelease bounds HOLDFOR, HOLDUNTIL and X-Hikyaku-Send-At. Default 30d.
	MaxFutureRelease policy.Duration `json:"max_future_release,omitempty"`
	// MinDataRate is the least speed of content in bytes per second, after a grace of 30 s. Default 256.
	MinDataRate int `json:"min_data_rate,omitempty"`
	// GreetDelay waits this long before the banner and refuses clients that speak first. 0 looks once without waiting.
	GreetDelay policy.Duration `json:"greet_delay,omitempty"`
	// AuthFailureDelay holds back the reply to a failed login. Default 1s.
	AuthFailureDelay policy.Duration `json:"auth_failure_delay,omitempty"`
	// Timeouts bound each phase.
	Timeouts SMTPTimeouts `json:"timeouts,omitzero"`
}

// SMTPTimeouts bound the phases of a connection. RFC 5321 4.5.3.2.7 asks a
// server to wait at least 5 minutes for a command.
type SMTPTimeouts struct {
	// Command is the wait for one whole command line, and for each line of a login. Default 5m.
	Command policy.Duration `json:"command,omitempty"`
	// Data is the wait for more content. Default 5m.
	Data policy.Duration `json:"data,omitempty"`
	// Message bounds the content of one message from 354 to its end. Default 30m.
	Message policy.Duration `json:"message,omitempty"`
	// Handshake bounds the TLS handshake and the PROXY header. Default 30s.
	Handshake policy.Duration `json:"handshake,omitempty"`
	// Write is the wait for the client to take replies. Default 2m.
	Write policy.Duration `json:"write,omitempty"`
	// Connection bounds a whole connection between messages; it then ends with 421. Default 24h.
	Connection policy.Duration `json:"connection,omitempty"`
}

// The values of SMTPListener.TLS and LineEndings.
const (
	TLSNone     = "none"
	TLSStartTLS = "starttls"
	TLSImplicit = "implicit"

	LinesReject    = "reject"
	LinesNormalize = "normalize"
)

// rateGrace is how long content may be slower than MinDataRate.
const rateGrace = 30 * time.Second

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// withDefaults fills in what is zero. hostname is the node's.
func (l SMTPListener) withDefaults(hostname string) SMTPListener {
	if l.TLS == "" {
		l.TLS = TLSNone
		if l.CertFile != "" {
			l.TLS = TLSStartTLS
		}
	}
	orDefault(&l.Hostname, hostname)
	orDefault(&l.Banner, "ESMTP")
	orDefault(&l.Postmaster, "postmaster@"+l.Hostname)
	orDefault(&l.LineEndings, LinesReject)
	if l.AddMissingHeaders == nil {
		yes := true
		l.AddMissingHeaders = &yes
	}
	orDefault(&l.MaxMessageSize, 50<<20)
	orDefault(&l.MaxRecipients, 1000)
	orDefault(&l.MaxErrors, 20)
	orDefault(&l.MaxConnections, 2000)
	orDefault(&l.MaxConnectionsPerClient, 500)
	orDefault(&l.MaxMessagesPerConnection, 10000)
	orDefault(&l.MaxAuthFailures, 3)
	orDefault(&l.MaxAuthFailuresPerClient, 30)
	orDefault(&l.MaxCommandLine, 2048)
	orDefault(&l.MaxLine, 998)
	orDefault(&l.MaxHeaderBytes, 256<<10)
	orDefault(&l.MaxHeaders, 1000)
	orDefault(&l.MaxReceived, 50)
	orDefault(&l.MaxReceivedHere, 5)
	orDefault(&l.MaxFutureRelease, policy.Duration(30*24*time.Hour))
	orDefault(&l.MinDataRate, 256)
	orDefault(&l.AuthFailureDelay, policy.Duration(time.Second))
	t := &l.Timeouts
	orDefault(&t.Command, policy.Duration(5*time.Minute))
	orDefault(&t.Data, policy.Duration(5*time.Minute))
	orDefault(&t.Message, policy.Duration(30*time.Minute))
	orDefault(&t.Handshake, policy.Duration(30*time.Second))
	orDefault(&t.Write, policy.Duration(2*time.Minute))
	orDefault(&t.Connection, policy.Duration(24*time.Hour))
	return l
}

// Validate says everything that is wrong with the listener's settings, each
// under its key.
func (l *SMTPListener) Validate() error {
	d := l.withDefaults("localhost.localdomain")
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	_, _, err := net.SplitHostPort(d.Listen)
	bad(err == nil, "listen %q: want address:port, as in 127.0.0.1:2525", d.Listen)
	bad(d.TLS == TLSNone || d.TLS == TLSStartTLS || d.TLS == TLSImplicit, "tls %q: want none, starttls or implicit", d.TLS)
	bad(d.TLS == TLSNone || (d.CertFile != "" && d.KeyFile != ""), "tls %s: needs cert_file and key_file", d.TLS)
	bad((d.CertFile == "") == (d.KeyFile == ""), "cert_file and key_file: give both or none")
	bad(!d.RequireTLS || d.TLS != TLSNone, "require_tls: needs tls starttls or implicit")
	_, serr := smtp.ParseHello([]byte(d.Hostname))
	bad(serr == nil, "hostname %q: want a domain name", d.Hostname)
	bad(len(d.Banner) <= 200 && printable(d.Banner), "banner: want at most 200 printable ASCII characters")
	bad(smtp.CheckMailbox(d.Postmaster) == nil, "postmaster %q: want local@domain", d.Postmaster)
	bad(d.LineEndings == LinesReject || d.LineEndings == LinesNormalize, "line_endings %q: want reject or normalize", d.LineEndings)
	for _, n := range []struct {
		key            string
		v, least, most int
	}{
		{"max_message_size", d.MaxMessageSize, 64 << 10, 1 << 30}, // RFC 5321 4.5.3.1.7: at least 64K
		{"max_recipients", d.MaxRecipients, 100, 60000},           // RFC 5321 4.5.3.1.8: at least 100
		{"max_errors", d.MaxErrors, 1, 1 << 20},
		{"max_connections", d.MaxConnections, 1, 1 << 20},
		{"max_connections_per_client", d.MaxConnectionsPerClient, 1, 1 << 20},
		{"max_messages_per_connection", d.MaxMessagesPerConnection, 1, 1 << 30},
		{"max_auth_failures", d.MaxAuthFailures, 1, 100},
		{"max_auth_failures_per_client", d.MaxAuthFailuresPerClient, 1, 1 << 20},
		{"max_command_line", d.MaxCommandLine, 512, maxInputLine},
		{"max_line", d.MaxLine, 78, 1 << 20},
		{"max_header_bytes", d.MaxHeaderBytes, 4096, 64 << 20},
		{"max_headers", d.MaxHeaders, 20, 100000},
		{"max_received", d.MaxReceived, 1, 1000},
		{"max_received_here", d.MaxReceivedHere, 1, 1000},
		{"min_data_rate", d.MinDataRate, 1, 1 << 30},
	} {
		bad(n.v >= n.least && n.v <= n.most, "%s %d: want %d to %d", n.key, n.v, n.least, n.most)
	}
	bad(d.MaxFutureRelease.D() <= 365*24*time.Hour, "max_future_release %s: want at most 365d", d.MaxFutureRelease)
	bad(d.GreetDelay.D() <= time.Minute, "greet_delay %s: want at most 1m", d.GreetDelay)
	bad(d.AuthFailureDelay.D() <= time.Minute, "auth_failure_delay %s: want at most 1m", d.AuthFailureDelay)
	return errors.Join(errs...)
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
