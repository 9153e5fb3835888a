package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/valyala/fasthttp"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// Pages of a message's deliveries.
const (
	defaultPage = 100
	maxPage     = 1000
)

// messageCall is GET and DELETE /v1/messages/{id}, where id is a message's or a
// delivery's.
func (s *HTTPServer) messageCall(ctx *fasthttp.RequestCtx, c *caller, method, name string) error {
	if method != fasthttp.MethodGet && method != fasthttp.MethodDelete {
		return notAllowed(fasthttp.MethodGet, fasthttp.MethodDelete)
	}
	id, index, err := parseMessageName(name)
	if err != nil {
		return err
	}
	if method == fasthttp.MethodDelete {
		if err := noArgs(ctx); err != nil {
			return err
		}
		res, err := s.backend.Queue.CancelMessage(c.ctx, c.tenant, id, index)
		return reply(ctx, res, err)
	}
	from, limit, err := page(ctx)
	if err != nil {
		return err
	}
	if index != nil {
		from, limit = *index, 1
	}
	st, err := s.backend.Queue.MessageStatus(c.ctx, c.tenant, id, from, limit)
	if err == nil && index != nil {
		if len(st.Deliveries) == 0 || st.Deliveries[0].ID.Index != *index {
			return ErrNotFound
		}
		st.Next = nil
	}
	if err == nil {
		st.fill()
	}
	return reply(ctx, st, err)
}

// fill makes empty lists of nil ones: null is never given.
func (st *MessageStatus) fill() {
	if st.Deliveries == nil {
		st.Deliveries = []DeliveryStatus{}
	}
	for i := range st.Deliveries {
		if d := &st.Deliveries[i]; d.Recipients == nil {
			d.Recipients = []RecipientStatus{}
		}
	}
}

