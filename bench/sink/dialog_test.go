package sink

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// begin is what most dialogs begin with, and what the sink answers to it.
const (
	begin      = "EHLO c.test\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n"
	beginReply = "220 sink.test ESMTP\r\n250 sink.test\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n"
)

var bare = []string{} // no extensions

// refuses says no to what has "no" in front, and does what other words say.
func refuses(_, what string) Verdict {
	word, _, _ := strings.Cut(what, "@")
	switch word {
	case "no":
		return Verdict{Reply: "550 5.1.1 no"}
	case "later":
		return Verdict{Reply: "451-4.3.0 later\r\n451 4.3.0 much later\r\n"}
	case "close":
		return Verdict{Reply: "421 4.7.0 go away", Close: true}
	case "drop":
		return Verdict{Drop: true}
	}
	return Verdict{}
}

var dialogs = []struct {
	name    string
	o       Options
	verdict func(phase, what string) Verdict
	in      string
	out     string   // in full, or from "…" on
	saw     []string // without connect; nil: not looked at
}{
	{
		name: "a message by DATA", o: Options{Extensions: bare},
		in:  begin + "DATA\r\nSubject: x\r\n\r\n..dot\r\n.stuffed\r\nend\r\n.\r\nQUIT\r\n",
		out: beginReply + "354 go on\r\n250 2.0.0 ok\r\n221 2.0.0 bye\r\n",
		saw: []string{"hello c.test false", "mail a@x.test", "recipient b@y.test", "data",
			`content a@x.test [b@y.test] 34 "Subject: x\r\n\r\n.dot\r\nstuffed\r\nend\r\n"`, "closed <nil>"},
	},
	{
		name: "content of the last, MAIL of the next", o: Options{Extensions: bare},
		in: begin + "DATA\r\none\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<c@y.test>\r\nRCPT TO:<d@y.test>\r\nDATA\r\n.\r\nMAIL FROM:<e@x.test>\r\n",
		out: beginReply + "354 go on\r\n250 2.0.0 ok\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n250 2.1.5 ok\r\n354 go on\r\n" +
			"250 2.0.0 ok\r\n250 2.1.0 ok\r\n",
		saw: []string{"hello c.test false", "mail a@x.test", "recipient b@y.test", "data", `content a@x.test [b@y.test] 5 "one\r\n"`,
			"mail", "recipient c@y.test", "recipient d@y.test", "data", `content  [c@y.test d@y.test] 0 ""`, "mail e@x.test", "closed EOF"},
	},
	{
		name: "look-alikes do not end data", o: Options{Extensions: bare},
		in:  begin + "DATA\r\na\n.\nb\r\n.\nc\r\n.\rd\r\n\n.\r\n\r.\r\n.\r\r\n.\r\n",
		out: beginReply + "354 go on\r\n250 2.0.0 ok\r\n",
		saw: []string{"hello c.test false", "mail a@x.test", "recipient b@y.test", "data",
			`content a@x.test [b@y.test] 26 "a\n.\nb\r\n\nc\r\n\rd\r\n\n.\r\n\r.\r\n\r\r\n"`, "closed EOF"},
	},
	{
		name: "first lines that begin with a dot", o: Options{Extensions: bare},
		in:  begin + "DATA\r\n..\r\n.\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n.\r.\r\n.\r\n",
		out: beginReply + "354 go on\r\n250 2.0.0 ok\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go on\r\n250 2.0.0 ok\r\n",
		saw: []string{"hello c.test false", "mail a@x.test", "recipient b@y.test", "data", `content a@x.test [b@y.test] 3 ".\r\n"`,
			"mail a@x.test", "recipient b@y.test", "data", `content a@x.test [b@y.test] 4 "\r.\r\n"`, "closed EOF"},
	},
	{
		name: "discarded content is counted", o: Options{Extensions: bare, Discard: true, Want: func(r *Received) bool { return r.To[0] == "keep@y.test" }},
		in:  begin + "DATA\r\n.\r.\r\n..two\r\n\n.\r\nend\r\n.\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<keep@y.test>\r\nDATA\r\n..\r\n.\r\n",
		out: beginReply + "354 go on\r\n250 2.0.0 ok\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go on\r\n250 2.0.0 ok\r\n",
		saw: []string{"hello c.test false", "mail a@x.test", "recipient b@y.test", "data", "content a@x.test [b@y.test] 19 discarded",
			"mail a@x.test", "recipient keep@y.test", "data", `content a@x.test [keep@y.test] 3 ".\r\n"`, "closed EOF"},
	},
	{
		name: "one chunk", o: Options{Extensions: bare, Chunking: true},
		in:  begin + "BDAT 9 LAST\r\n\r\n.\r\n\x00\n.xQUIT\r\n",
		out: "…250-sink.test\r\n250 CHUNKING\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n250 2.0.0 ok\r\n221 2.0.0 bye\r\n",
		saw: []string{"hello c.test false", "mail a@x.test", "recipient b@y.test", "data", `content a@x.test [b@y.test] 9 "\r\n.\r\n\x00\n.x"`, "closed <nil>"},
	},
	{
		name: "several chunks, an empty last one, and the next message", o: Options{Extensions: bare, Chunking: true},
		in:  begin + "BDAT 3\r\none" + "bdat 5\r\ntwo\r\n" + "BDAT 0 last\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<c@y.test>\r\nBDAT 2\r\nab" + "BDAT 2 LAST\r\ncd",
		out: "…250 2.1.5 ok\r\n250 2.0.0 ok\r\n250 2.0.0 ok\r\n250 2.0.0 ok\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n250 2.0.0 ok\r\n250 2.0.0 ok\r\n",
		saw: []string{"hello c.test false", "mail a@x.test", "recipient b@y.test", "data", `content a@x.test [b@y.test] 8 "onetwo\r\n"`,
			"mail a@x.test", "recipient c@y.test", "data", `content a@x.test [c@y.test] 4 "abcd"`, "closed EOF"},
	},
	{
		name: "discarded chunks are counted", o: Options{Extensions: bare, Chunking: true, Discard: true},
		in:  begin + "BDAT 3\r\none" + "BDAT 5 LAST\r\ntwo\r\n",
		out: "…250 2.0.0 ok\r\n250 2.0.0 ok\r\n",
		saw: []string{"hello c.test false", "mail a@x.test", "recipient b@y.test", "data", "content a@x.test [b@y.test] 8 discarded", "closed EOF"},
	},
	{
		name: "RSET between chunks", o: Options{Extensions: bare, Chunking: true},
		in:  begin + "BDAT 3\r\noneRSET\r\n" + "MAIL FROM:<a@x.test>\r\nRCPT TO:<c@y.test>\r\nBDAT 3 LAST\r\ntwo",
		out: "…250 2.0.0 ok\r\n250 2.0.0 ok\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n250 2.0.0 ok\r\n",
		saw: []string{"hello c.test false", "mail a@x.test", "recipient b@y.test", "data", "mail a@x.test", "recipient c@y.test", "data",
			`content a@x.test [c@y.test] 3 "two"`, "closed EOF"},
	},
	{
		name: "DATA and RCPT after a chunk", o: Options{Extensions: bare, Chunking: true},
		in:  begin + "BDAT 3\r\noneDATA\r\nRCPT TO:<c@y.test>\r\nBDAT 0 LAST\r\n",
		out: "…250 2.0.0 ok\r\n503 5.5.1 not after BDAT\r\n503 5.5.1 not after BDAT\r\n250 2.0.0 ok\r\n",
	},
	{
		name: "a refused chunk is passed over, and needs RSET", o: Options{Extensions: bare, Chunking: true}, verdict: refuses,
		in: "EHLO c.test\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<no@y.test>\r\nBDAT 6 LAST\r\nQUIT\r\n" + "RCPT TO:<b@y.test>\r\nBDAT 6 LAST\r\nQUIT\r\n" +
			"DATA\r\nMAIL FROM:<a@x.test>\r\nRSET\r\nMAIL FROM:<a@x.test>\r\n",
		out: "…250 2.1.0 ok\r\n550 5.1.1 no\r\n503 5.5.1 no recipients\r\n503 5.5.1 not after BDAT\r\n503 5.5.1 RSET first\r\n" +
			"503 5.5.1 RSET first\r\n503 5.5.1 nested MAIL\r\n250 2.0.0 ok\r\n250 2.1.0 ok\r\n",
	},
	{
		name: "chunk that the session refuses", o: Options{Extensions: bare, Chunking: true},
		verdict: func(phase, _ string) Verdict {
			if phase == "data" {
				return Verdict{Reply: "451 4.7.1 not now", Close: true}
			}
			return Verdict{}
		},
		in:  begin + "BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
		out: "…250 2.1.5 ok\r\n451 4.7.1 not now\r\n",
		saw: []string{"hello c.test false", "mail a@x.test", "recipient b@y.test", "data", "closed <nil>"},
	},
	{
		name: "chunks without an offer, without MAIL, without a size", o: Options{Extensions: bare},
		in:  "EHLO c.test\r\nBDAT 3\r\noneBDAT x\r\nNOOP\r\n",
		out: "…250 sink.test\r\n502 5.5.1 CHUNKING is not offered\r\n501 5.5.4 Syntax: BDAT size [LAST]\r\n",
		saw: []string{"hello c.test false", "closed BDAT without a readable size"},
	},
	{
		name: "too big", o: Options{Extensions: []string{"SIZE 10"}, Chunking: true},
		in: "EHLO c.test\r\nMAIL FROM:<a@x.test> SIZE=11\r\nMAIL FROM:<a@x.test> SIZE=10\r\nRCPT TO:<b@y.test>\r\nDATA\r\n..23456789\r\n.\r\n" +
			"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n..2345678\r\n.\r\n" +
			"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nBDAT 8\r\n12345678BDAT 3 LAST\r\nabcRSET\r\nMAIL FROM:<a@x.test>\r\n",
		out: "…250-sink.test\r\n250-SIZE 10\r\n250 CHUNKING\r\n552 5.3.4 message too big\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go on\r\n552 5.3.4 message too big\r\n" +
			"250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go on\r\n250 2.0.0 ok\r\n" +
			"250 2.1.0 ok\r\n250 2.1.5 ok\r\n250 2.0.0 ok\r\n552 5.3.4 message too big\r\n250 2.0.0 ok\r\n250 2.1.0 ok\r\n",
		saw: []string{"hello c.test false", "mail a@x.test SIZE=10", "recipient b@y.test", "data", "mail a@x.test", "recipient b@y.test", "data",
			`content a@x.test [b@y.test] 10 ".2345678\r\n"`, "mail a@x.test", "recipient b@y.test", "data", "mail a@x.test", "closed EOF"},
	},
	{
		name: "order of commands", o: Options{Extensions: bare},
		in: "MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\nEHLO\r\nEHLO c.test\r\nRCPT TO:<b@y.test>\r\nDATA\r\n" +
			"MAIL FROM:<a@x.test>\r\nDATA\r\nMAIL FROM:<a@x.test>\r\nEHLO c.test\r\nDATA\r\n",
		out: "220 sink.test ESMTP\r\n503 5.5.1 EHLO first\r\n503 5.5.1 MAIL first\r\n503 5.5.1 MAIL first\r\n501 5.5.4 a name is missing\r\n250 sink.test\r\n503 5.5.1 MAIL first\r\n503 5.5.1 MAIL first\r\n" +
			"250 2.1.0 ok\r\n503 5.5.1 no recipients\r\n503 5.5.1 nested MAIL\r\n250 sink.test\r\n503 5.5.1 MAIL first\r\n",
	},
	{
		name: "small commands", o: Options{Name: "mx.test", Extensions: []string{"DSN"}},
		in:  "helo c.test\r\nnoop and more\r\nRSET\r\nVRFY b\r\nHELP\r\nSTARTTLS\r\nDATA now\r\nquit\r\n",
		out: "220 mx.test ESMTP\r\n250 mx.test\r\n250 2.0.0 ok\r\n250 2.0.0 ok\r\n252 2.5.2 cannot tell, send it and see\r\n500 5.5.1 unknown command\r\n502 5.5.1 STARTTLS is not offered\r\n503 5.5.1 MAIL first\r\n221 2.0.0 bye\r\n",
	},
	{
		name: "parameters go to the session as they came", o: Options{Extensions: []string{"SIZE", "8BITMIME", "smtputf8", "DSN", "MT-PRIORITY MIXER"}},
		in: "EHLO c.test\r\nMAIL FROM:<\"a> b\\\"\"@x.test>  SIZE=1000  BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a<b>c mt-priority=3\r\n" +
			"RCPT TO:<ü@y.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b@y.test\r\nRCPT TO:<Postmaster>\r\n",
		out: "…250 MT-PRIORITY MIXER\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n250 2.1.5 ok\r\n",
		saw: []string{"hello c.test false", `mail "a> b\""@x.test SIZE=1000  BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a<b>c mt-priority=3`,
			"recipient ü@y.test", "recipient Postmaster", "closed EOF"},
	},
	{
		name: "parameters nobody offered, and broken ones", o: Options{Extensions: []string{"SIZE 1000"}},
		in: "EHLO c.test\r\nMAIL FROM:<a@x.test> BODY=8BITMIME\r\nMAIL FROM:<a@x.test> RET=HDRS\r\nMAIL FROM:<a@x.test> NOTIFY=NEVER\r\nMAIL FROM:<a@x.test> SIZE=1 size=1\r\n" +
			"MAIL FROM:<a@x.test> SIZE=\r\nMAIL FROM:<a@x.test> SIZE=-1\r\nMAIL FROM:<a@x.test> SIZE\r\nMAIL FROM:<ü@x.test>\r\nHELO c.test\r\nMAIL FROM:<a@x.test> SIZE=1\r\n",
		out: "…250 SIZE 1000\r\n555 5.5.4 parameter of no extension that was offered\r\n555 5.5.4 parameter of no extension that was offered\r\n555 5.5.4 parameter of no extension that was offered\r\n" +
			"501 5.5.4 parameter given twice\r\n501 5.5.4 bad parameters\r\n501 5.5.4 bad SIZE\r\n501 5.5.4 bad SIZE\r\n553 5.6.7 address needs SMTPUTF8\r\n250 sink.test\r\n555 5.5.4 no parameters without EHLO\r\n",
	},
	{
		name: "paths", o: Options{Extensions: bare},
		in: "EHLO c.test\r\nMAIL FROM: <a@x.test>\r\nMAIL FROM:a@x.test\r\nMAIL FROM:<a@x.test\r\nMAIL FROM:<a @x.test>\r\nMAIL FROM:<a@x.test>SIZE=1\r\nMAIL FROM:<a>\r\nMAIL\r\n" +
			"MAIL FROM:<>\r\nRCPT TO:<>\r\nRCPT TO:<b>\r\nRCPT TO:<@y.test>\r\nRCPT TO:<b@>\r\nRCPT\r\nRCPT TO:<b@[192.0.2.1]>\r\n",
		out: "…250 sink.test\r\n" + strings.Repeat("501 5.1.7 Syntax: MAIL FROM:<address>\r\n", 7) + "250 2.1.0 ok\r\n" +
			strings.Repeat("501 5.1.3 Syntax: RCPT TO:<address>\r\n", 5) + "250 2.1.5 ok\r\n",
	},
	{
		name: "refusals of the session", o: Options{Extensions: bare}, verdict: refuses,
		in:  "EHLO c.test\r\nMAIL FROM:<no@x.test>\r\nRCPT TO:<b@y.test>\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<no@y.test>\r\nRCPT TO:<later@y.test>\r\nRCPT TO:<c@y.test>\r\nRCPT TO:<close@y.test>\r\nNOOP\r\n",
		out: "…250 sink.test\r\n550 5.1.1 no\r\n503 5.5.1 MAIL first\r\n250 2.1.0 ok\r\n550 5.1.1 no\r\n451-4.3.0 later\r\n451 4.3.0 much later\r\n250 2.1.5 ok\r\n421 4.7.0 go away\r\n",
		saw: []string{"hello c.test false", "mail no@x.test", "mail a@x.test", "recipient no@y.test", "recipient later@y.test",
			"recipient c@y.test", "recipient close@y.test", "closed <nil>"},
	},
	{
		name: "dropped without a reply", o: Options{Extensions: bare}, verdict: refuses,
		in:  "EHLO c.test\r\nMAIL FROM:<drop@x.test>\r\nNOOP\r\n",
		out: "220 sink.test ESMTP\r\n250 sink.test\r\n",
		saw: []string{"hello c.test false", "mail drop@x.test", "closed <nil>"},
	},
	{
		name: "refused content", o: Options{Extensions: bare},
		verdict: func(phase, _ string) Verdict {
			if phase == "content" {
				return Verdict{Reply: "554-5.7.1 this\n5.7.1 is spam"}
			}
			return Verdict{}
		},
		in:  begin + "DATA\r\nx\r\n.\r\nDATA\r\nMAIL FROM:<a@x.test>\r\n",
		out: beginReply + "354 go on\r\n554-5.7.1 this\r\n554 5.7.1 is spam\r\n503 5.5.1 MAIL first\r\n250 2.1.0 ok\r\n",
	},
	{
		name: "refused at DATA", o: Options{Extensions: bare},
		verdict: func(phase, _ string) Verdict {
			if phase == "data" {
				return Verdict{Reply: "451 4.3.0 later"}
			}
			return Verdict{}
		},
		in:  begin + "DATA\r\nNOOP\r\n",
		out: beginReply + "451 4.3.0 later\r\n250 2.0.0 ok\r\n",
	},
	{
		name: "refused greeting", o: Options{Extensions: bare},
		verdict: func(phase, _ string) Verdict {
			if phase == "connect" {
				return Verdict{Reply: "554 5.7.1 not you"}
			}
			return Verdict{}
		},
		in:  "EHLO c.test\r\nNOOP\r\nQUIT\r\n",
		out: "554 5.7.1 not you\r\n503 5.5.1 only QUIT is left\r\n503 5.5.1 only QUIT is left\r\n221 2.0.0 bye\r\n",
		saw: []string{"closed <nil>"},
	},
	{
		name: "a session without words", o: Options{Extensions: bare},
		verdict: func(phase, _ string) Verdict {
			return map[string]Verdict{"mail": {Reply: "what?"}, "hello": {Reply: "250"}}[phase]
		},
		in:  "EHLO c.test\r\nMAIL FROM:<a@x.test>\r\n",
		out: "220 sink.test ESMTP\r\n250 \r\n451 4.3.0 the session gave a reply without a code\r\n",
	},
	{
		name: "command ended by a bare LF", o: Options{Extensions: bare},
		in: "EHLO c.test\nNOOP\r\n", out: "220 sink.test ESMTP\r\n500 5.5.2 command not ended by CRLF\r\n",
		saw: []string{"closed command not ended by CRLF"},
	},
	{
		name: "control characters", o: Options{Extensions: bare},
		in:  "EHLO c.test\rNOOP\r\nEHLO c\x00\r\nEHLO\tc\r\n\r\n",
		out: "220 sink.test ESMTP\r\n" + strings.Repeat("500 5.5.2 control character in command\r\n", 3) + "500 5.5.1 unknown command\r\n",
	},
	{
		name: "long lines", o: Options{Extensions: bare, MaxLine: 100},
		in:  "NOOP " + strings.Repeat("x", 93) + "\r\nNOOP " + strings.Repeat("x", 94) + "\r\nNOOP\r\n",
		out: "220 sink.test ESMTP\r\n250 2.0.0 ok\r\n500 5.5.2 command line too long\r\n",
		saw: []string{"closed command line too long"},
	},
	{
		name: "too many recipients", o: Options{Extensions: bare, MaxRecipients: 1},
		in: begin + "RCPT TO:<c@y.test>\r\nDATA\r\n.\r\n", out: beginReply + "452 4.5.3 too many recipients\r\n354 go on\r\n250 2.0.0 ok\r\n",
	},
}

