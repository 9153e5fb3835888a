package feedback

import (
	"bytes"
	"encoding/base64"
	"strings"
)

// field is one header field: where it stands in the text, still folded.
type field struct{ name, value []byte }

// fields is a header section.
type fields []field

// readHeader reads header fields up to the first line that is none and returns
// what follows. It takes bare LF as line end, space before the colon, and a
// leading "From " of mailboxes: reports are often damaged, and nobody relays
// them on from here.
func readHeader(b []byte) (fs fields, rest []byte, whole bool) {
	if bytes.HasPrefix(b, []byte("From ")) || bytes.HasPrefix(b, []byte(">From ")) {
		_, b = cutLine(b)
	}
	left := MaxHeader
	for len(b) > 0 {
		line, next := cutLine(b)
		if len(line) == 0 {
			return fs, next, true
		}
		colon := bytes.IndexByte(line, ':')
		name := line
		if colon >= 0 {
			name = bytes.TrimRight(line[:colon], " \t")
		}
		if colon < 0 || !isFieldName(name) {
			return fs, b, true
		}
		end := len(b) - len(next)
		for len(next) > 0 && (next[0] == ' ' || next[0] == '\t') {
			_, next = cutLine(next)
			end = len(b) - len(next)
		}
		if left -= end; len(fs) == MaxFields || left < 0 {
			return fs, skipHeader(next), false
		}
		fs = append(fs, field{name, bytes.TrimSpace(b[colon+1 : end])})
		b = next
	}
	return fs, nil, true
}

// skipHeader finds the end of a section of which no more is kept.
func skipHeader(b []byte) []byte {
	for len(b) > 0 {
		line, next := cutLine(b)
		if len(line) == 0 {
			return next
		}
		b = next
	}
	return nil
}

// cutLine cuts off the first line, without its end.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return bytes.TrimRight(b, "\r"), nil
	}
	return bytes.TrimRight(b[:i], "\r"), b[i+1:]
}

func isFieldName(b []byte) bool {
	if len(b) == 0 || len(b) > 76 {
		return false
	}
	for _, c := range b {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// get is the first field of that name, unfolded; "" if there is none.
func (fs fields) get(name string) string {
	for i := range fs {
		if len(fs[i].name) == len(name) && strings.EqualFold(string(fs[i].name), name) {
			return unfold(fs[i].value)
		}
	}
	return ""
}

// has reports whether there is such a field, be it empty.
func (fs fields) has(name string) bool {
	for i := range fs {
		if len(fs[i].name) == len(name) && strings.EqualFold(string(fs[i].name), name) {
			return true
		}
	}
	return false
}

// unfold joins the lines of a value by one space each.
func unfold(b []byte) string {
	if bytes.IndexByte(b, '\n') < 0 {
		return string(b)
	}
	var out []byte
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if len(out) > 0 {
				out = append(out, ' ')
			}
			out = append(out, line...)
		}
	}
	return string(out)
}

// decodeWords decodes the encoded words of a value (RFC 2047) to bytes of
// whatever character set they are in: phrases are known in several, so none is
// converted.
func decodeWords(s string) string {
	if !strings.Contains(s, "=?") {
		return s
	}
	var out []byte
	between := false // only space since the last encoded word
	for len(s) > 0 {
		i := strings.Index(s, "=?")
		if i < 0 {
			break
		}
		text, next, ok := oneWord(s[i:])
		if !ok {
			out = append(out, s[:i+2]...)
			s, between = s[i+2:], false
			continue
		}
		if gap := s[:i]; !between || strings.TrimSpace(gap) != "" {
			out = append(out, gap...)
		}
		out = append(out, text...)
		s, between = next, true
	}
	return string(append(out, s...))
}

// oneWord decodes the encoded word with which s begins.
func oneWord(s string) (text []byte, rest string, ok bool) {
	p := strings.SplitN(s[2:min(len(s), 2000)], "?", 4)
	if len(p) != 4 || len(p[1]) != 1 || len(p[0]) > 60 || !strings.HasPrefix(p[3], "=") {
		return nil, "", false
	}
	rest = s[2+len(p[0])+len(p[1])+len(p[2])+4:]
	switch p[1][0] | 0x20 {
	case 'b':
		return decodeBase64([]byte(p[2])), rest, true
	case 'q':
		return decodeQuoted([]byte(strings.ReplaceAll(p[2], "_", " "))), rest, true
	}
	return nil, "", false
}

// mediaType is a Content-Type: "multipart/report" and its parameters.
type mediaType struct {
	name   string
	params [][2]string
}

// parseMediaType reads a Content-Type as far as it can be read. The standard
// library's refuses what several mail systems write.
func parseMediaType(s string) mediaType {
	name, rest, _ := strings.Cut(s, ";")
	m := mediaType{name: strings.ToLower(strings.TrimSpace(name))}
	for rest != "" && len(m.params) < 20 {
		var key string
		key, rest, _ = strings.Cut(rest, "=")
		if i := strings.LastIndexByte(key, ';'); i >= 0 {
			key = key[i+1:]
		}
		var value string
		value, rest = paramValue(strings.TrimLeft(rest, " \t"))
		m.params = append(m.params, [2]string{strings.ToLower(strings.TrimSpace(key)), value})
	}
	return m
}

// paramValue reads one value, quoted or not, up to the next semicolon.
func paramValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		value, rest, _ = strings.Cut(s, ";")
		return strings.TrimSpace(value), rest
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			_, rest, _ = strings.Cut(s[i+1:], ";")
			return unescape(s[1:i]), rest
		}
	}
	return strings.TrimPrefix(s, `"`), ""
}

func (m *mediaType) param(name string) string {
	for _, p := range m.params {
		if p[0] == name {
			return p[1]
		}
	}
	return ""
}

// decodeBase64 decodes what can be decoded and passes over the rest.
func decodeBase64(b []byte) []byte {
	clean := make([]byte, 0, len(b))
	for _, c := range b {
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '+', c == '/':
			clean = append(clean, c)
		}
	}
	if len(clean)%4 == 1 {
		clean = clean[:len(clean)-1]
	}
	n, _ := base64.RawStdEncoding.Decode(clean, clean) // in place: it writes behind what it reads
	return clean[:n]
}

// decodeQuoted decodes quoted-printable; what is not, stays.
func decodeQuoted(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		i := bytes.IndexByte(b, '=')
		if i < 0 {
			return append(out, b...)
		}
		out = append(out, b[:i]...)
		b = b[i:]
		if line, rest := cutLine(b[1:]); len(bytes.TrimRight(line, " \t")) == 0 { // soft line break
			b = rest
			continue
		}
		if len(b) > 2 {
			if hi, lo := unhex(b[1]), unhex(b[2]); hi < 16 && lo < 16 {
				out, b = append(out, hi<<4|lo), b[3:]
				continue
			}
		}
		out, b = append(out, '='), b[1:]
	}
	return out
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}
