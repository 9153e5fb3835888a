package smtp

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"hikyaku/spool/message"
)

func TestReplies(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		code     uint16
		enhanced string
		text     string
	}{
		{"plain", "250 ok\r\n", 250, "", "ok"},
		{"no text", "250 \r\n", 250, "", ""},
		{"code alone", "354\r\n", 354, "", ""},
		{"bare LF", "250 ok\n", 250, "", "ok"},
		{"enhanced", "550 5.1.1 no such user\r\n", 550, "5.1.1", "no such user"},
		{"enhanced alone", "250 2.1.5\r\n", 250, "2.1.5", ""},
		{"enhanced with three digits", "554 5.7.515 no\r\n", 554, "5.7.515", "no"},
		{"enhanced of another class is kept", "550 4.7.1 odd\r\n", 550, "4.7.1", "odd"},
		{"no enhanced: class 3", "354 3.0.0 go\r\n", 354, "", "3.0.0 go"},
		{"no enhanced: an address", "550 5.1.1.1 is no host\r\n", 550, "", "5.1.1.1 is no host"},
		{"no enhanced: four digits", "550 5.1234.1 x\r\n", 550, "", "5.1234.1 x"},
		{"no enhanced: a version", "220 2.0 mailer\r\n", 220, "", "2.0 mailer"},
		{"lines", "250-a\r\n250-b\r\n250 c\r\n", 250, "", "a\nb\nc"},
		{"enhanced on each line", "550-5.7.26 one\r\n550-5.7.26 two\r\n550 5.7.26 three\r\n", 550, "5.7.26", "one\ntwo\nthree"},
		{"another enhanced on a later line stays", "550-5.7.1 one\r\n550 5.7.2 two\r\n", 550, "5.7.1", "one\n5.7.2 two"},
		{"empty lines", "250-\r\n250-\r\n250 x\r\n", 250, "", "\n\nx"},
		{"control bytes", "250 a\x00\x1b[2Jb\x7f\tc\rd\r\n", 250, "", "a??[2Jb? c?d"},
		{"UTF-8 stays", "250 受付\r\n", 250, "", "受付"},
		{"not UTF-8", "250 \xe5\xff!\r\n", 250, "", "??!"},
		{"C1 and line separators", "250 \u0085\u009b\u2028.\r\n", 250, "", "???."},
	} {
		for _, split := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader} {
			var r ReplyReader
			var rep RemoteReply
			r.Reset(split(strings.NewReader(tc.in)))
			if err := r.Read(&rep); err != nil {
				t.Errorf("%s: %v", tc.name, err)
				continue
			}
			got := rep.Keep(message.PhaseDot)
			want := message.Reply{Code: tc.code, Text: tc.text, Phase: message.PhaseDot}
			want.Enhanced, _ = message.ParseEnhanced(tc.enhanced)
			if got != want {
				t.Errorf("%s: got %+v, want %+v", tc.name, got, want)
			}
			if err := r.Read(&rep); err != io.EOF {
				t.Errorf("%s: then %v, want EOF", tc.name, err)
			}
		}
	}
}

