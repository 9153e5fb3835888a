package ingest

import (
	"errors"
	"fmt"
	"net"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/smtp"
	"hikyaku/spool/message"
)

// HTTPListener is the port of the injection API. The zero value of a field is
// its default.
type HTTPListener struct {
	// Listen is the address and port, as "127.0.0.1:8025".
	Listen string `json:"listen"`
	// OpenNetworks may submit without a key. They count as the tenant whose networks hold them, else as the default tenant.
	OpenNetworks []policy.Network `json:"open_networks,omitempty"`
	// CertFile holds the certificate chain in PEM and switches TLS on. It is read again when it changes.
	CertFile string `json:"cert_file,omitempty"`
	// KeyFile holds the private key in PEM.
	KeyFile string `json:"key_file,omitempty"`
	// Hostname stands in Message-IDs and in the Received header. Default: the node's host name.
	Hostname string `json:"hostname,omitempty"`

	// MaxBodyBytes bounds a request's body as it is sent, so compressed if it is. Default 33554432 (32 MiB).
	MaxBodyBytes int `json:"max_body_bytes,omitempty"`
	// MaxDecompressedBytes bounds a request's body when unpacked. Default 67108864 (64 MiB).
	MaxDecompressedBytes int `json:"max_decompressed_bytes,omitempty"`
	// MaxBodyMemory bounds the memory lent to bodies that are coming in, over all connections; beyond it 503. Default 536870912 (512 MiB).
	MaxBodyMemory int64 `json:"max_body_memory,omitempty"`
	// MaxRecipients bounds the recipients of one request. Default 10000.
	MaxRecipients int `json:"max_recipients,omitempty"`
	// MaxConnections bounds open connections. Default 2000.
	MaxConnections int `json:"max_connections,omitempty"`
	// MaxConnectionsPerClient bounds them for each address (IPv6: each /64). Default 200.
	MaxConnectionsPerClient int `json:"max_connections_per_client,omitempty"`
	// MaxRequestsPerConnection closes a connection after this many requests. Default 100000.
	MaxRequestsPerConnection int `json:"max_requests_per_connection,omitempty"`
	// MaxHeaderBytes bounds request line and headers together. Default 16384.
	MaxHeaderBytes int `json:"max_header_bytes,omitempty"`
	// MaxAuthFailuresPerClient refuses an address (IPv6: a /64) after this many bad keys within ten minutes. Default 100.
	MaxAuthFailuresPerClient int `json:"max_auth_failures_per_client,omitempty"`
	// MaxSendAhead bounds send_at. Default 30d.
	MaxSendAhead policy.Duration `json:"max_send_ahead,omitempty"`
	// IdempotencyRetention is how long an Idempotency-Key is remembered. Default 24h.
	IdempotencyRetention policy.Duration `json:"idempotency_retention,omitempty"`
	// Timeouts bound each phase.
	Timeouts HTTPTimeouts `json:"timeouts,omitzero"`
}

// HTTPTimeouts bound the phases of a request. Each is for the whole phase, not
// for one read, so trickling does not stretch it.
type HTTPTimeouts struct {
	// Header is the wait for the whole header, and for the TLS handshake. Default 10s.
	Header policy.Duration `json:"header,omitempty"`
	// Body is the wait for the whole body. Default 2m.
	Body policy.Duration `json:"body,omitempty"`
	// Accept bounds storing a message; beyond it the outcome is unknown and the answer 503. Default 30s.
	Accept policy.Duration `json:"accept,omitempty"`
	// Write is the wait for the client to take the answer. Default 30s.
	Write policy.Duration `json:"write,omitempty"`
	// Idle closes a connection without a request. Default 60s.
	Idle policy.Duration `json:"idle,omitempty"`
}

// withDefaults fills in what is zero. hostname is the node's.
func (l HTTPListener) withDefaults(hostname string) HTTPListener {
	orDefault(&l.Hostname, hostname)
	orDefault(&l.MaxBodyBytes, 32<<20)
	orDefault(&l.MaxDecompressedBytes, 64<<20)
	orDefault(&l.MaxBodyMemory, 512<<20)
	orDefault(&l.MaxRecipients, 10_000)
	orDefault(&l.MaxConnections, 2000)
	orDefault(&l.MaxConnectionsPerClient, 200)
	orDefault(&l.MaxRequestsPerConnection, 100_000)
	orDefault(&l.MaxHeaderBytes, 16<<10)
	orDefault(&l.MaxAuthFailuresPerClient, 100)
	orDefault(&l.MaxSendAhead, policy.Duration(30*24*time.Hour))
	orDefault(&l.IdempotencyRetention, policy.Duration(24*time.Hour))
	t := &l.Timeouts
	orDefault(&t.Header, policy.Duration(10*time.Second))
	orDefault(&t.Body, policy.Duration(2*time.Minute))
	orDefault(&t.Accept, policy.Duration(30*time.Second))
	orDefault(&t.Write, policy.Duration(30*time.Second))
	orDefault(&t.Idle, policy.Duration(time.Minute))
	return l
}

// Validate says everything that is wrong with the listener's settings, each
// under its key.
func (l *HTTPListener) Validate() error {
	d := l.withDefaults("localhost.localdomain")
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	_, _, err := net.SplitHostPort(d.Listen)
	bad(err == nil, "listen %q: want address:port, as in 127.0.0.1:8025", d.Listen)
	bad((d.CertFile == "") == (d.KeyFile == ""), "cert_file and key_file: give both or none")
	bad(smtp.CheckMailbox("x@"+d.Hostname) == nil && d.Hostname[0] != '[' && isASCII(d.Hostname), "hostname %q: want a domain name", d.Hostname)
	for _, n := range []struct {
		key            string
		v, least, most int64
	}{
		{"max_body_bytes", int64(d.MaxBodyBytes), 64 << 10, 1 << 30},
		{"max_decompressed_bytes", int64(d.MaxDecompressedBytes), 64 << 10, 1 << 30},
		{"max_body_memory", d.MaxBodyMemory, int64(d.MaxBodyBytes), 1 << 40},
		{"max_recipients", int64(d.MaxRecipients), 1, message.MaxDeliveries - 1},
		{"max_connections", int64(d.MaxConnections), 1, 1 << 20},
		{"max_connections_per_client", int64(d.MaxConnectionsPerClient), 1, 1 << 20},
		{"max_requests_per_connection", int64(d.MaxRequestsPerConnection), 1, 1 << 30},
		{"max_header_bytes", int64(d.MaxHeaderBytes), 4096, 1 << 20},
		{"max_auth_failures_per_client", int64(d.MaxAuthFailuresPerClient), 1, 1 << 20},
	} {
		bad(n.v >= n.least && n.v <= n.most, "%s %d: want %d to %d", n.key, n.v, n.least, n.most)
	}
	for _, n := range []struct {
		key  string
		v    policy.Duration
		most time.Duration
	}{
		{"max_send_ahead", d.MaxSendAhead, 365 * 24 * time.Hour},
		{"idempotency_retention", d.IdempotencyRetention, 30 * 24 * time.Hour},
		{"timeouts.header", d.Timeouts.Header, time.Hour}, {"timeouts.body", d.Timeouts.Body, time.Hour},
		{"timeouts.accept", d.Timeouts.Accept, time.Hour}, {"timeouts.write", d.Timeouts.Write, time.Hour},
		{"timeouts.idle", d.Timeouts.Idle, time.Hour},
	} {
		bad(n.v.D() <= n.most, "%s %s: want at most %s", n.key, n.v, policy.Duration(n.most))
	}
	return errors.Join(errs...)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
