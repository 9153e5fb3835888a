package feedback_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"hikyaku/reputation/feedback"
	"hikyaku/spool/message"
)

// story is a mail of the corpus and what is to be read in it.
type story struct {
	name string
	raw  []byte // with LF
	want string
}

// corpus reads an archive of testdata: mails made for this purpose, each after
// the form of a standard or of a mail system that the archive's comment names.
func corpus(t testing.TB, kind string) []story {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", kind, "*.txtar"))
	if err != nil || len(paths) == 0 {
		t.Errorf("testdata/%s: %v", kind, err)
	}
	var out []story
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		a := txtar.Parse(b)
		form := strings.TrimSuffix(filepath.Base(path), ".txtar")
		for i := 0; i+1 < len(a.Files); i += 2 {
			name := strings.TrimSuffix(a.Files[i].Name, ".eml")
			if a.Files[i+1].Name != name+".want" {
				t.Fatalf("%s: %s has no %s.want behind it", path, a.Files[i].Name, name)
			}
			if !bytes.Contains(a.Comment, []byte("\n"+name+": ")) {
				t.Errorf("%s: the comment does not say where %s comes from", path, name)
			}
			out = append(out, story{form + "/" + name, a.Files[i].Data, string(a.Files[i+1].Data)})
		}
	}
	return out
}

// TestCorpus reads each mail with LF and with CRLF.
func TestCorpus(t *testing.T) {
	for kind, least := range map[string]int{"dsn": 100, "arf": 100, "other": 30} {
		stories := corpus(t, kind)
		if len(stories) < least {
			t.Errorf("%s: %d mails, want at least %d", kind, len(stories), least)
		}
		for _, s := range stories {
			t.Run(kind+"/"+s.name, func(t *testing.T) {
				for _, raw := range [][]byte{s.raw, bytes.ReplaceAll(s.raw, []byte("\n"), []byte("\r\n"))} {
					r := feedback.Parse(raw)
					if problem := differs(r, s.want); problem != "" {
						t.Fatalf("%s\n--- read as\n%s", problem, describe(r))
					}
				}
			})
		}
	}
}

// differs holds a report against the lines of a .want: what is named there must
// be so, and recipients must be those and no others.
func differs(r *feedback.Report, want string) string {
	var problems []string
	check := func(line string, ok bool) {
		if !ok {
			problems = append(problems, "want "+line)
		}
	}
	n, last := 0, &feedback.Recipient{}
	var to, rcpts []string
	for line := range strings.Lines(want) {
		line = strings.TrimSuffix(line, "\n")
		key, value, _ := strings.Cut(line, " ")
		switch key {
		case "":
		case "kind":
			check(line, string(r.Kind) == value && r.Why != "")
		case "why":
			check(line, r.Why == value)
		case "form":
			check(line, r.Form == value)
		case "rcpt":
			if n++; n > len(r.Recipients) {
				check(line, false)
				continue
			}
			last = &r.Recipients[n-1]
			head, text, _ := strings.Cut(value, " |")
			check(line, head == recipientLine(last) && strings.Contains(last.Reply.Text, strings.ReplaceAll(strings.TrimSpace(text), `\n`, "\n")))
		case "orig":
			check(line, last.Original == value)
		case "enhanced":
			check(line, last.Reply.Enhanced.String() == value)
		case "remote":
			check(line, last.RemoteMTA == value)
		case "last":
			check(line, last.LastTry.Format(time.RFC3339) == value)
		case "retry-until":
			check(line, last.RetryUntil.Format(time.RFC3339) == value)
		case "reporter":
			check(line, r.ReportingMTA == value)
		case "envelope":
			check(line, r.EnvelopeID == value)
		case "id":
			check(line, r.Returned.MessageID == value)
		case "to":
			to = append(to, value)
		case "tokens":
			check(line, fmt.Sprint(len(r.Returned.Tokens)) == value)
		case "links":
			check(line, fmt.Sprint(len(r.Returned.Links)) == value)
		case "truncated":
			check(line, r.Truncated)
		case "many":
			check(line, fmt.Sprint(len(r.Recipients)) == value)
			n = len(r.Recipients)
		default:
			check(line, r.Complaint != nil && complaintHas(r.Complaint, key, value, &rcpts))
		}
	}
	check(fmt.Sprintf("%d recipients", n), n == len(r.Recipients))
	check(fmt.Sprintf("to %q", to), fmt.Sprint(to) == fmt.Sprint(r.Returned.To))
	if r.Complaint != nil {
		check(fmt.Sprintf("complaint-rcpt %q", rcpts), fmt.Sprint(rcpts) == fmt.Sprint(r.Complaint.Recipients))
	}
	return strings.Join(problems, "\n")
}

// complaintHas compares a field of a complaint.
func complaintHas(c *feedback.Complained, key, value string, rcpts *[]string) bool {
	switch key {
	case "type":
		return c.Type == value
	case "complaint-rcpt":
		*rcpts = append(*rcpts, value)
		return true
	case "mail-from":
		return c.MailFrom == value
	case "agent":
		return c.UserAgent == value
	case "ip":
		return c.SourceIP == value
	case "domain":
		return c.Domain == value
	case "complaint-mta":
		return c.Reporter == value
	case "incidents":
		return fmt.Sprint(c.Incidents) == value
	case "arrived":
		return c.Arrived.Format(time.RFC3339) == value
	}
	return false
}

func recipientLine(c *feedback.Recipient) string {
	dash := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	return fmt.Sprintf("%s %s %s %d %s", dash(c.Address), c.Action, dash(c.Status.String()), c.Reply.Code, dash(c.Reply.Phase.String()))
}

// describe is a report in the words of a .want.
func describe(r *feedback.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "kind %s\nwhy %s\nform %s\n", r.Kind, r.Why, r.Form)
	for i := range r.Recipients {
		c := &r.Recipients[i]
		fmt.Fprintf(&b, "rcpt %s | %s\n", recipientLine(c), strings.ReplaceAll(c.Reply.Text, "\n", `\n`))
		if c.Original != "" {
			fmt.Fprintf(&b, "orig %s\n", c.Original)
		}
	}
	fmt.Fprintf(&b, "reporter %s\nid %s\nto %q\ntokens %d\nlinks %d\n", r.ReportingMTA, r.Returned.MessageID, r.Returned.To, len(r.Returned.Tokens), len(r.Returned.Links))
	if c := r.Complaint; c != nil {
		fmt.Fprintf(&b, "%+v\n", *c)
	}
	return b.String()
}

// TestRepliesFitTheirType: whatever is read, a reply holds what message.Reply
// promises.
func checkReply(t *testing.T, rep *message.Reply) {
	t.Helper()
	if len(rep.Text) > message.MaxReplyText || rep.Code < 200 || rep.Code > 599 {
		t.Fatalf("reply %d with %d bytes", rep.Code, len(rep.Text))
	}
	for _, c := range rep.Text {
		if (c < ' ' && c != '\n') || c == 0x7f || c == '\uFFFD' {
			t.Fatalf("reply text holds %q", rep.Text)
		}
	}
}
