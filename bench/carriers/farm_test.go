package carriers_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"hikyaku/bench/carriers"
	"hikyaku/bench/carriers/late"
	"hikyaku/bench/sink"
	"hikyaku/controlplane/manifest"
	"hikyaku/controlplane/policy"
)

func farm(t testing.TB, o carriers.FarmOptions) *carriers.Farm {
	t.Helper()
	f, err := carriers.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func named(t testing.TB, names ...string) []*carriers.Profile {
	t.Helper()
	ps, err := carriers.Named(names...)
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

func custom(t testing.TB, text string) []*carriers.Profile {
	t.Helper()
	ps, err := carriers.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

func ask(t *testing.T, f *carriers.Farm, name, kind string) *wire.Msg {
	t.Helper()
	c := &wire.Client{Timeout: 10 * time.Second}
	r, _, err := c.Exchange(new(wire.Msg).SetQuestion(wire.Fqdn(name), wire.StringToType[kind]), f.DNS)
	if err != nil {
		t.Fatalf("%s %s: %v", name, kind, err)
	}
	return r
}

// TestTheNamesOfAFarm asks with a real resolver library.
func TestTheNamesOfAFarm(t *testing.T) {
	ps, err := carriers.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	f := farm(t, carriers.FarmOptions{Profiles: ps})
	_, network, _ := net.ParseCIDR(carriers.Network)
	addresses := map[string]bool{}
	for _, p := range ps {
		for _, d := range p.Domains {
			r := ask(t, f, strings.Replace(d, "*", "any.where", 1), "MX")
			if len(r.Answer) != len(p.MX) {
				t.Fatalf("%s has %d MX records, want %d", d, len(r.Answer), len(p.MX))
			}
			for i, h := range p.MX {
				mx := r.Answer[i].(*wire.MX)
				if mx.Mx != h.Name+"." || int(mx.Preference) != h.Preference {
					t.Errorf("%s: %v, want %+v", d, mx, h)
				}
			}
		}
		for _, h := range p.MX {
			r := ask(t, f, h.Name, "A")
			if len(r.Answer) != max(1, h.Addresses) {
				t.Errorf("%s has %d addresses", h.Name, len(r.Answer))
			}
			for _, rr := range r.Answer {
				a := rr.(*wire.A).A
				if !network.Contains(a) || p.Dead == "" && addresses[a.String()] {
					t.Errorf("%s has %s", h.Name, a)
				}
				addresses[a.String()] = true
			}
		}
	}
	if r := ask(t, f, carriers.NameNullMX, "MX"); len(r.Answer) != 1 || r.Answer[0].(*wire.MX).Mx != "." {
		t.Errorf("null MX: %v", r)
	}
	if r := ask(t, f, carriers.NameNowhere, "MX"); r.Rcode != wire.RcodeNameError {
		t.Errorf("NXDOMAIN: %v", r)
	}
	if r := ask(t, f, carriers.NameServFail, "MX"); r.Rcode != wire.RcodeServerFailure {
		t.Errorf("SERVFAIL: %v", r)
	}
	begin := time.Now()
	if r := ask(t, f, carriers.NameSlow, "MX"); len(r.Answer) == 0 || time.Since(begin) < carriers.SlowAnswer {
		t.Errorf("slow: %v after %s", r, time.Since(begin))
	}
	if r := ask(t, f, "_mta-sts.gmail.test", "TXT"); len(r.Answer) != 1 {
		t.Errorf("MTA-STS: %v", r)
	}
	if r := ask(t, f, "_25._tcp.mx00.gmx.test", "TLSA"); len(r.Answer) != 1 {
		t.Errorf("TLSA: %v", r)
	}
	if f.Carrier("x.Sink.test") != "sink" || f.Carrier("sink.test") != "sink" || f.Carrier("gmail.com") != "" {
		t.Error("a domain's carrier is not found")
	}
}

// dial connects from a source address, as the product does.
func dial(t testing.TB, source, to string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: 5 * time.Second}
	c, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestMailToAFarm speaks SMTP over TLS to a carrier, from two sources.
func TestMailToAFarm(t *testing.T) {
	var mu sync.Mutex
	var got []string
	f := farm(t, carriers.FarmOptions{
		Profiles: named(t, "gmail"),
		Want:     func(r *sink.Received) bool { return strings.HasPrefix(r.To[0], "keep") },
		OnReceived: func(a *carriers.Arrival) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprintf("%s %s %s→%s %t %d", a.Carrier, a.Source, a.From, a.To, bytes.Contains(a.Data, []byte("Hello")), a.Size))
		},
	})
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(f.Authority()) {
		t.Fatal("the authority's certificate is not readable")
	}
	host := "gmail-smtp-in.l.google.test"
	taken := func(prefix string) string { // an address whose mail simply arrives
		for i := 0; ; i++ {
			a := fmt.Sprintf("%s%d@gmail.test", prefix, i)
			if _, special := f.FateOf(a); !special {
				return a
			}
		}
	}
	keep, drop := taken("keep"), taken("drop")
	for i, to := range []string{keep, drop} {
		c, err := smtp.NewClient(dial(t, carriers.SourceAddress(i), f.Hosts("gmail")[i]), host)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Mail("a@shop.test"); err == nil || !strings.Contains(err.Error(), "TLS required") {
			t.Fatalf("in plain: %v", err)
		}
		c, err = smtp.NewClient(dial(t, carriers.SourceAddress(i), f.Hosts("gmail")[i]), host)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.StartTLS(&tls.Config{ServerName: host, RootCAs: pool}); err != nil {
			t.Fatal(err)
		}
		w := func(step string, err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s: %v", step, err)
			}
		}
		w("MAIL", c.Mail("a@shop.test"))
		w("RCPT", c.Rcpt(to))
		body, err := c.Data()
		w("DATA", err)
		_, err = body.Write([]byte("Hello\r\n"))
		w("content", err)
		w("dot", body.Close())
		w("QUIT", c.Quit())
	}
	want := []string{
		"gmail 127.0.8.1 a@shop.test→[" + keep + "] true 7",
		"gmail 127.0.8.2 a@shop.test→[" + drop + "] false 7",
	}
	mu.Lock()
	defer mu.Unlock()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	m := f.Metrics()[0]
	if m.Delivered != 2 || m.Connected != 4 || m.Deferred != 2 || m.Violations != 0 {
		t.Errorf("metrics %+v", m)
	}
	s := f.Snapshot()[0]
	if n := len(s.Series.At); n == 0 || s.Series.Delivered[n-1] != 2 {
		t.Errorf("series %+v", s.Series)
	}
}

