package feedback_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	receiver "hikyaku/node/feedback"
	"hikyaku/reputation/feedback"
	"hikyaku/spool/message"
)

var (
	noon   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	client = netip.MustParseAddr("192.0.2.7")
)

// desk is a receiver with what it handed on.
type desk struct {
	*receiver.Receiver
	keys *feedback.Keys
	now  time.Time
	set  *policy.Set
	fail error
	// takenBack: what was unsubscribed is wanted again, by somebody's hand.
	takenBack bool
	mu        struct {
		sync.Mutex
		got []receiver.Feedback
	}
}

func newDesk(t *testing.T, change func(*receiver.Options)) *desk {
	t.Helper()
	keys, err := feedback.NewKeys([]byte(strings.Repeat("k", feedback.KeyBytes)))
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{keys: keys, now: noon, set: &policy.Set{Tenants: map[string]*policy.Tenant{
		"acme":  {ReturnPath: "rp.acme.example", UnsubscribeURL: "https://u.acme.example/off"},
		"other": {ReturnPath: "rp.other.example"},
	}}}
	o := receiver.Options{Keys: keys, Policy: func() *policy.Set { return d.set }, Addresses: []string{"fbl@loops.example"}, Now: func() time.Time { return d.now },
		Handle: func(_ context.Context, f *receiver.Feedback) error {
			if d.fail != nil {
				return d.fail
			}
			if f.Again && !d.takenBack {
				return receiver.ErrSaidBefore
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			d.mu.got = append(d.mu.got, *f)
			return nil
		}}
	if change != nil {
		change(&o)
	}
	if d.Receiver, err = receiver.New(o); err != nil {
		t.Fatal(err)
	}
	return d
}

// took are the pieces of news since the last call.
func (d *desk) took() []receiver.Feedback {
	d.mu.Lock()
	defer d.mu.Unlock()
	got := d.mu.got
	d.mu.got = nil
	return got
}

// sent is what was sent to a recipient.
func (d *desk) sent(recipient string) *feedback.Subject {
	var ids message.IDs
	return &feedback.Subject{Delivery: message.DeliveryID{Message: ids.New(noon.Add(-time.Hour)), Index: 3}, Tenant: "acme", Stream: "news", Recipient: recipient, Issued: noon}
}

func (d *desk) returnPath(s *feedback.Subject) string {
	return d.keys.ReturnAddress(s, "rp.acme.example")
}

// take gives the receiver a mail as the listener would: address by address.
func (d *desk) take(sender, raw string, rcpts ...string) error {
	m := &receiver.Mail{Client: client, Sender: sender, Raw: []byte(raw)}
	for _, a := range rcpts {
		if r := d.Recipient(client, a); r != nil {
			return r
		}
		m.Recipients = append(m.Recipients, a)
	}
	return d.Take(context.Background(), m)
}

func codeOf(err error) int {
	var r *receiver.Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	if err != nil {
		return -1
	}
	return 250
}

// postfix is a bounce as Postfix writes it (RFC 3464), about one recipient.
func postfix(to, recipient, action, returned string) string {
	status, reply := "5.1.1", "550 5.1.1 <"+recipient+">: Recipient address rejected: User unknown"
	if action == "delayed" {
		status, reply = "4.2.2", "452 4.2.2 mailbox full"
	}
	return crlf(`From: MAILER-DAEMON@mx.example.net (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: ` + to + `
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
	boundary="B.1/mx.example.net"

--B.1/mx.example.net
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.example.net.

I'm sorry to have to inform you that your message could not
be delivered to one or more recipients. It's attached below.

<` + recipient + `>: host mx2.example.net[192.0.2.25] said: ` + reply + `
    (in reply to RCPT TO command)

--B.1/mx.example.net
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net
Arrival-Date: Sun,  1 Mar 2026 11:00:00 +0000 (UTC)

Final-Recipient: rfc822; ` + recipient + `
Original-Recipient: rfc822;` + recipient + `
Action: ` + action + `
Status: ` + status + `
Remote-MTA: dns; mx2.example.net
Diagnostic-Code: smtp; ` + reply + `

--B.1/mx.example.net
Content-Description: Undelivered Message
Content-Type: message/rfc822

` + returned + `

hello

--B.1/mx.example.net--
`)
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// arf is a complaint (RFC 5965) whose recipient may be redacted.
func arf(kind, rcpt, returned string) string {
	return crlf(`From: feedback@isp.example
To: fbl@loops.example
Subject: FW: hello
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="arf"

--arf
Content-Type: text/plain

This is an email abuse report.

--arf
Content-Type: message/feedback-report

Feedback-Type: ` + kind + `
User-Agent: SomeGenerator/1.0
Version: 1
Original-Rcpt-To: ` + rcpt + `

--arf
Content-Type: message/rfc822

` + returned + `

hello

--arf--
`)
}
