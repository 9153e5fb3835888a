package sink

import "bytes"

// stuffing is how a line begins that starts with a dot, seen from the line
// before it. The end of data is one of these, followed by CRLF.
var stuffing = []byte("\r\n.")

// A scan looks for the end of DATA in content that arrives in pieces. Only
// CRLF "." CRLF ends it, or "." CRLF as its first line (RFC 5321 4.1.1.4). A
// line that ends in a bare LF or CR is no line: a dot behind it is text.
//
// A search for CRLF "." finds both the end and the stuffed dots, and costs
// little more than the search for CR that it begins with.
type scan struct {
	at    int  // raw[:at] holds no end of data; where to go on
	begun bool // the first line was looked at
	dots  int  // stuffed dots in raw[:at]
	first int  // where the first of them stands
	end   int  // where the dot of the end of data stands
}

// find looks at all content received so far, which the call before may have
// seen a shorter form of. When it finds the end, raw[:s.end] is the content
// as sent and three bytes follow it.
func (s *scan) find(raw []byte) bool {
	if !s.begun {
		if len(raw) == 0 {
			return false
		}
		if raw[0] == '.' {
			known, end := s.dot(raw, 0)
			if !known || end {
				return end
			}
		}
		s.begun = true
	}
	for {
		i := bytes.Index(raw[s.at:], stuffing)
		if i < 0 {
			// The last two bytes may be the CRLF of the next one.
			s.at = max(s.at, len(raw)-2)
			return false
		}
		s.at += i
		known, end := s.dot(raw, s.at+2)
		if !known || end {
			return end
		}
	}
}

// dot judges the dot that begins a line. known is false when what follows has
// not arrived.
func (s *scan) dot(raw []byte, at int) (known, end bool) {
	switch rest := raw[at+1:]; {
	case len(rest) >= 2 && rest[0] == '\r' && rest[1] == '\n':
		s.end = at
		return true, true
	case len(rest) == 0 || len(rest) == 1 && rest[0] == '\r':
		return false, false
	}
	if s.dots == 0 {
		s.first = at
	}
	s.dots++
	s.at = at + 1
	return true, false
}

// forget tells the scan that raw[:s.at] is gone.
func (s *scan) forget() { s.at = 0 }

// unstuff removes the dots of lines that begin with one, in place. b[first] is
// the first of them.
func unstuff(b []byte, first int) []byte {
	n, rest := first, b[first+1:]
	for {
		i := bytes.Index(rest, stuffing)
		if i < 0 {
			n += copy(b[n:], rest)
			return b[:n]
		}
		n += copy(b[n:], rest[:i+2])
		rest = rest[i+3:]
	}
}
