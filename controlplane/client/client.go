package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

// Options say how to reach a server.
type Options struct {
	Token   string        // bearer token; empty sends none
	CAFile  string        // PEM bundle trusted beside the system's, for https
	Timeout time.Duration // of one Do, headers and body. Default 60 s. Stream has none
}

// Client talks to one server. It is safe for concurrent use.
type Client struct {
	base    *url.URL
	token   string
	timeout time.Duration
	http    *http.Client
}

// maxAnswer bounds the body that Do reads: a server gone mad must not eat the
// client's memory. Long listings come in pages or as a stream.
const maxAnswer = 256 << 20

// New makes a client for a base address as "http://127.0.0.1:8080".
func New(base string, o Options) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("API address %q: want http://host:port or https://host:port", base)
	}
	t := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 0, // a stream may be silent for long; Do has its own deadline
		MaxIdleConnsPerHost:   4,
		IdleConnTimeout:       90 * time.Second,
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the CA bundle: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA bundle %s: no certificate in PEM form in it", o.CAFile)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return &Client{base: u, token: o.Token, timeout: o.Timeout, http: &http.Client{Transport: t}}, nil
}

// Base is the address the client was made for.
func (c *Client) Base() string { return c.base.String() }

// Do asks once. path begins with "/" and is escaped already (PathEscape for
// names in it). in is sent as JSON unless nil; a []byte is sent as it is. out
// gets the decoded answer unless nil; a *[]byte gets it as it is. An answer
// that is not 2xx is an *Error.
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	return c.do(ctx, request{method: method, path: path, query: query, in: in}, out)
}

func (c *Client) do(ctx context.Context, r request, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return decode(resp, out)
}

// Stream asks once and hands out the answer's body to be read as it comes; the
// caller closes it. There is no deadline but ctx.
func (c *Client) Stream(ctx context.Context, method, path string, query url.Values, in any) (io.ReadCloser, error) {
	resp, err := c.send(ctx, request{method: method, path: path, query: query, in: in})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// request is one question to the server.
type request struct {
	method, path string
	query        url.Values
	header       http.Header
	in           any
}

func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	u, err := c.base.Parse(c.base.Path + r.path)
	if err != nil {
		return nil, fmt.Errorf("API path %q: %w", r.path, err)
	}
	u.RawQuery = r.query.Encode()
	body, contentType, err := encode(r.in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("API request: %w", err)
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	req.Header.Set("Accept", "application/json, application/problem+json, */*")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

// explain turns the most common failure into what to do about it.
func (c *Client) explain(err error) error {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("nothing answers at %s: is \"hikyaku serve\" running there? (--api or HIKYAKU_API names another address): %w", c.base, err)
	}
	return err
}

// Text is a body that is sent as it is.
type Text struct {
	Type    string // its Content-Type
	Content []byte
}

func encode(in any) (io.Reader, string, error) {
	switch v := in.(type) {
	case nil:
		return nil, "", nil
	case []byte:
		return bytes.NewReader(v), "application/json", nil
	case Text:
		return bytes.NewReader(v.Content), v.Type, nil
	}
	b, err := json.Marshal(in)
	if err != nil {
		return nil, "", fmt.Errorf("encode the API request: %w", err)
	}
	return bytes.NewReader(b), "application/json", nil
}

func decode(resp *http.Response, out any) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("read the API answer: %w", err)
	}
	if len(b) > maxAnswer {
		return fmt.Errorf("API answer is larger than %d MiB", maxAnswer>>20)
	}
	switch v := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*v = b
		return nil
	}
	if len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("API answer is not what was expected: %w", err)
	}
	return nil
}

// Error is an answer that is not 2xx: a problem document (RFC 9457) where the
// server sent one.
type Error struct {
	Status   int       `json:"status"`
	Title    string    `json:"title"`
	Detail   string    `json:"detail"`
	Problems []Problem `json:"errors"`
}

// Problem is one thing wrong with what was sent.
type Problem struct {
	Path   string `json:"location"`
	Reason string `json:"message"`
}

// Error is the detail, with a line for each problem.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Detail)
	if e.Detail == "" {
		b.WriteString(e.Title)
	}
	if b.Len() == 0 {
		fmt.Fprintf(&b, "the API answered %d %s", e.Status, http.StatusText(e.Status))
	}
	for _, p := range e.Problems {
		b.WriteString("\n  ")
		if p.Path != "" {
			b.WriteString(p.Path + ": ")
		}
		b.WriteString(p.Reason)
	}
	return b.String()
}

// readError never fails: what is not a problem document becomes the detail of
// one, cut short.
func readError(resp *http.Response) error {
	const maxProblem = 1 << 20
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	e := &Error{}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind == "application/problem+json" || kind == "application/json" {
		if json.Unmarshal(b, e) != nil {
			*e = Error{}
		}
	}
	e.Status = resp.StatusCode
	if e.Detail == "" && e.Title == "" {
		text := strings.TrimSpace(string(b[:min(len(b), 200)]))
		e.Detail = strings.TrimSpace(fmt.Sprintf("%s: %s", resp.Status, text))
	}
	return e
}
