package ingest

// maxFromAddresses bounds the mailboxes of a From header that are looked at.
const maxFromAddresses = 50

// eachFromAddress calls fn with the address of each mailbox in the value of a
// From header (RFC 5322 3.4: mailbox-list, and groups as RFC 6854 allows),
// without display names and comments. It returns false when the value cannot
// be read or fn returned false. It is a reader for one purpose: to be sure
// whose domains stand there. What it does not understand it refuses.
func eachFromAddress(value []byte, fn func(address []byte) bool) bool {
	return new(fromParser).each(value, fn)
}

// each is eachFromAddress with a parser that was used before.
func (p *fromParser) each(value []byte, fn func(address []byte) bool) bool {
	p.rest, p.fn = value, fn
	p.n, p.angleN, p.inAngle, p.closed, p.depth, p.gap, p.found = 0, 0, false, false, 0, false, 0
	for len(p.rest) > 0 {
		if !p.next() {
			return false
		}
	}
	return p.depth == 0 && !p.inAngle && p.mailbox()
}

type fromParser struct {
	rest    []byte
	fn      func([]byte) bool
	buf     [320]byte // what stands outside angle brackets
	n       int
	angle   [320]byte
	angleN  int
	inAngle bool
	closed  bool // this mailbox had its <address>
	depth   int  // of comments
	gap     bool // white space since the last byte of text
	found   int
}

// next takes one token's worth of input.
func (p *fromParser) next() bool {
	c := p.rest[0]
	switch {
	case p.depth > 0 || c == '(':
		return p.comment()
	case c == ' ' || c == '\t' || c == '\r' || c == '\n':
		p.rest, p.gap = p.rest[1:], true
		return true
	case c == '"':
		return p.quoted()
	case p.inAngle && c == '>':
		p.inAngle, p.closed = false, true
	case p.inAngle:
		return p.put(c)
	case c == '<':
		if p.closed || p.inAngle {
			return false
		}
		p.inAngle, p.gap = true, false
	case c == ',' || c == ';':
		if !p.mailbox() {
			return false
		}
	case c == ':': // what stood before was a group's name
		p.n, p.gap = 0, false
	default:
		return p.put(c)
	}
	p.rest = p.rest[1:]
	return true
}

// comment skips over comments, nested and quoted as they may be.
func (p *fromParser) comment() bool {
	switch p.rest[0] {
	case '(':
		if p.depth++; p.depth > 20 {
			return false
		}
	case ')':
		p.depth--
		p.gap = true
	case '\\':
		if len(p.rest) < 2 {
			return false
		}
		p.rest = p.rest[1:]
	}
	p.rest = p.rest[1:]
	return true
}

// quoted takes a quoted string with its quotes: a display name or a local part.
func (p *fromParser) quoted() bool {
	if !p.put('"') {
		return false
	}
	for len(p.rest) > 0 {
		c := p.rest[0]
		if c == '\\' && len(p.rest) > 1 {
			if !p.put(c) {
				return false
			}
			c = p.rest[0]
			if !p.put(c) {
				return false
			}
			continue
		}
		if (c == '\r' || c == '\n') && !p.inAngle { // folding in a display name
			p.rest = p.rest[1:]
			continue
		}
		if !p.put(c) {
			return false
		}
		if c == '"' {
			return true
		}
	}
	return false
}

// put adds a byte to the address or the text. Outside the brackets text that
// does not fit is a display name and no address; it is marked by its length.
func (p *fromParser) put(c byte) bool {
	p.rest = p.rest[1:]
	if p.inAngle {
		if (p.gap && p.angleN > 0) || p.angleN == len(p.angle) {
			return false // a space inside an address
		}
		p.gap = false
		p.angle[p.angleN] = c
		p.angleN++
		return true
	}
	if p.n < len(p.buf) {
		if p.gap && p.n > 0 {
			p.buf[p.n] = ' '
			if p.n++; p.n == len(p.buf) {
				return true
			}
		}
		p.buf[p.n] = c
		p.n++
	}
	p.gap = false
	return true
}

// mailbox ends one element of the list.
func (p *fromParser) mailbox() bool {
	address := p.buf[:p.n]
	if p.closed {
		address = p.angle[:p.angleN]
	}
	closed := p.closed
	p.n, p.angleN, p.closed, p.gap = 0, 0, false, false
	if len(address) == 0 && !closed {
		return true // an empty element: obsolete, harmless
	}
	if p.found++; p.found > maxFromAddresses {
		return false
	}
	return p.fn(address)
}
