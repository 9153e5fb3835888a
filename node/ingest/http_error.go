package ingest

import (
	"errors"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

type errorCode uint8

const (
	codeBadRequest errorCode = iota
	codeInvalidJSON
	codeInvalidField
	codeNoRecipients
	codeUnauthorized
	codeForbidden
	codeNotFound
	codeMethod
	codeTimeout
	codeConflict
	codeTooLarge
	codeMediaType
	codeTooMany
	codeInternal
	codeUnavailable
	codeCount
)

// HTTPErrorCodes are the values of code in the API's errors.
var HTTPErrorCodes = [codeCount]string{
	"bad_request", "invalid_json", "invalid_field", "no_valid_recipient", "unauthorized", "forbidden", "not_found", "method_not_allowed",
	"timeout", "conflict", "too_large", "unsupported_media_type", "too_many_requests", "internal", "unavailable",
}

// httpError is a refusal on its way to the client.
type httpError struct {
	status     int
	code       errorCode
	text       string
	details    []Problem
	retryAfter time.Duration
	headers    []string // name, value, …
	close      bool     // the rest of what the client sends is not to be read
}

// Error is the text.
func (e *httpError) Error() string { return e.text }

// ErrorBody is what the API answers when it refuses.
type ErrorBody struct {
	Error   string    `json:"error" doc:"What is wrong, for people."`
	Code    string    `json:"code" doc:"What is wrong, for programs."`
	Details []Problem `json:"details,omitempty" doc:"Each thing that is wrong with the request, at most 100."`
}

const maxDetails = 100

func refuse(status int, code errorCode, text string, details ...Problem) *httpError {
	return &httpError{status: status, code: code, text: text, details: details}
}

// invalidField is a refusal of one field.
func invalidField(path, reason string) *httpError {
	return refuse(fasthttp.StatusUnprocessableEntity, codeInvalidField, "the request cannot be accepted as it is", Problem{path, reason})
}

// asHTTPError turns whatever a handler returned into a refusal. What is not
// meant for clients is logged by the caller and stays here.
func asHTTPError(err error) *httpError {
	var he *httpError
	if errors.As(err, &he) {
		return he
	}
	var r *Refusal
	if errors.As(err, &r) {
		return refusalToHTTP(r)
	}
	if errors.Is(err, ErrNotFound) {
		return refuse(fasthttp.StatusNotFound, codeNotFound, "no such message, delivery or job")
	}
	return refuse(fasthttp.StatusInternalServerError, codeInternal, "the request could not be completed; the server's log says why")
}

func refusalToHTTP(r *Refusal) *httpError {
	e := refuse(r.HTTP, codeInternal, r.Text)
	e.retryAfter = r.RetryAfter
	switch r.HTTP {
	case fasthttp.StatusForbidden:
		e.code = codeForbidden
	case fasthttp.StatusUnprocessableEntity:
		e.code = codeInvalidField
	case fasthttp.StatusTooManyRequests:
		e.code = codeTooMany
	case fasthttp.StatusServiceUnavailable:
		e.code = codeUnavailable
	case 0:
		e.status = fasthttp.StatusInternalServerError
	}
	return e
}

// writeError answers with the refusal.
func (s *HTTPServer) writeError(ctx *fasthttp.RequestCtx, e *httpError) {
	ctx.Response.ResetBody()
	ctx.SetStatusCode(e.status)
	ctx.Response.Header.SetContentType("application/json")
	for i := 0; i+1 < len(e.headers); i += 2 {
		ctx.Response.Header.Set(e.headers[i], e.headers[i+1])
	}
	if e.retryAfter > 0 {
		ctx.Response.Header.Set("Retry-After", strconv.Itoa(int((e.retryAfter+time.Second-1)/time.Second)))
	}
	if e.close {
		ctx.SetConnectionClose()
	}
	b := append([]byte(nil), `{"error":`...)
	b = appendJSONString(b, e.text)
	b = append(append(append(b, `,"code":"`...), HTTPErrorCodes[e.code]...), '"')
	for i, d := range e.details[:min(len(e.details), maxDetails)] {
		if i == 0 {
			b = append(b, `,"details":[`...)
		} else {
			b = append(b, ',')
		}
		b = appendJSONString(append(b, `{"path":`...), d.Path)
		b = append(appendJSONString(append(b, `,"reason":`...), d.Reason), '}')
	}
	if len(e.details) > 0 {
		b = append(b, ']')
	}
	ctx.Response.SetBodyRaw(append(b, '}', '\n'))
	s.counters.errors[e.code].Add(1)
}