const narrow = `name: narrow
description: a model for tests
based_on: [tests]
domains: [narrow.test]
mx: [{name: mx.narrow.test}]
per_source: {connections: 1, rate: "5/s,burst=2"}
over: {connections: {reset: true}, rate: {reply: "421 too fast"}}
latency: {dot: {median: 200ms}}
`

// TestAConnectionThatHasEndedIsNotCounted: a sender that closes one connection
// and opens the next at once is within its limit of one, although the first
// has unread commands in the way of its FIN; one that does not close is not.
func TestAConnectionThatHasEndedIsNotCounted(t *testing.T) {
	f := farm(t, carriers.FarmOptions{Profiles: custom(t, strings.Replace(narrow, "per_source: {connections: 1, rate: \"5/s,burst=2\"}", "per_source: {connections: 1}", 1))})
	to := f.Hosts("narrow")[0]
	banner := func(c net.Conn) error {
		line, err := textproto.NewConn(c).ReadLine()
		if err == nil && !strings.HasPrefix(line, "220 ") {
			return errors.New(line)
		}
		return err
	}
	for i := range 20 {
		c := dial(t, "127.0.8.1", to)
		if err := banner(c); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		// The end of data is held back for 200 ms, and the close comes meanwhile.
		fmt.Fprintf(c, "EHLO a.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<r@narrow.test>\r\nDATA\r\n")
		fmt.Fprintf(c, "x\r\n.\r\nNOOP\r\n")
		c.Close()
	}
	if n := f.Violations(); n != 0 {
		t.Fatalf("%d violations: %+v", n, f.Snapshot()[0].Violations)
	}
	if err := banner(dial(t, "127.0.8.1", to)); err != nil {
		t.Fatal(err)
	}
	if err := banner(dial(t, "127.0.8.1", to)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a second connection at once: %v, want a reset", err)
	}
	v := f.Snapshot()[0].Violations
	if len(v) != 1 || v[0].Limit != "per_source.connections" || v[0].Source != "127.0.8.1" || v[0].By() != 1 {
		t.Errorf("violations %+v", v)
	}
}

