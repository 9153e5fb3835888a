package ingest

import (
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
)

func TestListenerSettings(t *testing.T) {
	l := SMTPListener{Listen: "127.0.0.1:2525"}
	if err := l.Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	for key, change := range map[string]func(*SMTPListener){
		"listen":                     func(l *SMTPListener) { l.Listen = "2525" },
		"tls":                        func(l *SMTPListener) { l.TLS = "yes" },
		"cert_file":                  func(l *SMTPListener) { l.TLS = TLSImplicit },
		"require_tls":                func(l *SMTPListener) { l.RequireTLS = true },
		"hostname":                   func(l *SMTPListener) { l.Hostname = "a b" },
		"banner":                     func(l *SMTPListener) { l.Banner = "hello\r\n250 x" },
		"postmaster":                 func(l *SMTPListener) { l.Postmaster = "nobody" },
		"line_endings":               func(l *SMTPListener) { l.LineEndings = "crlf" },
		"max_message_size":           func(l *SMTPListener) { l.MaxMessageSize = 1000 },
		"max_recipients":             func(l *SMTPListener) { l.MaxRecipients = 99 },
		"max_command_line":           func(l *SMTPListener) { l.MaxCommandLine = 100000 },
		"max_line":                   func(l *SMTPListener) { l.MaxLine = 10 },
		"max_future_release":         func(l *SMTPListener) { l.MaxFutureRelease = policy.Duration(1000 * 24 * time.Hour) },
		"greet_delay":                func(l *SMTPListener) { l.GreetDelay = policy.Duration(time.Hour) },
		"max_connections_per_client": func(l *SMTPListener) { l.MaxConnectionsPerClient = -1 },
	} {
		l := SMTPListener{Listen: "127.0.0.1:2525"}
		change(&l)
		if err := l.Validate(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
}
