package feedback_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	receiver "hikyaku/node/feedback"
	"hikyaku/reputation/feedback"
	"hikyaku/spool/message"
)

func TestWhoMayBeWrittenTo(t *testing.T) {
	d := newDesk(t, nil)
	s := d.sent("ann@example.net")
	local := d.keys.Seal(feedback.ReturnPath, s)
	gone := *s
	gone.Tenant = "gone"
	for address, code := range map[string]int{
		local + "@rp.acme.example":                                   250,
		strings.ToUpper(local) + "@RP.ACME.example":                  250,
		local + "@rp.other.example":                                  250, // the tenant's domain has changed since
		d.keys.Seal(feedback.Unsubscribe, s) + "@rp.acme.example":    250,
		"FBL@loops.example":                                          250,
		"postmaster@rp.acme.example":                                 250,
		"abuse@rp.other.example":                                     250,
		local + "@elsewhere.example":                                 550,
		"ann@example.net":                                            550,
		"ann@rp.acme.example":                                        550,
		"postmaster@elsewhere.example":                               550,
		"other@loops.example":                                        550,
		d.keys.Seal(feedback.Trace, s) + "@rp.acme.example":          550,
		d.keys.Seal(feedback.ReturnPath, &gone) + "@rp.acme.example": 550,
		"b-" + strings.Repeat("a", 61) + "@rp.acme.example":          550,
		local[:62] + "@rp.acme.example":                              550,
		"":                                                           550,
	} {
		got := 250
		if r := d.Recipient(client, address); r != nil {
			got = r.Code
		}
		if got != code {
			t.Errorf("RCPT %s: %d, want %d", address, got, code)
		}
	}
	d.now = noon.Add(60 * 24 * time.Hour)
	if d.Recipient(client, local+"@rp.acme.example") == nil {
		t.Error("an expired token was taken")
	}
}

func TestABounceIsTiedToItsRecipient(t *testing.T) {
	d := newDesk(t, nil)
	s := d.sent("ann@example.net")
	if err := d.take("", postfix(d.returnPath(s), "Ann@Example.net", "failed", "Subject: hello"), d.returnPath(s)); err != nil {
		t.Fatal(err)
	}
	got := d.took()
	if len(got) != 1 {
		t.Fatalf("news: %+v", got)
	}
	f := got[0]
	if f.Type != message.EventLateBounce || f.Delivery != s.Delivery || f.Tenant != "acme" || f.Recipient != "Ann@Example.net" || f.Forwarded ||
		f.Reply.Code != 550 || f.Reply.Enhanced.String() != "5.1.1" || f.Reply.Phase != message.PhaseRcpt || !strings.Contains(f.Reply.Text, "User unknown") ||
		f.Host != "mx2.example.net" || f.Form != "rfc3464" || f.Via != "smtp" || f.From != client.String() || !f.Time.Equal(noon) || f.ID == "" {
		t.Errorf("news: %+v", f)
	}
	if m := d.Metrics(); m.Bounces != 1 || m.LateBounces != 1 {
		t.Errorf("metrics: %+v", m)
	}
}

