package feedback

import "bytes"

// part is a leaf of a mail: a body with the header that describes it. A message
// within the mail is a leaf too.
type part struct {
	header fields
	kind   mediaType
	body   []byte // decoded
	depth  int
}

// tree reads a mail into its leaves.
type tree struct {
	leaves    []part
	parts     int
	truncated bool
}

// read takes one entity apart. Each level passes over its bytes once to look for
// boundaries and once to decode, so the work is at most MaxDepth times the
// input, and decoding only ever makes less of it.
func (t *tree) read(h fields, body []byte, depth int) {
	kind := parseMediaType(h.get("Content-Type"))
	if t.parts++; t.parts > MaxParts {
		t.truncated = true
		return
	}
	boundary := kind.param("boundary")
	if len(boundary) > maxBoundary {
		boundary = ""
	}
	isMultipart := len(kind.name) > 10 && kind.name[:10] == "multipart/"
	if boundary == "" && isMultipart {
		boundary = guessBoundary(body, 60) // the rest of a torn header may stand before
	} else if boundary == "" && kind.name == "" {
		boundary = guessBoundary(body, 8) // later ones are of a message that is quoted
	}
	if isMultipart && boundary == "" {
		kind.name = "text/plain" // no parts to be found: text after all
	}
	if boundary == "" || (!isMultipart && kind.name != "") {
		if wanted(kind.name) {
			body = decodeTransfer(h.get("Content-Transfer-Encoding"), body)
		} else {
			body = nil
		}
		t.leaves = append(t.leaves, part{h, kind, body, depth})
		return
	}
	if depth == MaxDepth {
		t.truncated = true
		return
	}
	t.leaves = append(t.leaves, part{header: h, kind: kind, depth: depth}) // the container itself: its type says much
	before := len(t.leaves)
	t.split(body, boundary, depth)
	if len(t.leaves) == before && !t.truncated { // its boundary is nowhere: text after all
		t.leaves = append(t.leaves, part{h, mediaType{name: "text/plain"}, body, depth})
	}
}

// split reads the parts between boundaries. A multipart that never ends, ends
// with the mail.
func (t *tree) split(body []byte, boundary string, depth int) {
	mark := append([]byte("--"), boundary...)
	start := -1 // of the part under way
	for at := 0; t.parts < MaxParts; {
		line, next, last := nextMark(body, mark, at)
		if start >= 0 {
			h, content, whole := readHeader(body[start:line])
			t.truncated = t.truncated || !whole
			t.read(h, content, depth+1)
		}
		if last {
			return
		}
		start, at = next, next
	}
	t.truncated = true
}

// nextMark finds the next boundary line: where it begins, what follows it, and
// whether it was the last, or none was left.
func nextMark(body, mark []byte, at int) (line, next int, last bool) {
	for {
		i := bytes.Index(body[at:], mark)
		if i < 0 {
			return len(body), len(body), true
		}
		line, at = at+i, at+i+len(mark)
		if line > 0 && body[line-1] != '\n' {
			continue
		}
		tail, rest := cutLine(body[at:])
		tail = bytes.TrimRight(tail, " \t")
		if end := bytes.Equal(tail, []byte("--")); end || len(tail) == 0 {
			return line, len(body) - len(rest), end
		}
	}
}

// guessBoundary is for multiparts whose Content-Type lost its boundary, and for
// bodies that begin with one although nothing says that they are multipart.
func guessBoundary(body []byte, lines int) string {
	for range lines {
		if len(body) == 0 {
			break
		}
		var line []byte
		line, body = cutLine(body)
		if len(line) < 6 || len(line) > 80 || line[0] != '-' || line[1] != '-' {
			continue
		}
		next, _ := cutLine(body)
		if len(next) > 8 && bytes.EqualFold(next[:8], []byte("Content-")) {
			return string(bytes.TrimRight(line[2:], " \t"))
		}
	}
	return ""
}

// wanted says which leaves are read. "" is text/plain (RFC 2045 5.2).
func wanted(kind string) bool {
	for _, k := range []string{"text/", "message/", "multipart/", "application/octet-stream", "application/xml"} {
		if len(kind) >= len(k) && kind[:len(k)] == k {
			return true
		}
	}
	return kind == "" || kind == "text" || bytes.IndexByte([]byte(kind), '/') < 0
}

// decodeTransfer undoes a content transfer encoding. RFC 2046 5.2.1 and RFC 3464
// 2.1 want none on reports and messages; some systems put one there.
func decodeTransfer(encoding string, b []byte) []byte {
	switch {
	case bytes.EqualFold([]byte(encoding), []byte("base64")):
		return decodeBase64(b)
	case bytes.EqualFold([]byte(encoding), []byte("quoted-printable")):
		return decodeQuoted(b)
	}
	return b
}