// TestDialogs plays each dialog in one piece, cut in two at each byte, and byte
// by byte: what the sink says and sees must not depend on it.
func TestDialogs(t *testing.T) {
	for _, d := range dialogs {
		t.Run(d.name, func(t *testing.T) {
			in := []byte(d.in)
			out, saw := play(t, d.o, d.verdict, bytes.Clone(in))
			if tail, cut := strings.CutPrefix(d.out, "…"); cut && !strings.HasSuffix(out, tail) || !cut && out != d.out {
				t.Errorf("answered:\n%s\nwant:\n%s", out, d.out)
			}
			if d.saw != nil {
				if diff := cmp.Diff(d.saw, saw[1:]); diff != "" {
					t.Errorf("the session saw (-want +got):\n%s", diff)
				}
			}
			check := func(how string, pieces ...[]byte) {
				out2, saw2 := play(t, d.o, d.verdict, pieces...)
				if out2 != out || !cmp.Equal(saw2, saw) {
					t.Fatalf("%s: answered\n%s\nsaw %q\nin one piece: answered\n%s\nsaw %q", how, out2, saw2, out, saw)
				}
			}
			for i := 1; i < len(in); i++ {
				check("cut before "+string(in[i:]), bytes.Clone(in[:i]), bytes.Clone(in[i:]))
			}
			check("byte by byte", singly(in)...)
		})
	}
}

