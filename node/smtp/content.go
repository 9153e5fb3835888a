package smtp

import "bytes"

// Defect is what makes content unfit to be passed on (design.md 5.5): one
// receiver's line end is another's text.
type Defect uint8

// The defects.
const (
	NoDefect Defect = iota
	BareCR
	BareLF
	NUL
	LongLine
	TooLarge
)

var defectNames = [...]string{"", "bare CR", "bare LF", "NUL", "line too long", "message too large"}

// String is the words used in replies and metrics.
func (d Defect) String() string { return defectNames[d] }

// Verdict is what a scan found.
type Verdict uint8

// The verdicts.
const (
	More      Verdict = iota // all of the input is content; the end is not in it
	End                      // CRLF.CRLF: content is complete
	LookAlike                // something that other parsers take for the end of data, and we do not
)

// ContentRules are how one message's content is read.
type ContentRules struct {
	Dots    bool // DATA: undo dot-stuffing, look for CRLF.CRLF. Not for BDAT
	Repair  bool // make line ends CRLF, drop NUL, fold long lines; else they are defects
	MaxLine int  // bytes of a line without its CRLF
	MaxSize int  // bytes of content
}

// Content reads the content of one message as it comes in, in pieces cut
// anywhere, and ends it at CRLF.CRLF and nowhere else (RFC 5321 4.1.1.4).
//
// Refusing (Repair off): the first defect is kept, nothing is appended from
// there on, and reading goes on to the true end. A look-alike, a dot alone
// between two line ends of which one is not a clean CRLF, stops the scan: what
// follows it is a command to a smuggler and content to us, so the caller must
// end the connection.
//
// Repairing: framing and dot-stuffing are undone first, by the strict rules,
// then the content is repaired. So a look-alike is a line with a dot on it and
// never an end.
//
// INVARIANT: what Scan and Finish append has CRLF line ends only, no NUL, and
// no line over MaxLine, or Defect is set.
type Content struct {
	Defect     Defect
	DefectLine int // line of the first defect, from 1
	Repairs    int // defects repaired

	rules   ContentRules
	state   contentState
	weak    bool // the line began after, or with, something that is not clean
	crNUL   bool // a NUL stood behind the CR that is pending
	lineLen int  // bytes of the current line so far
	lines   int  // lines ended
	size    int  // bytes appended
}

type contentState uint8

const (
	atStart  contentState = iota // at the start of a line
	inText                       // in a line
	afterCR                      // a CR is pending
	afterDot                     // a dot at the start of a line is pending
	afterDotCR
)

// Reset makes c ready for a new message.
func (c *Content) Reset(r ContentRules) { *c = Content{rules: r} }

// marks remember where the next CR, LF and NUL of a piece are, so that each
// byte is looked at once for each however the piece is made.
type marks struct {
	src         []byte
	cr, lf, nul int
}

func (m *marks) next(at *int, i int, b byte) int {
	if *at < i {
		*at = len(m.src)
		if j := bytes.IndexByte(m.src[i:], b); j >= 0 {
			*at = i + j
		}
	}
	return *at
}

// Scan reads src, appends content to dst and returns it, with the number of
// bytes read. That is all of src unless the verdict is End or LookAlike, when
// it stops behind it.
func (c *Content) Scan(dst, src []byte) (out []byte, n int, v Verdict) {
	m := marks{src: src, cr: -1, lf: -1, nul: -1}
	for i := 0; i < len(src); {
		if c.state <= inText {
			dst, i = c.run(dst, i, &m)
			if i == len(src) {
				break
			}
		}
		if dst, v = c.step(dst, src[i]); v != More {
			return dst, i + 1, v
		}
		i++
	}
	return dst, len(src), More
}

// run takes clean text and clean CRLFs from place i and stops at whatever
// needs care: a dot at the start of a line, a bare CR or LF, a NUL, the end of
// the piece behind a CR.
func (c *Content) run(dst []byte, i int, m *marks) ([]byte, int) {
	src, from := m.src, i
	for i < len(src) {
		if c.state == atStart && src[i] == '.' && c.rules.Dots {
			break
		}
		cr, lf, nul := m.next(&m.cr, i, '\r'), m.next(&m.lf, i, '\n'), m.next(&m.nul, i, 0)
		if stop := min(cr, lf, nul); stop > i {
			c.lineLen += stop - i
			c.state = inText
			i = stop
		}
		if i != cr || lf != cr+1 || lf == len(src) || c.lineLen > c.rules.MaxLine {
			break
		}
		c.state, c.weak = atStart, false
		c.lineLen = 0
		c.lines++
		i += 2
	}
	return c.emit(dst, src[from:i]), i
}