// reply answers 200 with v.
func reply[T any](ctx *fasthttp.RequestCtx, v *T, err error) error {
	if err != nil {
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	ctx.Response.Header.SetContentType("application/json")
	ctx.Response.SetBodyRaw(append(b, '\n'))
	return nil
}

// page reads ?from= and ?limit=.
func page(ctx *fasthttp.RequestCtx) (from uint16, limit int, err error) {
	limit = defaultPage
	for key, value := range ctx.QueryArgs().All() {
		n, perr := strconv.ParseUint(string(value), 10, 16)
		switch string(key) {
		case "from":
			if perr != nil {
				return 0, 0, badQuery("from", "want 0 to 65535")
			}
			from = uint16(n)
		case "limit":
			if perr != nil || n < 1 || n > maxPage {
				return 0, 0, badQuery("limit", "want 1 to "+strconv.Itoa(maxPage))
			}
			limit = int(n)
		default:
			return 0, 0, badQuery(string(clipBytes(key)), "unknown parameter")
		}
	}
	return from, limit, nil
}

func badQuery(name, reason string) error {
	return refuse(fasthttp.StatusBadRequest, codeBadRequest, "the query cannot be understood", Problem{"?" + name, reason})
}

func noArgs(ctx *fasthttp.RequestCtx) error {
	for key := range ctx.QueryArgs().All() {
		return badQuery(string(clipBytes(key)), "unknown parameter")
	}
	return nil
}

// jobCall is GET, PATCH and DELETE /v1/jobs/{id}.
func (s *HTTPServer) jobCall(ctx *fasthttp.RequestCtx, c *caller, method, job string) error {
	if err := noArgs(ctx); err != nil {
		return err
	}
	switch method {
	case fasthttp.MethodGet:
		st, err := s.backend.Queue.Job(c.ctx, c.tenant, job)
		if errors.Is(err, ErrNotFound) {
			st, err = s.singleJob(c, job)
		}
		return reply(ctx, st, err)
	case fasthttp.MethodPatch:
		patch, err := s.readPatch(ctx)
		if err != nil {
			return err
		}
		st, err := s.backend.Queue.PatchJob(c.ctx, c.tenant, job, patch)
		if errors.Is(err, ErrNotFound) {
			if _, serr := s.singleJob(c, job); serr == nil {
				return refuse(fasthttp.StatusConflict, codeConflict, "this is one message, not a job: it can be cancelled, but not paused or slowed")
			}
		}
		return reply(ctx, st, err)
	case fasthttp.MethodDelete:
		st, err := s.backend.Queue.CancelJob(c.ctx, c.tenant, job)
		if errors.Is(err, ErrNotFound) {
			st, err = s.cancelSingle(c, job)
		}
		return reply(ctx, st, err)
	}
	return notAllowed(fasthttp.MethodGet, fasthttp.MethodPatch, fasthttp.MethodDelete)
}

// singleJob is the job of a message that was sent to one recipient without a
// job's name: the answer calls it by the message's id.
func (s *HTTPServer) singleJob(c *caller, job string) (*JobStatus, error) {
	id, err := message.ParseID(job)
	if err != nil {
		return nil, ErrNotFound
	}
	st, err := s.backend.Queue.MessageStatus(c.ctx, c.tenant, id, 0, 1)
	if err != nil {
		return nil, err
	}
	if st.Total != 1 || st.Job != "" || len(st.Deliveries) == 0 {
		return nil, ErrNotFound
	}
	j := &JobStatus{Job: job, State: JobActive, First: &st.Accepted}
	for _, r := range st.Deliveries[0].Recipients {
		j.Accepted++
		switch r.State {
		case message.Queued:
			j.Queued++
		case message.Delivered:
			j.Delivered++
		case message.Bounced:
			j.Bounced++
		case message.Expired:
			j.Expired++
		case message.Cancelled:
			j.Cancelled++
			j.State = JobCancelled
		}
	}
	return j, nil
}

func (s *HTTPServer) cancelSingle(c *caller, job string) (*JobStatus, error) {
	if _, err := s.singleJob(c, job); err != nil {
		return nil, err
	}
	id, err := message.ParseID(job)
	if err != nil {
		return nil, ErrNotFound
	}
	if _, err := s.backend.Queue.CancelMessage(c.ctx, c.tenant, id, nil); err != nil {
		return nil, err
	}
	st, err := s.singleJob(c, job)
	if errors.Is(err, ErrNotFound) || errors.Is(err, context.Canceled) {
		return &JobStatus{Job: job, State: JobCancelled}, nil
	}
	return st, err
}

// PatchRequest is the body of PATCH /v1/jobs/{job}.
type PatchRequest struct {
	State *string `json:"state,omitempty" doc:"paused stops the job, active lets it go on." enum:"active,paused"`
	Rate  *string `json:"rate,omitempty" doc:"Bound on messages leaving, as in 100/s, 10/m or 5000/h,burst=50; empty takes it off." example:"100/s"`
}

// maxPatchBytes bounds the body of PATCH.
const maxPatchBytes = 64 << 10

func (s *HTTPServer) readPatch(ctx *fasthttp.RequestCtx) (p JobPatch, err error) {
	if err := wantJSON(ctx); err != nil {
		return p, err
	}
	body, err := s.readBody(ctx)
	defer s.release(body)
	if err != nil {
		return p, err
	}
	if len(body.b) > maxPatchBytes {
		return p, s.tooLarge()
	}
	return decodePatch(body.b)
}

func decodePatch(body []byte) (p JobPatch, err error) {
	r := jsonReader{b: body}
	err = r.object(func(key []byte) error {
		switch string(key) {
		case "state":
			v, err := r.str()
			if err == nil && v != JobActive && v != JobPaused {
				return invalidField("state", "want active or paused")
			}
			p.State = &v
			return err
		case "rate":
			v, err := r.str()
			if err != nil {
				return err
			}
			if v == "" {
				p.ClearRate = true
				return nil
			}
			rate, err := policy.ParseRate(v)
			if err != nil {
				return invalidField("rate", "want N/s, N/m, N/h or N/d, with ,burst=N after it if wanted")
			}
			p.Rate = &rate
			return nil
		}
		return r.unknown()
	})
	if err == nil {
		err = r.end()
	}
	if err == nil && p.State == nil && p.Rate == nil && !p.ClearRate {
		err = invalidField("", "want state, rate or both")
	}
	return p, err
}
