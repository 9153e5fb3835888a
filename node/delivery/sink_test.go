package delivery_test

import (
	"bytes"
	"net"
)

// sink is a receiver that takes everything, offers PIPELINING, and allocates
// nothing for a message: for benchmarks.
type sink struct {
	conn    net.Conn
	caps    string
	buf     [128 << 10]byte
	n       int
	out     []byte
	content bool
	chunk   int
	taken   int
}

func (s *sink) serve() {
	s.caps += "250-sink\r\n250 PIPELINING\r\n"
	_, _ = s.conn.Write([]byte("220 sink\r\n"))
	for {
		k, err := s.conn.Read(s.buf[s.n:])
		if err != nil {
			return
		}
		s.n += k
		used := s.work(s.buf[:s.n])
		s.n = copy(s.buf[:], s.buf[used:s.n])
		if len(s.out) > 0 {
			if _, err := s.conn.Write(s.out); err != nil {
				return
			}
			s.out = s.out[:0]
		}
	}
}

// work handles what is complete in b and returns how much that was.
func (s *sink) work(b []byte) (used int) {
	for {
		rest := b[used:]
		switch {
		case s.chunk > 0:
			n := min(s.chunk, len(rest))
			used += n
			if s.chunk -= n; s.chunk > 0 {
				return used
			}
			s.take()
			continue
		case s.content:
			i := bytes.Index(rest, []byte("\r\n.\r\n"))
			if i < 0 {
				return used
			}
			used += i + 5
			s.content = false
			s.take()
			continue
		}
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			return used
		}
		used += i + 1
		s.command(rest[:i])
	}
}

func (s *sink) take() {
	s.taken++
	s.out = append(s.out, "250 2.0.0 Ok: queued as 4bX1yZ0abcz9rSt\r\n"...)
}

func (s *sink) command(line []byte) {
	switch line[0] {
	case 'E':
		s.out = append(s.out, s.caps...)
	case 'D':
		s.content = true
		s.out = append(s.out, "354 End data with <CR><LF>.<CR><LF>\r\n"...)
	case 'B':
		for _, c := range line[5:] {
			if c < '0' || c > '9' {
				break
			}
			s.chunk = s.chunk*10 + int(c-'0')
		}
	case 'Q':
		s.out = append(s.out, "221 2.0.0 Bye\r\n"...)
	default:
		s.out = append(s.out, "250 2.1.0 Ok\r\n"...)
	}
}
