package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/valyala/fasthttp"

	"hikyaku/spool"
	"hikyaku/spool/message"
)

// maxIdempotencyKey bounds the Idempotency-Key header.
const maxIdempotencyKey = 255

func idempotencyKey(ctx *fasthttp.RequestCtx) (string, error) {
	v := ctx.Request.Header.Peek("Idempotency-Key")
	if v == nil {
		return "", nil
	}
	if len(v) == 0 || len(v) > maxIdempotencyKey || !printable(string(v)) {
		return "", refuse(fasthttp.StatusBadRequest, codeBadRequest, fmt.Sprintf("the Idempotency-Key must be 1 to %d printable ASCII characters", maxIdempotencyKey))
	}
	return string(v), nil
}

// hashRequest tells two requests with one key apart.
func hashRequest(tenant string, body []byte) (sum [32]byte) {
	h := sha256.New()
	fmt.Fprintf(h, "POST /v1/messages\x00%s\x00", tenant)
	h.Write(body)
	h.Sum(sum[:0])
	return sum
}

// replay gives the stored answer again, nil when there is none, or refuses a
// key that was used for something else.
func (s *HTTPServer) replay(k *spool.Idempotency, sub *submit) ([]byte, error) {
	old, found, err := s.backend.Idempotency.Idempotency(k.Tenant, k.Key)
	if err != nil {
		return nil, fmt.Errorf("look up idempotency key: %w", err)
	}
	if !found {
		return nil, nil
	}
	if old.BodyHash != k.BodyHash {
		return nil, refuse(fasthttp.StatusConflict, codeConflict, "this Idempotency-Key was used with another request")
	}
	answer, err := expandAnswer(old.Answer, sub)
	if err != nil {
		return nil, fmt.Errorf("stored answer of an idempotency key: %w", err)
	}
	return answer, nil
}

// The stored form of an answer leaves out what the repeated request says
// itself: which recipients there are. 10,000 recipients are 40 bytes, not a
// megabyte.
const answerVersion = 1

func (in *injection) compact() []byte {
	b := append([]byte{answerVersion}, in.out.Message.ID[:]...)
	b = appendBytes(b, in.job)
	b = binary.AppendUvarint(b, uint64(len(in.rejected)))
	last := 0
	for _, r := range in.rejected {
		b = binary.AppendUvarint(b, uint64(r.index-last))
		b = appendBytes(b, r.reason)
		last = r.index
	}
	return b
}

func appendBytes(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// expandAnswer is the inverse of compact, for the same request.
func expandAnswer(b []byte, sub *submit) ([]byte, error) {
	bad := fmt.Errorf("not readable (%d bytes)", len(b))
	if len(b) < 1+len(message.ID{}) || b[0] != answerVersion {
		return nil, bad
	}
	id := message.ID(b[1 : 1+len(message.ID{})])
	b = b[1+len(id):]
	number := func() int {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > uint64(len(sub.rcpts)+1<<20) {
			b = nil
			return -1
		}
		b = b[n:]
		return int(v)
	}
	text := func() (string, bool) {
		n := number()
		if n < 0 || n > len(b) {
			return "", false
		}
		s := string(b[:n])
		b = b[n:]
		return s, true
	}
	job, ok := text()
	count := number()
	if !ok || count < 0 || count > len(sub.rcpts) {
		return nil, bad
	}
	rejected := make([]rejection, 0, count)
	at := 0
	for range count {
		step := number()
		reason, ok := text()
		if at += step; step < 0 || !ok || at >= len(sub.rcpts) {
			return nil, bad
		}
		rejected = append(rejected, rejection{at, reason})
	}
	kept := make([]int, 0, len(sub.rcpts)-count)
	for i, r := 0, 0; i < len(sub.rcpts); i++ {
		if r < len(rejected) && rejected[r].index == i {
			r++
			continue
		}
		kept = append(kept, i)
	}
	return appendAnswer(nil, job, id, kept, rejected, func(i int) string { return sub.rcpts[i].Address }), nil
}

// keyLocks lets one request at a time work under a key. It holds one entry for
// each key with a request under way, so the connections bound it.
type keyLocks struct {
	mu struct {
		sync.Mutex
		held map[string]*keyLock
	}
}

// keyLock is held by whoever has its token.
type keyLock struct {
	token chan struct{}
	users int
}

// lock waits for the key until ctx ends.
func (k *keyLocks) lock(ctx context.Context, key string) (unlock func(), err error) {
	k.mu.Lock()
	if k.mu.held == nil {
		k.mu.held = make(map[string]*keyLock)
	}
	l := k.mu.held[key]
	if l == nil {
		l = &keyLock{token: make(chan struct{}, 1)}
		k.mu.held[key] = l
	}
	l.users++
	k.mu.Unlock()
	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.mu.held, key)
		}
	}
	select {
	case l.token <- struct{}{}:
		return func() { <-l.token; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
