package ingest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/valyala/fasthttp"
)

// bodyBuffer is a request's body in memory, for the time of the request. What
// is kept of it is copied out by the decoder.
type bodyBuffer struct {
	b    []byte
	lent int64
}

// Bodies up to pooledBody stay in memory for the next request.
const (
	firstBody    = 16 << 10
	pooledBody   = 1 << 20
	largestFirst = 4 << 20
)

var bodyBuffers = sync.Pool{New: func() any { return &bodyBuffer{b: make([]byte, 0, firstBody)} }}

var gzipReaders sync.Pool

// release gives the buffer back. Nothing may refer to it any more.
func (s *HTTPServer) release(b *bodyBuffer) {
	s.lent.Add(-b.lent)
	b.lent = 0
	if cap(b.b) <= pooledBody {
		b.b = b.b[:0]
		bodyBuffers.Put(b)
	}
}

// readBody reads and unpacks the body. Both sizes are bounded while reading, so
// a bomb costs no more than the bound. The caller releases the buffer, also
// after an error.
func (s *HTTPServer) readBody(ctx *fasthttp.RequestCtx) (*bodyBuffer, error) {
	buf := bodyBuffers.Get().(*bodyBuffer)
	if n := ctx.Request.Header.ContentLength(); n > s.l.MaxBodyBytes {
		return buf, s.tooLarge()
	}
	var in io.Reader = ctx.RequestBodyStream()
	if ctx.RequestBodyStream() == nil {
		in = bytes.NewReader(nil)
	}
	packed := &boundedReader{r: in, left: int64(s.l.MaxBodyBytes)}
	in = packed
	switch encoding := string(ctx.Request.Header.Peek("Content-Encoding")); encoding {
	case "", "identity":
	case "gzip":
		zr, _ := gzipReaders.Get().(*gzip.Reader)
		if zr == nil {
			zr = new(gzip.Reader)
		}
		defer gzipReaders.Put(zr)
		if err := zr.Reset(packed); err != nil {
			return buf, s.bodyError(err)
		}
		in = zr
	default:
		e := refuse(fasthttp.StatusUnsupportedMediaType, codeMediaType, "the body's encoding is not known; send gzip, or no Content-Encoding")
		e.headers, e.close = []string{"Accept-Encoding", "gzip"}, true
		return buf, e
	}
	if n := ctx.Request.Header.ContentLength(); in == io.Reader(packed) && n > cap(buf.b) {
		// One more than announced, to see the end without growing again. Who
		// announces much and sends little must not hold much.
		if err := s.grow(buf, min(n, largestFirst)+1); err != nil {
			return buf, err
		}
	}
	err := s.fill(buf, in)
	if err == nil && packed.left < 0 {
		err = s.tooLarge()
	}
	return buf, err
}

// grow makes room for size bytes, within the bounds.
func (s *HTTPServer) grow(buf *bodyBuffer, size int) error {
	size = min(size, s.l.MaxDecompressedBytes+1)
	if int64(size) > pooledBody {
		want := int64(size) - buf.lent
		if s.lent.Add(want) > s.l.MaxBodyMemory {
			s.lent.Add(-want)
			e := refuse(fasthttp.StatusServiceUnavailable, codeUnavailable, "too many large requests at once; try again later")
			e.retryAfter, e.close = time.Second, true
			return e
		}
		buf.lent += want
	}
	buf.b = append(make([]byte, 0, size), buf.b...)
	return nil
}

// fill reads all of in, lending memory as it grows.
func (s *HTTPServer) fill(buf *bodyBuffer, in io.Reader) error {
	for {
		if len(buf.b) == cap(buf.b) {
			if err := s.grow(buf, max(2*cap(buf.b), firstBody)); err != nil {
				return err
			}
		}
		n, err := in.Read(buf.b[len(buf.b):cap(buf.b)])
		buf.b = buf.b[:len(buf.b)+n]
		if len(buf.b) > s.l.MaxDecompressedBytes {
			return s.tooLarge()
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return s.bodyError(err)
		}
	}
}

func (s *HTTPServer) tooLarge() *httpError {
	e := refuse(fasthttp.StatusRequestEntityTooLarge, codeTooLarge, "the body is larger than this server takes")
	e.close = true // what is left of it is not read
	return e
}

// bodyError says what went wrong while reading. Nothing after it on the
// connection can be trusted to be a request.
func (s *HTTPServer) bodyError(err error) error {
	e := refuse(fasthttp.StatusBadRequest, codeBadRequest, "the body is cut off or damaged")
	var timeout net.Error
	switch {
	case errors.Is(err, errBodyBound):
		return s.tooLarge()
	case errors.As(err, &timeout) && timeout.Timeout():
		e = refuse(fasthttp.StatusRequestTimeout, codeTimeout, "the body did not come in time")
	}
	e.close = true
	return e
}

var errBodyBound = errors.New("body is over its bound")

// boundedReader fails when more than left bytes are read.
type boundedReader struct {
	r    io.Reader
	left int64
}

// Read reads at most one byte more than is left, to see whether there is one.
func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errBodyBound
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n, errBodyBound
	}
	return n, err
}
