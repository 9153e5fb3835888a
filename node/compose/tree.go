package compose

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"strings"

	"hikyaku/spool/message"
)

// part is a step of the MIME tree in the order of the output: bytes that are
// the same for all recipients, then, maybe, a text that is not.
type part struct {
	fixed []byte
	text  program // nil: only fixed
	html  bool
	last  bool // ends the message: its last line needs a line end
}

// tree lays out the structure, leaving out what is not needed:
//
//	mixed( alternative( text, related( html, inline images ) ), attachments )
func (b *builder) tree() {
	t := b.t
	switch {
	case len(t.Attachments) > 0:
		b.multipart("mixed", "")
		b.content(true)
		for i := range t.Attachments {
			b.open("mixed")
			b.attachment(&t.Attachments[i], "attachment")
		}
		b.close("mixed")
	default:
		b.content(false)
	}
	b.flush(nil, false)
}

// content is the text, the HTML, or both. inside says that a multipart is open.
func (b *builder) content(inside bool) {
	outer := ""
	if inside {
		outer = "mixed"
	}
	if b.t.Text == "" || b.t.HTML == "" {
		b.open(outer)
		if b.t.HTML != "" {
			b.related(outer == "")
			return
		}
		b.leaf(b.text, false, outer == "")
		return
	}
	b.open(outer)
	b.multipart("alternative", "")
	b.open("alternative")
	b.leaf(b.text, false, false)
	b.open("alternative")
	b.related(false)
	b.close("alternative")
}

// related is the HTML with the images that it shows by Content-ID (RFC 2387).
func (b *builder) related(root bool) {
	if len(b.t.Inline) == 0 {
		b.leaf(b.html, true, root)
		return
	}
	b.multipart("related", `; type="text/html"`)
	b.open("related")
	b.leaf(b.html, true, false)
	for i := range b.t.Inline {
		b.open("related")
		b.attachment(&b.t.Inline[i], "inline")
	}
	b.close("related")
}

func (b *builder) boundary(kind string) string { return boundaryMark + b.mark + "." + kind }

func (b *builder) multipart(kind, params string) {
	b.out = append(b.out, "Content-Type: multipart/"+kind+params+";\r\n boundary=\""+b.boundary(kind)+"\"\r\n\r\n"...)
	b.first = true
}

// open begins a part of the named multipart; "" is the message itself. The line
// end in front of a delimiter is the delimiter's (RFC 2046 5.1.1).
func (b *builder) open(kind string) {
	if kind == "" {
		return
	}
	if !b.first {
		b.out = append(b.out, "\r\n"...)
	}
	b.first = false
	b.out = append(b.out, "--"+b.boundary(kind)+"\r\n"...)
}

func (b *builder) close(kind string) {
	b.out = append(b.out, "\r\n--"+b.boundary(kind)+"--\r\n"...)
}

// leaf is a text part. One that is the same for all is encoded now.
func (b *builder) leaf(p program, html, last bool) {
	if s, ok := p.constant(); ok {
		b.out = appendLeaf(b.out, []byte(s), html, last)
		return
	}
	b.flush(p, html)
	b.parts[len(b.parts)-1].last = last
}

func (b *builder) flush(p program, html bool) {
	if len(b.out) == 0 && p == nil {
		return
	}
	b.parts = append(b.parts, part{fixed: b.out, text: p, html: html})
	b.out = nil
}

// appendLeaf appends a text part, headers and all.
func appendLeaf(dst, s []byte, html, last bool) []byte {
	e := chooseEncoding(s)
	kind := "plain"
	if html {
		kind = "html"
	}
	dst = append(dst, "Content-Type: text/"...)
	dst = append(dst, kind...)
	dst = append(dst, "; charset=utf-8\r\nContent-Transfer-Encoding: "...)
	dst = append(append(dst, e...), "\r\n\r\n"...)
	from := len(dst)
	dst = appendBody(dst, s, e)
	if last && (len(dst) == from || dst[len(dst)-1] != '\n') {
		dst = append(dst, '\r', '\n')
	}
	return dst
}

// attachment is one attached or inline part, always base64. The file name goes
// into Content-Disposition (RFC 2183, by RFC 2231 where it is not ASCII) and, in
// ASCII, into Content-Type's name for readers older than that.
func (b *builder) attachment(a *message.Attachment, disposition string) {
	b.out = append(b.out, "Content-Type: "+b.contentType(a)...)
	if a.Name != "" {
		b.out = appendFilename(b.out, "name", asciiName(a.Name))
	}
	b.out = append(b.out, "\r\nContent-Transfer-Encoding: base64\r\n"...)
	if a.ContentID != "" {
		b.out = append(b.out, "Content-ID: <"+a.ContentID+">\r\n"...)
	}
	b.out = append(b.out, "Content-Disposition: "+disposition...)
	if a.Name != "" {
		b.out = appendFilename(b.out, "filename", a.Name)
	}
	b.out = append(b.out, "\r\n\r\n"...)
	b.out = appendBase64(b.out, a.Content)
}

func (b *builder) contentType(a *message.Attachment) string {
	if a.ContentType == "" {
		if i := strings.LastIndexByte(a.Name, '.'); i >= 0 {
			if t, ok := knownTypes[strings.ToLower(a.Name[i+1:])]; ok {
				return t
			}
		}
		return "application/octet-stream"
	}
	return a.ContentType
}

// knownTypes is fixed, not the system's table: a message must not depend on the
// machine it is accepted on.
var knownTypes = map[string]string{
	"pdf": "application/pdf", "zip": "application/zip", "json": "application/json", "csv": "text/csv",
	"txt": "text/plain", "html": "text/html", "ics": "text/calendar", "png": "image/png", "gif": "image/gif",
	"jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "svg": "image/svg+xml", "mp4": "video/mp4",
	"docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
	"xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	"pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}

// checkContentType takes type/subtype with simple parameters, ASCII, one line.
func checkContentType(s string) error {
	if s == "" {
		return nil
	}
	if len(s) > 200 || !isASCII(s) || hasControl(s) {
		return errors.New("not a media type")
	}
	kind, params, err := mime.ParseMediaType(s)
	if err != nil || strings.Count(kind, "/") != 1 {
		return errors.New("not a media type, as in image/png")
	}
	switch {
	case strings.HasPrefix(kind, "multipart/"), strings.HasPrefix(kind, "message/"):
		// RFC 2046 5.2.1 forbids base64 for these.
		return errors.New("multipart and message types cannot be attached; use application/octet-stream, or raw")
	case params["name"] != "":
		return errors.New("the name goes into the field name")
	}
	return nil
}

// checkContentID takes what is left of an msg-id without its brackets.
func checkContentID(s string, inline bool) error {
	if s == "" && !inline {
		return nil
	}
	if s == "" || len(s) > 200 {
		return errors.New("want 1 to 200 characters, the x of <img src=\"cid:x\">")
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~.@", rune(c)) {
			return fmt.Errorf("%s cannot be in a content id", clip(string(rune(c))))
		}
	}
	return nil
}

// mark makes boundaries differ between messages, and be the same for each
// attempt of one.
func mark(t *message.Template) string {
	h := sha256.New()
	for _, s := range []string{t.MessageIDDomain, t.Date.String(), t.From.Email, t.Subject, t.Text} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:9])
}