// TestDeadHosts: one kind refuses, the other does not answer at all.
func TestDeadHosts(t *testing.T) {
	ps := named(t, "dead-host", "dead-host")
	refused := *ps[0]
	refused.Name, refused.Dead, refused.Domains, refused.MX = "refused", "refused", []string{"refused.test"}, []carriers.Host{{Name: "mx.refused.test"}}
	f := farm(t, carriers.FarmOptions{Profiles: []*carriers.Profile{ps[0], &refused}})
	try := func(carrier string) error {
		c, err := net.DialTimeout("tcp", f.Hosts(carrier)[0], 300*time.Millisecond)
		if err == nil {
			c.Close()
		}
		return err
	}
	for range 5 {
		var timeout net.Error
		if err := try("dead-host"); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("silent: %v, want a timeout", err)
		}
		if err := try("refused"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("refused: %v", err)
		}
	}
}

// TestLateNotices: a bounce and a complaint come back by SMTP, as what RFC 3464
// and RFC 5965 say they are.
func TestLateNotices(t *testing.T) {
	type letter struct {
		from, to string
		data     []byte
	}
	letters := make(chan letter, 4)
	back, err := sink.Start(sink.Options{Message: func(r *sink.Received) string {
		letters <- letter{r.From, r.To[0], bytes.Clone(r.Data)}
		return ""
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	f := farm(t, carriers.FarmOptions{
		Profiles: custom(t, `name: late
description: a model for tests
based_on: [tests]
domains: [late.test]
mx: [{name: mx.late.test}]
recipients:
  - {kind: bounce, share: 0.5, after: {median: 10ms}, status: 5.2.2, reply: "The user(s) account is temporarily over quota."}
  - {kind: complaint, share: 0.5, after: {median: 10ms}}
`),
		Notices: late.Options{SMTP: back.Addr, Complaints: "fbl@shop.test"},
	})
	sendTo := map[string]string{} // kind → address
	for i := 0; len(sendTo) < 2; i++ {
		a := fmt.Sprintf("r%d@late.test", i)
		fate, _ := f.FateOf(a)
		sendTo[fate.Kind] = a
	}
	for _, to := range sendTo {
		if err := smtp.SendMail(f.Hosts("late")[0], nil, "bounces+42@shop.test", []string{to}, []byte("Subject: x\r\n\r\nx\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		var l letter
		select {
		case l = <-letters:
		case <-time.After(10 * time.Second):
			t.Fatalf("no notice came: %+v", f.Notices())
		}
		parts := reportParts(t, l.data)
		switch kind := parts["kind"]; {
		case l.from != "":
			t.Errorf("a notice from %q, want the null sender", l.from)
		case kind == "delivery-status" && l.to == "bounces+42@shop.test":
			fields := header(t, strings.SplitN(parts["message/delivery-status"], "\r\n\r\n", 2)[1])
			if fields.Get("Final-Recipient") != "rfc822; "+sendTo["bounce"] || fields.Get("Status") != "5.2.2" || fields.Get("Action") != "failed" {
				t.Errorf("status: %v", fields)
			}
		case kind == "feedback-report" && l.to == "fbl@shop.test":
			fields := header(t, parts["message/feedback-report"])
			if fields.Get("Feedback-Type") != "abuse" || fields.Get("Original-Mail-From") != "<bounces+42@shop.test>" || fields.Get("Original-Rcpt-To") != "<"+sendTo["complaint"]+">" {
				t.Errorf("feedback: %v", fields)
			}
		default:
			t.Errorf("a %s to %s", kind, l.to)
		}
	}
	// What cannot be sent back is counted: RFC 5321 4.5.5.
	if err := smtp.SendMail(f.Hosts("late")[0], nil, "", []string{sendTo["bounce"]}, []byte("x\r\n")); err != nil {
		t.Fatal(err)
	}
	if n := f.Notices(); n.Lost != 1 {
		t.Errorf("notices %+v, want one lost", n)
	}
}

func header(t *testing.T, text string) textproto.MIMEHeader {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text + "\r\n\r\n"))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return textproto.MIMEHeader(m.Header)
}

// reportParts reads a multipart/report with the standard library.
func reportParts(t *testing.T, data []byte) map[string]string {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Header.Date(); err != nil {
		t.Errorf("date: %v", err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" {
		t.Fatalf("%s, %v", kind, err)
	}
	parts := map[string]string{"kind": params["report-type"]}
	r := multipart.NewReader(m.Body, params["boundary"])
	for {
		p, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := mime.ParseMediaType(p.Header.Get("Content-Type"))
		parts[kind] = string(b)
	}
	if len(parts) != 4 {
		t.Errorf("%d parts, want text, report and original", len(parts)-1)
	}
	return parts
}

// TestPolicyIsValid: what is written is what the product reads, and the limits
// are those of the profiles.
func TestPolicyIsValid(t *testing.T) {
	ps, err := carriers.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	f := farm(t, carriers.FarmOptions{Profiles: ps})
	for _, o := range []carriers.PolicyOptions{{}, {Sources: 300, FirstSource: 100, Nodes: 4, Retry: []policy.Duration{policy.Duration(time.Second)}, Connections: 30}} {
		text, err := f.Policy(o)
		if err != nil {
			t.Fatal(err)
		}
		file, err := manifest.Parse("policy.yaml", text)
		if err != nil {
			t.Fatal(err)
		}
		set, problems := policy.New(file.Resources)
		if len(problems) > 0 {
			t.Fatal(file.Locate(problems))
		}
		for _, p := range ps {
			c := set.Carriers[p.Name]
			if c == nil {
				t.Fatalf("no carrier %s", p.Name)
			}
			if p.PerSource.Rate != nil && *c.PerSource.Rate != *p.PerSource.Rate {
				t.Errorf("%s: rate %v of each source, the profile has %v", p.Name, c.PerSource.Rate, p.PerSource.Rate)
			}
			if n := int64(max(1, o.Nodes)); p.Limits.Rate != nil && (c.Limits.Rate.N*n > p.Limits.Rate.N || c.Limits.Rate.Burst*n > p.Limits.Rate.BurstOrDefault()) {
				t.Errorf("%s: %d nodes of %v each exceed %v", p.Name, n, c.Limits.Rate, p.Limits.Rate)
			}
		}
	}
	if _, err := f.Policy(carriers.PolicyOptions{Sources: 100_000}); err == nil {
		t.Error("more sources than there are addresses")
	}
}

func TestStartRefusesWhatCannotBe(t *testing.T) {
	ps := named(t, "sink")
	if _, err := carriers.Start(context.Background(), carriers.FarmOptions{}); err == nil {
		t.Error("a farm of nothing")
	}
	if _, err := carriers.Start(context.Background(), carriers.FarmOptions{Profiles: append(ps, ps...)}); err == nil || !strings.Contains(err.Error(), "belongs to") {
		t.Errorf("one carrier twice: %v", err)
	}
	f := farm(t, carriers.FarmOptions{Profiles: ps})
	if _, err := carriers.Start(context.Background(), carriers.FarmOptions{Profiles: ps, Port: f.Port}); err == nil {
		t.Error("two farms on one port")
	}
}

// BenchmarkSink is the fast path: one connection, pipelined messages of 4 KiB
// to the carrier that says yes to everything, and to one with rules that allow
// as much. Client and carrier share the process, so the carrier itself is
// faster than this.
func BenchmarkSink(b *testing.B) {
	ps := named(b, "sink")
	ruled := *ps[0]
	ruled.Name, ruled.Domains, ruled.MX = "ruled", []string{"ruled.test"}, []carriers.Host{{Name: "mx.ruled.test"}}
	ruled.PerSource.Rate, ruled.PerSource.Connections = &policy.Rate{N: 900_000, Per: time.Second, Burst: 1_000_000}, 100
	f := farm(b, carriers.FarmOptions{Profiles: append(ps, &ruled), OnReceived: func(*carriers.Arrival) {}})
	for _, name := range []string{"sink", "ruled"} {
		b.Run(name, func(b *testing.B) {
			c := dial(b, "127.0.8.1", f.Hosts(name)[0])
			go io.Copy(io.Discard, c) // ends with the connection
			const batch = 8
			message := []byte("MAIL FROM:<a@b.test>\r\nRCPT TO:<r1@sink.test>\r\nDATA\r\n" + strings.Repeat(strings.Repeat("x", 78)+"\r\n", 51) + ".\r\n")
			if _, err := io.WriteString(c, "EHLO a.test\r\n"); err != nil {
				b.Fatal(err)
			}
			group := bytes.Repeat(message, batch)
			before := delivered(f, name)
			b.ResetTimer()
			for i := 0; i < b.N; i += batch {
				if _, err := c.Write(group); err != nil {
					b.Fatal(err)
				}
			}
			for delivered(f, name)-before < int64(b.N) {
				<-time.After(time.Millisecond)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

func delivered(f *carriers.Farm, name string) int64 {
	for _, m := range f.Metrics() {
		if m.Carrier == name {
			return m.Delivered
		}
	}
	return 0
}
