package sink

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Received is one message as the sink saw it. Data is only valid during the
// call.
type Received struct {
	From   string
	To     []string // accepted recipients
	Data   []byte   // dot-stuffing undone
	EHLO   string
	Remote net.Addr
	At     time.Time
}

// Options say how the sink behaves. The zero value accepts everything on a
// free loopback port.
type Options struct {
	Listen     string                               // default 127.0.0.1:0
	Extensions []string                             // EHLO lines; default PIPELINING, 8BITMIME, SMTPUTF8, SIZE, DSN, ENHANCEDSTATUSCODES
	Chunking   bool                                 // offer CHUNKING and take BDAT
	TLS        *tls.Config                          // offer STARTTLS
	Recipient  func(from, to string) (reply string) // "" or "250 …" accepts
	Message    func(*Received) (reply string)       // "" accepts
}

// Sink is a running server.
type Sink struct {
	Addr string
	opts Options
	l    net.Listener
	wg   sync.WaitGroup
	mu   struct {
		sync.Mutex
		conns  map[net.Conn]bool
		closed bool
	}
}

// Start listens and serves until Close.
func Start(o Options) (*Sink, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Extensions == nil {
		o.Extensions = []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 104857600", "DSN", "ENHANCEDSTATUSCODES"}
	}
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	s := &Sink{Addr: l.Addr().String(), opts: o, l: l}
	s.mu.conns = map[net.Conn]bool{}
	s.wg.Go(s.accept)
	return s, nil
}

// Close ends all connections and waits for them.
func (s *Sink) Close() error {
	err := s.l.Close()
	s.mu.Lock()
	s.mu.closed = true
	for c := range s.mu.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return err
}

func (s *Sink) accept() {
	for {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.mu.closed {
			s.mu.Unlock()
			c.Close()
			return
		}
		s.mu.conns[c] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			defer func() {
				c.Close()
				s.mu.Lock()
				delete(s.mu.conns, c)
				s.mu.Unlock()
			}()
			ss := &session{sink: s, conn: c, r: bufio.NewReaderSize(c, 64<<10), w: bufio.NewWriterSize(c, 4<<10)}
			_ = ss.serve()
		})
	}
}

// session is one connection.
type session struct {
	sink *Sink
	conn net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
	ehlo string
	from string
	mail bool
	to   []string
	data []byte
}

var errQuit = errors.New("quit")

func (s *session) serve() error {
	s.reply("220 sink.test ESMTP")
	for {
		if s.r.Buffered() == 0 {
			if err := s.w.Flush(); err != nil {
				return err
			}
		}
		line, err := s.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		cmd, ok := bytes.CutSuffix(line, []byte("\r\n"))
		if !ok {
			s.reply("500 5.5.2 command not ended by CRLF")
			_ = s.w.Flush()
			return io.ErrUnexpectedEOF
		}
		if err := s.command(string(cmd)); err != nil {
			_ = s.w.Flush()
			return err
		}
	}
}

func (s *session) reply(line string) {
	s.w.WriteString(line)
	s.w.WriteString("\r\n")
}

func (s *session) command(line string) error {
	verb, arg, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO", "HELO":
		s.greet(arg, strings.EqualFold(verb, "EHLO"))
	case "STARTTLS":
		return s.startTLS()
	case "MAIL":
		s.reset()
		s.from, s.mail = path(arg), true
		s.reply("250 2.1.0 ok")
	case "RCPT":
		s.rcpt(path(arg))
	case "DATA":
		if len(s.to) == 0 {
			s.reply("503 5.5.1 no recipients")
			return nil
		}
		s.reply("354 go on")
		return s.readData()
	case "BDAT":
		return s.bdat(arg)
	case "RSET":
		s.reset()
		s.reply("250 2.0.0 ok")
	case "NOOP":
		s.reply("250 2.0.0 ok")
	case "QUIT":
		s.reply("221 2.0.0 bye")
		return errQuit
	default:
		s.reply("500 5.5.1 unknown command")
	}
	return nil
}

