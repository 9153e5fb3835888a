package mix

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"mime/quotedprintable"
	"strings"
)

// corpus is the text that all content is cut from. Making text for each message
// would cost more than sending it; a slice of ready text, at a place drawn by
// the message's number, costs one copy.
type corpus struct {
	text   []byte // ASCII lines, CRLF, at most 998 columns
	lines  []int  // where they begin
	plain  blocks // paragraphs of UTF-8 text in quoted-printable
	html   blocks // of HTML
	base64 []byte // lines of 76 characters
}

// blocks are pieces of one text, each whole in its encoding.
type blocks struct {
	text  []byte
	start []int // one more at the end
}

const (
	corpusBytes = 256 << 10
	blockCount  = 512
	base64Lines = 2048
	base64Line  = 76 + 2 // RFC 2045 6.8: at most 76, and CRLF
)

var words = strings.Fields(`a able account and any arrival as at available balance be been before begin below best
	between book both branch by call can card change check city clear code collect come confirm contact courier current
	customer daily date day deliver delivery desk detail each early east edo end every exchange express few find first
	follow for free from full further give go good great ground hand have help here hour house if in information inn is it
	item journey keep kyoto last late letter like line list long made mail make many map mark may member message mile minute
	more morning most much near need new news next night no north not note number of offer office on once one only open or
	order other our out over own page parcel part pass people place please point post price quick rate reach read ready
	receive regular relay reply rest rider river road route safe same season see send sent service shop short sign since
	south station stay still street such summer take than thank that the their then there these they this through time to
	today together tokaido token town train travel two under until up use very visit wait way we week well west what when
	which while who will winter with within year you your`)

func newCorpus(seed uint64) *corpus {
	c := &corpus{}
	r := &draw{seed: seed}
	for len(c.text) < corpusBytes {
		c.lines = append(c.lines, len(c.text))
		c.text = appendLine(c.text, r)
	}
	c.plain = newBlocks(func() string { return paragraph(r) + "\r\n\r\n" })
	c.html = newBlocks(func() string { return `<p style="margin:0 0 8px">` + paragraph(r) + "</p>\r\n" })
	var raw [57]byte
	for range base64Lines {
		for i := 0; i+8 <= len(raw); i += 8 {
			binary.LittleEndian.PutUint64(raw[i:], r.next())
		}
		raw[56] = byte(r.next())
		c.base64 = append(base64.StdEncoding.AppendEncode(c.base64, raw[:]), '\r', '\n')
	}
	return c
}

// draw is a sequence of numbers that follows from the seed.
type draw struct {
	seed uint64
	i    int
}

func (r *draw) next() uint64 {
	r.i++
	return hash(r.seed, saltCorpus, r.i)
}

func (r *draw) below(n int) int { return int(r.next() % uint64(n)) }

// appendLine appends a line of text. Some are what breaks careless software:
// lines of dots, lines that begin with one, "From " at the start, empty lines, and
// lines as long as RFC 5322 2.1.1 lets them be.
func appendLine(dst []byte, r *draw) []byte {
	width := 40 + r.below(39)
	switch r.below(64) {
	case 0:
		return append(dst, ".\r\n"...)
	case 1:
		return append(dst, "..\r\n"...)
	case 2:
		dst = append(dst, '.')
	case 3:
		dst = append(dst, "From "...)
	case 4, 5, 6, 7:
		return append(dst, "\r\n"...)
	case 8:
		width = 998
	case 9:
		dst = append(dst, '\t')
	}
	from := len(dst)
	for len(dst)-from < width {
		dst = append(append(dst, words[r.below(len(words))]...), ' ')
	}
	return append(dst[:from+width-1], "\r\n"...)
}

// paragraph is a sentence or two in UTF-8, short, so that blocks fill any size.
func paragraph(r *draw) string {
	japanese := []string{"飛脚便のお知らせです。", "ご注文の品を発送しました。", "いつもご利用ありがとうございます。", "お荷物は明日届きます。", "キャンペーン実施中！"}
	var b strings.Builder
	for range 4 + r.below(6) {
		b.WriteString(words[r.below(len(words))])
		b.WriteByte(' ')
	}
	switch r.below(4) {
	case 0:
		b.WriteString(japanese[r.below(len(japanese))])
	case 1:
		b.WriteString("100% = sicher verpackt, in Köln abgeholt")
	}
	return strings.TrimSpace(b.String())
}

func newBlocks(make func() string) blocks {
	b := blocks{start: []int{0}}
	var out bytes.Buffer
	for range blockCount {
		w := quotedprintable.NewWriter(&out)
		_, _ = w.Write([]byte(make())) // into memory: no error
		_ = w.Close()
		b.start = append(b.start, out.Len())
	}
	b.text = out.Bytes()
	return b
}

// append appends whole blocks, from the one that h draws on, at least one, and
// then while size is not exceeded.
func (b *blocks) append(dst []byte, h uint64, size int) []byte {
	k := int(h % blockCount)
	for from := len(dst); ; {
		block := b.text[b.start[k]:b.start[k+1]]
		if len(dst) > from && len(dst)-from+len(block) > size {
			return dst
		}
		dst = append(dst, block...)
		k = (k + 1) % blockCount
	}
}

// appendText appends exactly size bytes of lines; the last is cut to fit.
func (c *corpus) appendText(dst []byte, h uint64, size int) []byte {
	from := len(dst)
	dst = appendRound(dst, c.text, c.lines[h%uint64(len(c.lines))], size)
	body := dst[from:]
	if n := len(body); n >= 2 {
		body[n-2], body[n-1] = '\r', '\n'
		if n > 2 && body[n-3] == '\r' {
			body[n-3] = '-' // a bare CR where a CRLF was cut
		}
	}
	return dst
}

// appendRound appends size bytes of text from a place on, and again from its start.
func appendRound(dst, text []byte, from, size int) []byte {
	for size > 0 {
		n := min(size, len(text)-from)
		dst = append(dst, text[from:from+n]...)
		size -= n
		from = 0
	}
	return dst
}