func TestBadReplies(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"empty line", "\r\n", "want a line with a code"},
		{"words", "hello\r\n", "want a line with a code"},
		{"code 199", "199 x\r\n", "want a line with a code"},
		{"code 600", "600 x\r\n", "want a line with a code"},
		{"two digits", "25 x\r\n", "want a line with a code"},
		{"no space", "250ok\r\n", "want a space or hyphen"},
		{"other code within", "250-a\r\n251 b\r\n", "code changes from 250 to 251"},
		{"long line", "250 " + strings.Repeat("x", MaxReplyLine) + "\r\n", "line longer than 4096 bytes"},
		{"many lines", strings.Repeat("250-x\r\n", MaxReplyLines) + "250 x\r\n", "more than 128 lines"},
		{"many bytes", strings.Repeat("250-"+strings.Repeat("x", 2000)+"\r\n", 9), "longer than 16384 bytes"},
		{"control bytes are not echoed", "\x1b[2J\r\n", `got "?[2J"`},
	} {
		var r ReplyReader
		var rep RemoteReply
		r.Reset(strings.NewReader(tc.in))
		err := r.Read(&rep)
		if !IsReplyError(err) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestRepliesThatEndEarly(t *testing.T) {
	for in, want := range map[string]error{
		"":                   io.EOF,
		"2":                  io.ErrUnexpectedEOF,
		"250 ok":             io.ErrUnexpectedEOF,
		"250-a\r\n":          io.ErrUnexpectedEOF,
		"250-a\r\n250 b\r":   io.ErrUnexpectedEOF,
		"250-a\r\n250-b\r\n": io.ErrUnexpectedEOF,
	} {
		var r ReplyReader
		var rep RemoteReply
		r.Reset(strings.NewReader(in))
		if err := r.Read(&rep); err != want {
			t.Errorf("%q: got %v, want %v", in, err, want)
		}
	}
	var r ReplyReader
	var rep RemoteReply
	r.Reset(silent{})
	if err := r.Read(&rep); err != io.ErrNoProgress {
		t.Errorf("a reader that gives nothing: %v", err)
	}
}

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

func TestBufferedCountsWhatIsBehindAReply(t *testing.T) {
	var r ReplyReader
	var rep RemoteReply
	r.Reset(strings.NewReader("220 go\r\n250 injected\r\n"))
	if err := r.Read(&rep); err != nil || r.Buffered() != len("250 injected\r\n") {
		t.Errorf("%d bytes buffered, %v", r.Buffered(), err)
	}
}

func TestKeptTextIsBounded(t *testing.T) {
	var r ReplyReader
	var rep RemoteReply
	r.Reset(strings.NewReader("250-" + strings.Repeat("語", 600) + "\r\n250 " + strings.Repeat("語", 600) + "\r\n"))
	if err := r.Read(&rep); err != nil {
		t.Fatal(err)
	}
	got := rep.Keep(message.PhaseDot).Text
	if len(got) > message.MaxReplyText || len(got) < message.MaxReplyText-3 || !utf8.ValidString(got) {
		t.Errorf("%d bytes kept, valid %v", len(got), utf8.ValidString(got))
	}
}

func TestReadingRepliesDoesNotAllocate(t *testing.T) {
	in := []byte("250-2.1.0 first\r\n250 2.1.0 Ok\r\n")
	src := bytes.NewReader(in)
	var r ReplyReader
	var rep RemoteReply
	r.Reset(src)
	if err := r.Read(&rep); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		src.Reset(in)
		if err := r.Read(&rep); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzReply: whatever a server says, replies stay within their bounds, and
// how the bytes arrive makes no difference.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "250-a\r\n250 b\r\n", "550 5.1.1 x\n", "250-\x00\r\n25", "354", "999 x\r\n", "250-5.7.1 a\r\n250 5.7.1\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		type step struct {
			reply message.Reply
			err   string
		}
		read := func(src io.Reader) (steps []step) {
			var r ReplyReader
			var rep RemoteReply
			r.Reset(src)
			for {
				err := r.Read(&rep)
				if err != nil {
					return append(steps, step{err: err.Error()})
				}
				k := rep.Keep(message.PhaseDot)
				steps = append(steps, step{reply: k})
				if k.Code < 200 || k.Code > 599 || len(k.Text) > message.MaxReplyText || !utf8.ValidString(k.Text) {
					t.Fatalf("reply %+v", k)
				}
				for _, c := range k.Text {
					if (c < ' ' && c != '\n') || (c >= 0x7f && c < 0xa0) {
						t.Fatalf("control byte in %q", k.Text)
					}
				}
			}
		}
		whole, single := read(bytes.NewReader(in)), read(iotest.OneByteReader(bytes.NewReader(in)))
		if len(whole) != len(single) {
			t.Fatalf("%d replies at once, %d byte by byte", len(whole), len(single))
		}
		for i := range whole {
			if whole[i] != single[i] {
				t.Fatalf("reply %d: %+v at once, %+v byte by byte", i, whole[i], single[i])
			}
		}
	})
}

func TestReplyErrorIsFound(t *testing.T) {
	if IsReplyError(io.EOF) || IsReplyError(nil) || !IsReplyError(errors.Join(&ReplyError{"x"})) {
		t.Error("IsReplyError is wrong")
	}
}
