package sink

import (
	"net"
	"net/smtp"
	"strings"
	"testing"
)

func TestSinkTakesWhatASecondImplementationSends(t *testing.T) {
	got := make(chan Received, 1)
	s, err := Start(Options{
		Recipient: func(_, to string) string {
			if strings.HasPrefix(to, "no") {
				return "550 5.1.1 no"
			}
			return ""
		},
		Message: func(r *Received) string {
			c := *r
			c.Data = append([]byte(nil), r.Data...)
			c.To = append([]string(nil), r.To...)
			got <- c
			return ""
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	body := "Subject: x\r\n\r\n.leading dot\r\n..two\r\nend\r\n"
	if err := smtp.SendMail(s.Addr, nil, "a@x.test", []string{"b@y.test"}, []byte(body)); err != nil {
		t.Fatal(err)
	}
	r := <-got
	if r.From != "a@x.test" || len(r.To) != 1 || r.To[0] != "b@y.test" || string(r.Data) != body {
		t.Errorf("got %+v with data %q", r, r.Data)
	}
	if err := smtp.SendMail(s.Addr, nil, "a@x.test", []string{"no@y.test"}, []byte(body)); err == nil || !strings.Contains(err.Error(), "550") {
		t.Errorf("refused recipient: %v, want a 550", err)
	}
}

func TestSinkEndsDataOnlyAtCRLFDotCRLF(t *testing.T) {
	got := make(chan string, 4)
	s, err := Start(Options{Message: func(r *Received) string { got <- string(r.Data); return "" }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	data := "a\n.\nb\r\n.\nc\r\n.\rd\r\n"
	if _, err := c.Write([]byte("EHLO x\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n" + data + ".\r\nQUIT\r\n")); err != nil {
		t.Fatal(err)
	}
	// Leading dots of CRLF lines go, whatever follows them.
	if want := "a\n.\nb\r\n\nc\r\n\rd\r\n"; <-got != want {
		t.Error("look-alikes ended or changed the data")
	}
}
