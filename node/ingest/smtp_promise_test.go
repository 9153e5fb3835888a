package ingest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hikyaku/spool/message"
)

// group is one message as a client sends it that does not wait for answers.
func group(subject string) string {
	content := "Subject: " + subject + "\r\n\r\nbody\r\n"
	return fmt.Sprintf("%sBDAT %d LAST\r\n%s", envelope, len(content), content)
}

// codes is the first word of each reply line that ends a reply.
func codes(said string) (cs []string) {
	for line := range strings.Lines(said) {
		if len(line) > 3 && line[3] == ' ' {
			cs = append(cs, line[:3])
		}
	}
	return cs
}

// TestMessagesOfOneReadAreOnTheirWayTogether: several messages that come in one
// read are all offered before the first is waited for, and the replies are in
// the order of the commands, whatever becomes of each.
func TestMessagesOfOneReadAreOnTheirWayTogether(t *testing.T) {
	s := newTestServer(t, nil)
	s.store.slow = []*slowReceipt{}
	most := 0
	s.store.waited = func(m *message.Message) error {
		most = max(most, len(s.store.slow)+1)
		if strings.Contains(string(m.Raw), "Subject: two") {
			return &Refusal{Code: 452, Enhanced: message.Enhanced{Class: 4, Subject: 3, Detail: 1}, Text: "full"}
		}
		return nil
	}
	c := s.talk("EHLO a.test\r\n", group("one")+group("two")+"NOOP\r\n"+group("three")+"QUIT\r\n")
	want := []string{"250", "250", "250", "250", "250", "452", "250", "250", "250", "250", "221"}
	if got := codes(string(c.out)); !slices.Equal(got, want) {
		t.Errorf("replies %q, want %q:\n%s", got, want, c.out)
	}
	if most != 3 {
		t.Errorf("%d messages were on their way at once, want 3", most)
	}
	if subs := s.store.taken(); len(subs) != 2 || !strings.Contains(string(subs[1].Message.Raw), "Subject: three") {
		t.Errorf("taken: %d messages, want the first and the third", len(subs))
	}
	ids := 0
	for _, sub := range s.store.taken() {
		if strings.Contains(string(c.out), "queued as "+sub.Message.ID.String()+"\r\n") {
			ids++
		}
	}
	if ids != 2 {
		t.Errorf("%d of 2 ids are in the replies:\n%s", ids, c.out)
	}
}

// TestReplyIsNotSentBeforeTheMessageIsDurable: nothing at all leaves while a
// message on its way is not answered for.
func TestReplyIsNotSentBeforeTheMessageIsDurable(t *testing.T) {
	s := newTestServer(t, nil)
	s.store.slow = []*slowReceipt{}
	var c *scripted
	s.store.waited = func(*message.Message) error {
		if strings.Contains(string(c.out), "queued as") {
			t.Error("a 250 left before its message was waited for")
		}
		return nil
	}
	c = s.script("192.0.2.1", "EHLO a.test\r\n", group("one")+group("two"))
	newSession(s.SMTPServer, s.listeners[0], c).run()
	if n := strings.Count(c.all(), "queued as"); n != 2 {
		t.Errorf("%d messages accepted, want 2:\n%s", n, c.all())
	}
}

// TestBrokenConnectionDoesNotForgetMessages: what was offered is waited for
// when nobody is there to hear the answer, because the acceptance path goes on
// from there.
func TestBrokenConnectionDoesNotForgetMessages(t *testing.T) {
	s := newTestServer(t, nil)
	s.store.slow = []*slowReceipt{}
	c := &deaf{scripted: s.script("192.0.2.1", "EHLO a.test\r\n", group("one")+group("two")+"RCPT")}
	newSession(s.SMTPServer, s.listeners[0], c).run()
	if n := len(s.store.taken()); n != 2 || len(s.store.slow) != 0 {
		t.Errorf("%d messages taken, %d forgotten, want 2 and 0", n, len(s.store.slow))
	}
}

// deaf is a client that goes away with its messages under way.
type deaf struct{ *scripted }

func (d *deaf) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "queued as") {
		return 0, errors.New("connection reset by peer")
	}
	return d.scripted.Write(b)
}

// TestManyMessagesOfOneRead crosses the bound on promises.
func TestManyMessagesOfOneRead(t *testing.T) {
	s := newTestServer(t, nil)
	s.store.slow = []*slowReceipt{}
	const n = 2*maxPromises + 3
	var turn strings.Builder
	for i := range n {
		turn.WriteString(group(fmt.Sprint("number ", i)))
	}
	c := s.talk("EHLO a.test\r\n", turn.String())
	if got := strings.Count(c.all(), "queued as"); got != n || len(s.store.taken()) != n {
		t.Errorf("%d answers, %d messages, want %d", got, len(s.store.taken()), n)
	}
}
