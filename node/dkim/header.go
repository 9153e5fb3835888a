package dkim

import "bytes"

// field is one header field of a message: positions in the header block.
type field struct {
	start, nameEnd, value, end int // value begins after the colon; end is before the final CRLF
	rank                       uint8
}

// unranked marks a field whose name no key signs.
const unranked = 0xff

// splitHeader finds where the header ends in a message given in segments, and
// appends the segments of the body to body. The header is a slice of the first
// segment, or is gathered in scratch when it goes over its edge; buf is scratch
// as it then stands.
func splitHeader(scratch []byte, raw, body [][]byte) (header []byte, _ [][]byte, buf []byte) {
	if len(raw) == 0 {
		return nil, body, scratch
	}
	if i := endOfHeader(raw[0], 0); i >= 0 {
		return raw[0][:i], append(append(body, raw[0][i+2:]), raw[1:]...), scratch
	}
	if len(raw) == 1 {
		return raw[0], body, scratch
	}
	buf = append(scratch[:0], raw[0]...)
	for n, seg := range raw[1:] {
		before, take := len(buf), len(seg)
		if i := bytes.Index(seg, emptyLine); i >= 0 {
			take = i + len(emptyLine) // do not copy the body that follows
		}
		buf = append(buf, seg[:take]...)
		// The empty line may have begun in an earlier segment.
		if i := endOfHeader(buf, max(0, before-len(emptyLine)+1)); i >= 0 {
			return buf[:i], append(append(body, seg[i+2-before:]), raw[n+2:]...), buf
		}
	}
	return buf, body, buf
}

var emptyLine = []byte("\r\n\r\n")

// endOfHeader is where the last field ends, after its CRLF, searching from
// from; -1 when there is no empty line. A message that begins with an empty
// line has no header.
func endOfHeader(b []byte, from int) int {
	if from == 0 && bytes.HasPrefix(b, crlf) {
		return 0
	}
	if i := bytes.Index(b[from:], emptyLine); i >= 0 {
		return from + i + 2
	}
	return -1
}

// parseFields appends the fields of a header block to fs, with the rank that
// ranks gives their lower-case names. Lines that are no field are left out: no
// name can pick them.
func parseFields(fs []field, b []byte, ranks map[string]uint8) []field {
	var name [maxName]byte
	for at := 0; at < len(b); {
		end := endOfField(b, at)
		f := field{start: at, end: end, rank: unranked}
		if i := bytes.IndexByte(b[at:end], ':'); i > 0 && !isSpace(b[at]) {
			f.value = at + i + 1
			f.nameEnd = at + i
			for f.nameEnd > at && isSpace(b[f.nameEnd-1]) {
				f.nameEnd-- // RFC 5322 4.5 (obs): white space before the colon
			}
			if n := f.nameEnd - at; n > 0 && n <= maxName {
				for j, c := range b[at:f.nameEnd] {
					name[j] = lower(c)
				}
				if r, ok := ranks[string(name[:n])]; ok {
					f.rank = r
				}
			}
			fs = append(fs, f)
		}
		at = min(end+2, len(b))
	}
	return fs
}

// endOfField is the position of the CRLF that ends the field, past all folds.
func endOfField(b []byte, at int) int {
	for {
		i := bytes.Index(b[at:], crlf)
		if i < 0 {
			return len(b)
		}
		at += i
		if at+2 >= len(b) || !isSpace(b[at+2]) {
			return at
		}
		at += 2
	}
}