// TestOneTokenNeverProvesAnother is the trick of a recipient who has a token of
// his own, and reports on somebody else.
func TestOneTokenNeverProvesAnother(t *testing.T) {
	d := newDesk(t, nil)
	mine := d.sent("mallory@example.net")
	victim := d.sent("ann@example.net")
	returned := "To: ann@example.net\nMessage-ID: <x@acme.example>\nHikyaku-Trace: t-" + strings.Repeat("a", 61)
	for name, raw := range map[string]string{
		"a bounce":    postfix("x", "ann@example.net", "failed", returned),
		"two in one":  strings.Replace(postfix("x", "ann@example.net", "failed", returned), "Action:", "X: y\r\n\r\nFinal-Recipient: rfc822; bob@example.net\r\nAction:", 1),
		"a complaint": arf("abuse", "ann@example.net", returned),
	} {
		if err := d.take("", raw, d.returnPath(mine)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := d.took(); len(got) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// Control: the same bounce under the victim's own token counts.
	if err := d.take("", postfix("x", "ann@example.net", "failed", returned), d.returnPath(victim)); err != nil || len(d.took()) != 1 {
		t.Errorf("the true one is not taken: %v", err)
	}
	// Known from what was returned, the bounce of a forward is about the one who
	// forwards.
	if err := d.take("", postfix("x", "ann@example.net", "failed", returned+"\nTo: mallory@example.net"), d.returnPath(mine)); err != nil {
		t.Fatal(err)
	}
	if got := d.took(); len(got) != 1 || got[0].Recipient != "mallory@example.net" || !got[0].Forwarded {
		t.Errorf("a forward: %+v", got)
	}
}

func TestWithoutATokenNothingHappens(t *testing.T) {
	d := newDesk(t, nil)
	s := d.sent("ann@example.net")
	other, err := feedback.NewKeys([]byte(strings.Repeat("x", feedback.KeyBytes)))
	if err != nil {
		t.Fatal(err)
	}
	old := *s
	old.Issued = noon.Add(-200 * 24 * time.Hour)
	old.Delivery.Message = oldID(noon.Add(-200 * 24 * time.Hour))
	for name, returned := range map[string]string{
		"no trace":       "Message-ID: <" + s.Delivery.String() + "@acme.example>\nTo: ann@example.net",
		"forged trace":   feedback.TraceHeader + ": " + other.TraceValue(s) + "\nTo: ann@example.net",
		"cut trace":      feedback.TraceHeader + ": " + d.keys.TraceValue(s)[:60] + "\nTo: ann@example.net",
		"expired trace":  feedback.TraceHeader + ": " + d.keys.TraceValue(&old) + "\nTo: ann@example.net",
		"another's link": "List-Unsubscribe: <https://u.example/" + d.keys.SealLink(d.sent("bob@example.net")) + ">\nTo: ann@example.net",
		"forged link":    "List-Unsubscribe: <https://u.example/" + other.SealLink(s) + ">\nTo: ann@example.net",
	} {
		for _, raw := range []string{postfix("fbl@loops.example", "ann@example.net", "failed", returned)} {
			if err := d.take("", raw, "fbl@loops.example"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if got := d.took(); len(got) != 0 {
				t.Errorf("%s: %+v", name, got)
			}
		}
	}
	if m := d.Metrics(); m.NoToken != 2 || m.BadTokens != 3 || m.Unproved != 1 {
		t.Errorf("metrics: %+v", m)
	}
	// Control: with the true trace the same report counts.
	if err := d.take("", postfix("fbl@loops.example", "ann@example.net", "failed", feedback.TraceHeader+": "+d.keys.TraceValue(s)), "fbl@loops.example"); err != nil || len(d.took()) != 1 {
		t.Errorf("the true trace is not taken: %v", err)
	}
}

func oldID(at time.Time) message.ID {
	var ids message.IDs
	return ids.New(at)
}

func TestComplaints(t *testing.T) {
	d := newDesk(t, nil)
	s := d.sent("ann@example.net")
	links, _ := d.keys.ListUnsubscribe(s, "https://u.acme.example/off", "rp.acme.example")
	for name, c := range map[string]struct {
		kind, rcpt, returned string
		want                 message.EventType
	}{
		"by trace and rcpt":        {"abuse", "<ann@example.net>", feedback.TraceHeader + ": " + d.keys.TraceValue(s), message.EventComplained},
		"by return path and To":    {"abuse", "redacted", "Return-Path: <" + d.returnPath(s) + ">\nTo: Ann <ann@example.net>", message.EventComplained},
		"redacted, by link":        {"abuse", "redacted@example.net", "List-Unsubscribe: " + links, message.EventComplained},
		"not in the header at all": {"abuse", "ann@example.net", "To: ann@example.net", ""},
		"not spam":                 {"not-spam", "ann@example.net", feedback.TraceHeader + ": " + d.keys.TraceValue(s), ""},
		"opt-out":                  {"opt-out", "ann@example.net", feedback.TraceHeader + ": " + d.keys.TraceValue(s), message.EventUnsubscribed},
	} {
		d := newDesk(t, nil)
		if err := d.take("feedback@isp.example", arf(c.kind, c.rcpt, c.returned), "fbl@loops.example"); codeOf(err) != 250 && c.want != "" {
			t.Errorf("%s: %v", name, err)
		}
		got := d.took()
		if (c.want == "") != (len(got) == 0) {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		if c.want != "" && (got[0].Type != c.want || got[0].Recipient != "ann@example.net" || got[0].Tenant != "acme" || got[0].Delivery != s.Delivery || got[0].Kind != c.kind) {
			t.Errorf("%s: %+v", name, got[0])
		}
	}
}

func TestAutomaticRepliesAreNoNews(t *testing.T) {
	d := newDesk(t, nil)
	s := d.sent("ann@example.net")
	for _, raw := range []string{
		"From: ann@example.net\nSubject: Out of office: hello\nAuto-Submitted: auto-replied\n\nI am away. 550 5.1.1 is my number.\n",
		"From: ann@example.net\nSubject: Automatic reply: hello\n\nback on Monday\n",
		"From: ann@example.net\nSubject: Please confirm your message\nX-Boxbe-Challenge: 1\n\nclick\n",
		postfix("x", "ann@example.net", "delayed", "To: ann@example.net"),
		"hello\n",
		"",
	} {
		if err := d.take("ann@example.net", crlf(raw), d.returnPath(s)); err != nil {
			t.Errorf("%.40q: %v", raw, err)
		}
	}
	if got := d.took(); len(got) != 0 {
		t.Errorf("news: %+v", got)
	}
	if m := d.Metrics(); m.AutoReplies != 3 || m.Delays != 1 || m.Others != 2 {
		t.Errorf("metrics: %+v", m)
	}
}

func TestPeopleWhoWriteToAnOfficeLearnThatNobodyReads(t *testing.T) {
	d := newDesk(t, nil)
	person := crlf("From: Bob <bob@example.net>\nSubject: your newsletter\n\nPlease call me.\n")
	if err := d.take("bob@example.net", person, "abuse@rp.acme.example"); codeOf(err) != 550 {
		t.Errorf("a person's mail: %v", err)
	}
	if err := d.take("", person, "abuse@rp.acme.example"); err != nil { // nobody would be told
		t.Errorf("with the null sender: %v", err)
	}
	if len(d.took()) != 0 || d.Metrics().RefusedMails != 1 {
		t.Errorf("metrics: %+v", d.Metrics())
	}
}

func TestUnsubscribeByMail(t *testing.T) {
	d := newDesk(t, nil)
	s := d.sent("ann@example.net")
	to := d.keys.Seal(feedback.Unsubscribe, s) + "@rp.acme.example"
	subject := "Subject: unsubscribe " + d.keys.SealLink(s)
	for i, c := range []struct {
		sender, raw string
		want        bool
	}{
		{"ann@example.net", "From: Ann <Ann@example.net>\nSubject: unsubscribe\n\n", true},
		{"bob@example.org", "From: bob@example.org\n" + subject + "\n\n", true},                                 // another mailbox, with our token
		{"bob@example.org", "From: bob@example.org\nSubject: unsubscribe\n\n", false},                           // anybody
		{"ann@example.net", "From: ann@example.net\nAuto-Submitted: auto-replied\nSubject: Re: x\n\n", false},   // a robot
		{"ann@example.net", "From: ann@example.net\nAuto-Submitted: auto-generated\n" + subject + "\n\n", true}, // a mail program's button
		{"", postfix(to, "ann@example.net", "failed", "To: ann@example.net"), false},
	} {
		d := newDesk(t, nil)
		if err := d.take(c.sender, crlf(c.raw), to); err != nil {
			t.Errorf("%d: %v", i, err)
		}
		got := d.took()
		if c.want != (len(got) == 1) || (c.want && (got[0].Type != message.EventUnsubscribed || feedback.Normal(got[0].Recipient) != "ann@example.net")) {
			t.Errorf("%d: %+v", i, got)
		}
	}
	// A return path is no unsubscribe address: it is in the header of every mail.
	if err := d.take("ann@example.net", crlf("From: ann@example.net\n"+subject+"\n\n"), d.returnPath(s)); err != nil || len(d.took()) != 0 {
		t.Errorf("a request to a return path: %v", err)
	}
}

func TestTheSameNewsTwiceIsOne(t *testing.T) {
	d := newDesk(t, nil)
	s := d.sent("ann@example.net")
	raw := postfix(d.returnPath(s), "ann@example.net", "failed", "To: ann@example.net")
	for range 3 {
		if err := d.take("", raw, d.returnPath(s)); err != nil {
			t.Fatal(err)
		}
	}
	first := d.took()
	if len(first) != 1 || d.Metrics().Replayed != 2 {
		t.Fatalf("news %d, metrics %+v", len(first), d.Metrics())
	}
	// After a restart the memory is gone, the id is not.
	again := newDesk(t, nil)
	if err := again.take("", raw, again.returnPath(s)); err != nil {
		t.Fatal(err)
	}
	if second := again.took(); len(second) != 1 || second[0].ID != first[0].ID {
		t.Errorf("ids %+v, %+v", first, second)
	}
}

func TestNewsThatCannotBeStoredIsPutOff(t *testing.T) {
	d := newDesk(t, nil)
	s := d.sent("ann@example.net")
	raw := postfix(d.returnPath(s), "ann@example.net", "failed", "To: ann@example.net")
	d.fail = errors.New("the disk is full")
	if err := d.take("", raw, d.returnPath(s)); codeOf(err) != 451 {
		t.Errorf("while nothing can be stored: %v", err)
	}
	d.fail = nil
	if err := d.take("", raw, d.returnPath(s)); err != nil || len(d.took()) != 1 {
		t.Errorf("afterwards: %v", err)
	}
}

func TestRates(t *testing.T) {
	d := newDesk(t, func(o *receiver.Options) { o.Limits = receiver.Limits{Messages: 2, Bad: 1} })
	s := d.sent("ann@example.net")
	taken := 0
	for range 100 {
		if d.Recipient(client, d.returnPath(s)) == nil {
			taken++
		}
	}
	if taken != 20 {
		t.Errorf("%d of 100 taken at once, want the burst of 20", taken)
	}
	codes := map[int]int{}
	for i := range 30 {
		codes[d.Recipient(client.Next(), fmt.Sprintf("guess%d@rp.acme.example", i)).Code]++
	}
	if codes[550] != 10 || codes[450] != 20 {
		t.Errorf("guesses got %v, want 10 times 550, then 450", codes)
	}
	if r := d.Recipient(client.Next(), d.returnPath(s)); r != nil {
		t.Errorf("a good address of a client that guesses: %v", r)
	}
	d.now = d.now.Add(5 * time.Second)
	if r := d.Recipient(client, d.returnPath(s)); r != nil {
		t.Errorf("five seconds later: %v", r)
	}
}

func TestOptions(t *testing.T) {
	if _, err := receiver.New(receiver.Options{}); err == nil {
		t.Error("a receiver of nothing")
	}
	d := newDesk(t, nil)
	for _, bad := range []string{"fbl", "@x.example", "a@"} {
		if _, err := receiver.New(receiver.Options{Keys: d.keys, Policy: nil, Handle: nil, Addresses: []string{bad}}); err == nil {
			t.Errorf("address %q was taken", bad)
		}
	}
}
