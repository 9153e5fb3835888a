package dkim

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"sync"
	"time"
)

// ErrNoFrom is returned for content without a From field, which RFC 6376 5.4
// requires a signature to cover.
var ErrNoFrom = errors.New("sign: the content has no From header field")

// work is what one signature needs beside the key, reused between messages.
type work struct {
	hash     hash.Hash
	header   []byte   // gathered header, when it is not in one segment
	body     [][]byte // segments of the body
	fields   []field
	canon    []byte // canonical header fields, then the signature field
	scratch  [scratchSize]byte
	digest   [sha256.Size]byte
	bodyHash [base64Len]byte
	b64      []byte        // the signature itself
	spent    time.Duration // in private keys' operations
}

// base64Len is the length of a SHA-256 hash in base 64.
const base64Len = (sha256.Size + 2) / 3 * 4

// keepHeader is the largest buffer that goes back to the pool.
const keepHeader = 64 << 10

var pool = sync.Pool{New: func() any { return &work{hash: sha256.New()} }}

// AppendSignature appends one complete "DKIM-Signature: …\r\n" field for each
// key of the From domain, to be put in front of raw. It appends nothing when
// the domain, given as a lower-case A-label, has no key.
//
// Raw is the whole content in any number of segments, with CRLF line ends only
// (checked in builds with the tag invariants and under the race detector); it
// is read, not kept. Now becomes t=, in seconds.
//
// When a key fails, the others still sign: what they appended stands, and the
// error names the keys that failed.
func (s *Signers) AppendSignature(dst []byte, fromDomain string, now time.Time, raw ...[]byte) ([]byte, error) {
	d := s.lookup(fromDomain)
	if d == nil {
		s.metrics.unsigned.Add(1)
		return dst, nil
	}
	checkLineEnds(raw)
	w := pool.Get().(*work)
	defer w.release()

	var header []byte
	header, w.body, w.header = splitHeader(w.header, raw, w.body[:0])
	w.fields = parseFields(w.fields[:0], header, d.ranks)
	if !hasFrom(w.fields) {
		s.metrics.failed.Add(1)
		return dst, ErrNoFrom
	}
	w.hash.Reset()
	hashBody(w.hash, w.scratch[:0], w.body)
	base64.StdEncoding.Encode(w.bodyHash[:], w.hash.Sum(w.digest[:0]))

	var errs []error
	w.spent = 0
	for _, k := range d.keys {
		out, err := w.appendOne(dst, k, now, header)
		if err != nil {
			s.metrics.failed.Add(1)
			errs = append(errs, fmt.Errorf("sign with key %s: %w", k.name, err))
			continue
		}
		dst = out
		s.metrics.signed.Add(1)
	}
	s.metrics.nanoseconds.Add(int64(w.spent))
	return dst, errors.Join(errs...)
}

// fromRank is the rank of the From field in every key's list.
const fromRank = 0

func hasFrom(fs []field) bool {
	for i := range fs {
		if fs[i].rank == fromRank {
			return true
		}
	}
	return false
}

// appendOne appends the field of one key.
func (w *work) appendOne(dst []byte, k *signer, now time.Time, header []byte) ([]byte, error) {
	begin := len(dst)
	dst = append(dst, k.prefix...)
	dst = strconv.AppendInt(dst, now.Unix(), 10)
	dst = append(dst, "; h="...)
	w.canon = w.canon[:0]
	line := 20 // about where the last line stands; lines stay below 78
	for rank := range k.names {
		n := &k.names[rank]
		if n.text == "" {
			continue // signed by another key of the domain only
		}
		times := 0
		// RFC 6376 5.4.2: several fields of a name are signed from the bottom up.
		for i := len(w.fields) - 1; i >= 0; i-- {
			f := &w.fields[i]
			if int(f.rank) != rank {
				continue
			}
			times++
			w.canon = appendRelaxedField(w.canon, header[f.start:f.nameEnd], header[f.value:f.end])
			w.canon = append(w.canon, crlf...)
		}
		if n.oversign {
			// RFC 6376 5.4: a name once more than it occurs, so that a field
			// added on the way breaks the signature.
			times++
		}
		for range times {
			if line+len(n.text) > 72 {
				dst = append(dst, "\r\n  "...)
				line = 2
			}
			dst = append(append(dst, n.text...), ':')
			line += len(n.text) + 1
		}
	}
	dst[len(dst)-1] = ';' // From is always there, so the last byte is a colon
	dst = append(dst, "\r\n bh="...)
	dst = append(dst, w.bodyHash[:]...)
	dst = append(dst, ";\r\n b="...)

	// RFC 6376 3.7: the signature's own field comes last, with an empty b= and
	// without its CRLF.
	w.canon = appendRelaxedField(w.canon, dst[begin:begin+len(fieldName)], dst[begin+len(fieldName)+1:])
	w.hash.Reset()
	w.hash.Write(w.canon)
	began := time.Now()
	sig, err := k.sign(w.hash.Sum(w.digest[:0]))
	w.spent += time.Since(began)
	if err != nil {
		return dst[:begin], err
	}
	w.b64 = base64.StdEncoding.AppendEncode(w.b64[:0], sig)
	rest := w.b64
	for room := 73; len(rest) > room; room = 75 {
		dst = append(append(dst, rest[:room]...), "\r\n  "...)
		rest = rest[room:]
	}
	return append(append(dst, rest...), crlf...), nil
}

// release hands w back. It holds nothing of the message after that.
func (w *work) release() {
	clear(w.body)
	if cap(w.header) > keepHeader {
		w.header = nil
	}
	if cap(w.canon) > keepHeader {
		w.canon = nil
	}
	if cap(w.fields) > keepFields {
		w.fields = nil
	}
	pool.Put(w)
}

const keepFields = 1024
