package late

import (
	"fmt"
	"strings"
	"time"
)

// Kind is what a notice says.
type Kind string

// The kinds of notice.
const (
	Bounce    Kind = "bounce"    // a delivery status notification (RFC 3464)
	Complaint Kind = "complaint" // an abuse report (RFC 5965)
)

// Notice is mail that a carrier sends back later.
type Notice struct {
	Kind    Kind
	Carrier string
	Host    string // the carrier's host that took the message
	From    string // its envelope sender
	To      string
	Source  string
	Arrived time.Time
	Due     time.Time
	Status  string // RFC 3463, of a bounce
	Text    string // what the carrier says, of a bounce
}

// Append writes the notice as mail to the address to. At is its date; id makes
// its boundary and Message-ID unique.
func (n *Notice) Append(dst []byte, to string, at time.Time, id string) []byte {
	if n.Kind == Complaint {
		return n.appendARF(dst, to, at, id)
	}
	return n.appendDSN(dst, to, at, id)
}

const dateLayout = "Mon, 02 Jan 2006 15:04:05 -0700" // RFC 5322 3.3

func (n *Notice) head(from, to, subject, kind string, at time.Time, id string) string {
	return fmt.Sprintf("From: %s\r\nTo: <%s>\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"+
		"Content-Type: multipart/report; report-type=%s; boundary=%q\r\n\r\n",
		from, oneLine(to), subject, at.Format(dateLayout), id, n.Host, kind, "report-"+id)
}

// appendDSN is a delivery status notification: a text, the status (RFC 3464)
// and the headers of the message (RFC 6522 4).
func (n *Notice) appendDSN(dst []byte, to string, at time.Time, id string) []byte {
	status := n.Status
	if status == "" {
		status = "5.1.1"
	}
	text := n.Text
	if text == "" {
		text = "550 " + status + " Delivery to the mailbox failed"
	}
	var b strings.Builder
	b.WriteString(n.head("Mail Delivery System <mailer-daemon@"+n.Host+">", to, "Undelivered Mail Returned to Sender", "delivery-status", at, id))
	part := "--report-" + id + "\r\n"
	fmt.Fprintf(&b, "%sContent-Type: text/plain; charset=us-ascii\r\n\r\nYour message could not be delivered to <%s>.\r\n%s\r\n\r\n", part, oneLine(n.To), oneLine(text))
	fmt.Fprintf(&b, "%sContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; %s\r\nReceived-From-MTA: dns; [%s]\r\nArrival-Date: %s\r\n\r\n", part, n.Host, n.Source, n.Arrived.Format(dateLayout))
	fmt.Fprintf(&b, "Final-Recipient: rfc822; %s\r\nAction: failed\r\nStatus: %s\r\nDiagnostic-Code: smtp; %s\r\n\r\n", oneLine(n.To), status, oneLine(text))
	fmt.Fprintf(&b, "%sContent-Type: text/rfc822-headers\r\n\r\n%s\r\n--report-%s--\r\n", part, n.original(), id)
	return append(dst, b.String()...)
}

// appendARF is a complaint in the abuse reporting format (RFC 5965).
func (n *Notice) appendARF(dst []byte, to string, at time.Time, id string) []byte {
	var b strings.Builder
	b.WriteString(n.head("feedback@"+n.Host, to, "complaint about message from "+n.Source, "feedback-report", at, id))
	part := "--report-" + id + "\r\n"
	fmt.Fprintf(&b, "%sContent-Type: text/plain; charset=us-ascii\r\n\r\nThis is an email abuse report for a message received from %s.\r\n\r\n", part, n.Source)
	fmt.Fprintf(&b, "%sContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: hikyaku-bench/1\r\nVersion: 1\r\nOriginal-Mail-From: <%s>\r\nOriginal-Rcpt-To: <%s>\r\nArrival-Date: %s\r\nSource-IP: %s\r\nReported-Domain: %s\r\n\r\n",
		part, oneLine(n.From), oneLine(n.To), n.Arrived.Format(dateLayout), n.Source, oneLine(n.From[strings.LastIndexByte(n.From, '@')+1:]))
	fmt.Fprintf(&b, "%sContent-Type: message/rfc822\r\n\r\n%s\r\n--report-%s--\r\n", part, n.original(), id)
	return append(dst, b.String()...)
}

// original stands for the message itself, whose content was not kept.
func (n *Notice) original() string {
	return "Return-Path: <" + oneLine(n.From) + ">\r\nTo: <" + oneLine(n.To) + ">\r\n"
}

// oneLine keeps foreign text out of the structure of a header.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}
