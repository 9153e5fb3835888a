package webhook

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"hikyaku/controlplane/policy"
)

const (
	requestTime  = 30 * time.Second
	closeWithin  = 3 * time.Second // for requests under way when the node ends
	answerHeader = 16 << 10        // bytes
	answerBody   = 16 << 10        // bytes that are read so that the connection can be used again
	answerShown  = 200             // bytes of it that are shown
)

// answer is what came of one request.
type answer struct {
	status     int // 0: there was none
	retryAfter time.Duration
	err        error // nil: taken
	took       time.Duration
}

// sender posts for one webhook with one setting.
type sender struct {
	h      *Hooks
	name   string
	w      *policy.Webhook
	client *http.Client
}

func newSender(h *Hooks, name string, w *policy.Webhook) *sender {
	g := guard{lookup: h.o.Lookup, dial: h.dial, allow: w.AllowNetworks}
	return &sender{h: h, name: name, w: w, client: &http.Client{
		// A redirect would lead past what policy says.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  nil, // what the environment names could reach what we must not
			DialContext:            g.dialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: h.o.Roots},
			TLSHandshakeTimeout:    dialTime,
			MaxIdleConnsPerHost:    1,
			MaxConnsPerHost:        2, // a test beside the batches
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: answerHeader,
			DisableCompression:     true,
		},
	}}
}

func (s *sender) close() {
	s.h.lanes.forget(s)
	s.client.CloseIdleConnections()
}

// post sends a body once.
func (s *sender) post(ctx context.Context, id string, body []byte) answer {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	a := s.exchange(ctx, id, body, start)
	a.took = time.Since(start)
	return a
}

func (s *sender) exchange(ctx context.Context, id string, body []byte, now time.Time) answer {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.w.URL, bytes.NewReader(body))
	if err != nil {
		return answer{err: errors.New("the URL cannot be posted to")} // err has the URL
	}
	for k, v := range s.w.Headers {
		req.Header.Set(k, v)
		if strings.EqualFold(k, "Host") {
			req.Host = v
		}
	}
	if !s.w.Authorization.IsZero() {
		req.Header.Set("Authorization", s.w.Authorization.Reveal())
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", strings.TrimRight("Hikyaku/"+s.h.o.Version, "/"))
	req.Header.Set(HeaderWebhook, s.name)
	req.Header.Set(HeaderBatch, id)
	if !s.w.Secret.IsZero() {
		req.Header.Set(HeaderSignature, signature(now, body, s.w.Secret, s.w.FormerSecret))
	}
	resp, err := s.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the outer one has the URL, whose path can be a secret
		}
		return answer{err: err}
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, answerBody)) // the status is what counts
	a := answer{status: resp.StatusCode}
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return a
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable:
		a.retryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	a.err = fmt.Errorf("HTTP %d%s", resp.StatusCode, excerpt(text))
	return a
}

// retryAfter reads seconds or a date (RFC 9110 10.2.3). What cannot be read is
// no wish; more than maxRetryAfter is that.
func retryAfter(value string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64); err == nil {
		return min(time.Duration(min(n, uint64(maxRetryAfter/time.Second)))*time.Second, maxRetryAfter)
	}
	t, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(t.Sub(now), 0), maxRetryAfter)
}

// excerpt is the beginning of an answer, fit for a line of a log.
func excerpt(text []byte) string {
	text = text[:min(len(text), answerShown)]
	s := strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\ufffd' {
			return ' '
		}
		return r
	}, string(text))
	if s = strings.Join(strings.Fields(s), " "); s == "" {
		return ""
	}
	return ": " + s
}

// Tested is what came of a test.
type Tested struct {
	Status int // of HTTP; 0: there was no answer
	Took   time.Duration
	Error  string // "" when it was taken
}

// ErrUnknown is a webhook that policy does not have.
var ErrUnknown = errors.New("there is no such webhook")

// testTime bounds a test: somebody waits for it.
const testTime = 8 * time.Second

// Test posts one event of the type ping, signed as others are. It works for a
// disabled webhook too, and changes nothing but what the endpoint makes of it.
func (h *Hooks) Test(ctx context.Context, name string) (Tested, error) {
	h.mu.Lock()
	w := h.mu.set[name]
	h.mu.Unlock()
	if w == nil {
		return Tested{}, fmt.Errorf("webhook %q: %w", name, ErrUnknown)
	}
	s := newSender(h, name, w)
	defer s.close()
	id := "ping-" + rand.Text()
	event, err := json.Marshal(struct {
		ID     string    `json:"event_id"`
		Type   string    `json:"type"`
		Time   time.Time `json:"time"`
		Node   string    `json:"node"`
		Tenant string    `json:"tenant,omitempty"`
	}{id, "ping", time.Now().UTC(), h.o.Node, w.Tenant})
	if err != nil {
		return Tested{}, fmt.Errorf("encode the ping: %w", err)
	}
	body := append(append(envelope(id, name, h.o.Node), event...), "]}\n"...)
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	a := s.post(ctx, id, body)
	t := Tested{Status: a.status, Took: a.took}
	if a.err != nil {
		t.Error = a.err.Error()
	}
	return t, nil
}