func singly(in []byte) (pieces [][]byte) {
	for _, c := range in {
		pieces = append(pieces, []byte{c})
	}
	return pieces
}

// TestLargeMessages has messages that outgrow each size of the buffer, kept and
// not, in reads of many sizes, with stuffed dots throughout.
func TestLargeMessages(t *testing.T) {
	line := "." + strings.Repeat("x", 71) + "\r\n"
	for _, size := range []int{smallBuffer, bigBuffer, maxKept, 3 * maxKept} {
		content := strings.Repeat(line, size/len(line)+1)
		stuffed := strings.ReplaceAll(content, "\r\n.", "\r\n..")
		in := begin
		for range 2 {
			in += "DATA\r\n." + stuffed + ".\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n"
			in += "BDAT " + itoa(len(content)) + " LAST\r\n" + content + "MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n"
			in += "BDAT 74\r\n" + content[:74] + "BDAT " + itoa(len(content)-74) + " LAST\r\n" + content[74:] + "MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n"
		}
		for _, discard := range []bool{false, true} {
			for _, step := range []int{1000, 4096, 65536, len(in)} {
				var pieces [][]byte
				for rest := []byte(in); len(rest) > 0; {
					n := min(step, len(rest))
					pieces, rest = append(pieces, rest[:n]), rest[n:]
				}
				o := Options{Extensions: bare, Chunking: true, Discard: discard}
				got := 0
				o.MaxMessage = len(content)
				_, saw := play(t, o, nil, pieces...)
				want := "content a@x.test [b@y.test] " + itoa(len(content)) + " "
				if discard {
					want += "discarded"
				} else {
					want += hex(fnv([]byte(content))) + "…"
				}
				for _, s := range saw {
					if strings.HasPrefix(s, "content") {
						if got++; s != want {
							t.Fatalf("size %d, reads of %d: %s, want %s", size, step, s, want)
						}
					}
				}
				if got != 6 {
					t.Errorf("size %d, reads of %d: %d messages, want 6: %q", size, step, got, saw)
				}
			}
		}
	}
}