func (s *session) greet(name string, extended bool) {
	s.ehlo = name
	if !extended {
		s.reply("250 sink.test")
		return
	}
	lines := append([]string{"sink.test"}, s.sink.opts.Extensions...)
	if s.sink.opts.Chunking {
		lines = append(lines, "CHUNKING")
	}
	if _, secure := s.conn.(*tls.Conn); s.sink.opts.TLS != nil && !secure {
		lines = append(lines, "STARTTLS")
	}
	for i, l := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		s.reply("250" + sep + l)
	}
}

func (s *session) startTLS() error {
	if s.sink.opts.TLS == nil || s.r.Buffered() > 0 {
		s.reply("503 5.5.1 not now")
		return nil
	}
	s.reply("220 2.0.0 go on")
	if err := s.w.Flush(); err != nil {
		return err
	}
	c := tls.Server(s.conn, s.sink.opts.TLS)
	if err := c.Handshake(); err != nil {
		return err
	}
	s.conn, s.r, s.w = c, bufio.NewReaderSize(c, 64<<10), bufio.NewWriterSize(c, 4<<10)
	s.reset()
	return nil
}

func (s *session) rcpt(to string) {
	if !s.mail {
		s.reply("503 5.5.1 MAIL first")
		return
	}
	reply := ""
	if s.sink.opts.Recipient != nil {
		reply = s.sink.opts.Recipient(s.from, to)
	}
	if reply == "" {
		reply = "250 2.1.5 ok"
	}
	if strings.HasPrefix(reply, "2") {
		s.to = append(s.to, to)
	}
	s.reply(reply)
}

// path takes what stands between the first < and the last > of "FROM:<…> …".
func path(arg string) string {
	i, j := strings.IndexByte(arg, '<'), strings.LastIndexByte(arg, '>')
	if i < 0 || j < i {
		return arg
	}
	return arg[i+1 : j]
}

func (s *session) reset() {
	s.from, s.mail, s.to, s.data = "", false, s.to[:0], s.data[:0]
}

// readData reads to CRLF "." CRLF and nothing else. Lines that do not end in
// CRLF are content.
func (s *session) readData() error {
	if err := s.w.Flush(); err != nil {
		return err
	}
	s.data = s.data[:0]
	lineStart := true
	for {
		line, err := s.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		if lineStart && len(line) > 0 && line[0] == '.' {
			if string(line) == ".\r\n" {
				break
			}
			line = line[1:]
		}
		s.data = append(s.data, line...)
		lineStart = bytes.HasSuffix(s.data, []byte("\r\n"))
	}
	s.finish()
	return nil
}

func (s *session) bdat(arg string) error {
	size, last, _ := strings.Cut(arg, " ")
	n, err := strconv.Atoi(size)
	if err != nil || n < 0 || n > 256<<20 {
		s.reply("501 5.5.4 bad size")
		return errQuit
	}
	at := len(s.data)
	s.data = append(s.data, make([]byte, n)...)
	if _, err := io.ReadFull(s.r, s.data[at:]); err != nil {
		return err
	}
	switch {
	case len(s.to) == 0:
		s.reply("503 5.5.1 no recipients")
		s.data = s.data[:0]
	case strings.EqualFold(last, "LAST"):
		s.finish()
	default:
		s.reply("250 2.0.0 ok")
	}
	return nil
}

func (s *session) finish() {
	reply := ""
	if s.sink.opts.Message != nil {
		reply = s.sink.opts.Message(&Received{From: s.from, To: s.to, Data: s.data, EHLO: s.ehlo, Remote: s.conn.RemoteAddr(), At: time.Now()})
	}
	if reply == "" {
		reply = "250 2.0.0 ok"
	}
	s.reply(reply)
	s.reset()
}

// ByName is an Options.Recipient that answers by the local part: "bounce…" is
// refused for good, "defer…" for now.
func ByName(_, to string) string {
	switch {
	case strings.HasPrefix(to, "bounce"):
		return "550 5.1.1 no such user here"
	case strings.HasPrefix(to, "defer"):
		return "451 4.7.1 try again later"
	}
	return ""
}