// step takes one byte through the state machine.
func (c *Content) step(dst []byte, b byte) ([]byte, Verdict) {
	switch c.state {
	case afterCR:
		switch b {
		case '\n':
			dst = c.endLine(dst)
			c.weak = c.crNUL
			return dst, More
		case 0:
			c.note(NUL)
			c.crNUL = true
			return dst, More
		}
		c.note(BareCR)
		dst = c.endLine(dst)
		c.weak = true
	case afterDot:
		switch b {
		case '\r':
			c.state, c.crNUL = afterDotCR, false
			return dst, More
		case 0:
			c.note(NUL)
			c.weak = true
			return dst, More
		case '\n':
			c.note(BareLF)
			return c.lookAlike(dst, true)
		}
		if c.weak { // not stuffed by the rules, so it is the text's own
			dst = c.text(dst, '.')
		}
		c.state = inText
	case afterDotCR:
		switch {
		case b == '\n' && !c.weak && !c.crNUL:
			return dst, End
		case b == '\n':
			return c.lookAlike(dst, c.crNUL)
		case b == 0:
			c.note(NUL)
			c.crNUL = true
			return dst, More
		}
		c.note(BareCR)
		var v Verdict
		if dst, v = c.lookAlike(dst, true); v != More {
			return dst, v
		}
	}
	return c.plain(dst, b), More
}

// plain takes a byte at the start of a line or within one.
func (c *Content) plain(dst []byte, b byte) []byte {
	switch {
	case b == 0:
		c.note(NUL)
		if c.state == atStart {
			c.weak = true
		}
	case b == '\r':
		c.state, c.crNUL = afterCR, false
	case b == '\n':
		c.note(BareLF)
		dst = c.endLine(dst)
		c.weak = true
	case b == '.' && c.state == atStart && c.rules.Dots:
		c.state = afterDot
	default:
		dst = c.text(dst, b)
	}
	return dst
}

// lookAlike is a dot between line ends that is not the end of data.
func (c *Content) lookAlike(dst []byte, weak bool) ([]byte, Verdict) {
	if !c.rules.Repair {
		return dst, LookAlike
	}
	dst = c.endLine(c.text(dst, '.'))
	c.weak = weak
	return dst, More
}

func (c *Content) text(dst []byte, b byte) []byte {
	c.state = inText
	c.lineLen++
	if c.dropping() || c.size >= c.rules.MaxSize {
		return c.emit(dst, []byte{b})
	}
	c.size++
	return append(dst, b)
}

var crlf = []byte("\r\n")

func (c *Content) endLine(dst []byte) []byte {
	if c.lineLen > c.rules.MaxLine {
		if c.note(LongLine); c.rules.Repair && !c.dropping() {
			dst = c.fold(dst)
		}
	}
	dst = c.emit(dst, crlf)
	c.state, c.lineLen = atStart, 0
	c.lines++
	return dst
}

// fold cuts the last line of dst into lines of at most MaxLine bytes, each but
// the first with a space in front: in a header that is folding, in a body it
// is what Postfix does with long lines. A UTF-8 sequence is not cut.
func (c *Content) fold(dst []byte) []byte {
	start := len(dst) - c.lineLen
	line := bytes.Clone(dst[start:])
	dst = dst[:start]
	c.size -= len(line)
	room := c.rules.MaxLine
	for len(line) > room {
		cut := room
		for cut > room-3 && cut > 1 && line[cut]&0xc0 == 0x80 {
			cut--
		}
		dst = c.emit(dst, line[:cut])
		dst = c.emit(dst, foldMark)
		line = line[cut:]
		room = max(c.rules.MaxLine-1, 1)
	}
	return c.emit(dst, line)
}

var foldMark = []byte("\r\n ")

// emit appends content unless the message is lost already.
func (c *Content) emit(dst, p []byte) []byte {
	if len(p) == 0 || c.dropping() {
		return dst
	}
	if c.size+len(p) > c.rules.MaxSize {
		c.note(TooLarge)
		return dst
	}
	c.size += len(p)
	return append(dst, p...)
}

func (c *Content) dropping() bool { return c.Defect != NoDefect }

// note keeps a defect, or counts it as repaired.
func (c *Content) note(d Defect) {
	switch {
	case c.rules.Repair && d != TooLarge:
		c.Repairs++
	case c.Defect == NoDefect:
		c.Defect, c.DefectLine = d, c.lines+1
	}
}

// Finish ends content that has no end mark of its own (BDAT LAST): a pending
// CR is settled, and a last line without a line end is given one.
func (c *Content) Finish(dst []byte) []byte {
	switch c.state {
	case afterCR:
		c.note(BareCR)
		return c.endLine(dst)
	case inText:
		return c.endLine(dst)
	}
	return dst
}

// Abandon gives the message up as too large: its end is still found, and
// nothing more is appended.
func (c *Content) Abandon() { c.note(TooLarge) }

// Size is the bytes of content so far.
func (c *Content) Size() int { return c.size }

// Growth bounds what Scan may append for n more bytes of input: repaired, a
// bare LF becomes two bytes and a long line gets folds.
func (c *Content) Growth(n int) int {
	if !c.rules.Repair {
		return n + 8
	}
	return min(2*n+64+3*(c.lineLen+n)/max(c.rules.MaxLine-4, 1), c.rules.MaxSize)
}
