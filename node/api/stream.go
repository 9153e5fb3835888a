package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"hikyaku/controlplane/access"
)

const (
	flushEvery   = 200 * time.Millisecond
	writeTimeout = 15 * time.Second // a client that takes nothing for so long is cut off
)

// StreamEnd is the last line of a stream. A stream without it was cut off.
type StreamEnd struct {
	End   bool         `json:"end"` // true, and first, so that no other line begins like it
	Found *EventsFound `json:"found,omitempty"`
	Error string       `json:"error,omitempty"`
}

// streamEndMark is how the last line begins; no event and no trace line does.
var streamEndMark = []byte(`{"end":`)

// ParseStreamEnd reads a line as the last one of a stream.
func ParseStreamEnd(line []byte) (StreamEnd, bool) {
	var e StreamEnd
	ok := bytes.HasPrefix(line, streamEndMark) && json.Unmarshal(line, &e) == nil && e.End
	return e, ok
}

// errEnough ends a stream that has brought as many lines as were asked for.
var errEnough = errors.New("enough lines")

// liner writes lines to a client. Lines are buffered and flushed by a
// goroutine that stream starts, stops and waits for.
type liner struct {
	control *http.ResponseController
	mu      struct {
		sync.Mutex
		w   *bufio.Writer
		err error
	}
}

func (l *liner) line(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.err != nil {
		return l.mu.err
	}
	l.extend()
	_, err := l.mu.w.Write(bytes.TrimSuffix(b, []byte("\n")))
	if err == nil {
		err = l.mu.w.WriteByte('\n')
	}
	l.mu.err = err
	return err
}

func (l *liner) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.err != nil {
		return
	}
	l.extend()
	if l.mu.err = l.mu.w.Flush(); l.mu.err == nil {
		l.mu.err = l.control.Flush()
	}
}

// extend moves the write deadline on. A connection that has none (a test
// recorder) needs none.
func (l *liner) extend() { _ = l.control.SetWriteDeadline(time.Now().Add(writeTimeout)) }

// stream answers with what run emits, for at most d. The status is sent at
// once, so that a client knows that it is connected; whatever goes wrong after
// that is in the last line.
func (a *api) stream(what string, d time.Duration, run func(ctx context.Context, emit func([]byte) error) (*EventsFound, error)) (*huma.StreamResponse, error) {
	select {
	case a.streams <- struct{}{}:
	default:
		return nil, huma.Error503ServiceUnavailable("too many streams are open; end one first")
	}
	return &huma.StreamResponse{Body: func(h huma.Context) {
		defer func() { <-a.streams }()
		ctx, cancel := context.WithTimeout(h.Context(), d)
		defer cancel()
		_, w := humago.Unwrap(h)
		h.SetHeader("Content-Type", "application/x-ndjson")
		h.SetStatus(http.StatusOK)
		if h.Method() == http.MethodHead {
			return // the client takes the connection for free
		}
		l := &liner{control: http.NewResponseController(w)}
		l.mu.w = bufio.NewWriterSize(w, 32<<10)
		var flusher sync.WaitGroup
		flusher.Go(func() {
			t := time.NewTicker(flushEvery)
			defer t.Stop()
			for {
				l.flush()
				select {
				case <-t.C:
				case <-ctx.Done():
					return
				}
			}
		})
		found, err := run(ctx, l.line)
		cancel()
		flusher.Wait()
		end := StreamEnd{End: true, Found: found}
		if err = a.streamError(what, err); err != nil {
			end.Error = err.Error()
		}
		b, err := json.Marshal(end)
		if err == nil && l.line(b) == nil {
			l.flush()
		}
	}}, nil
}

// streamError is what the last line says; the end of the time or of the count,
// and a client that went away, are no errors.
func (a *api) streamError(what string, err error) error {
	if err == nil || errors.Is(err, errEnough) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return nil
	}
	return a.fail(what, err)
}

// EventParams is an EventQuery in query parameters (exported for huma, as above).
type EventParams struct {
	ID          string    `query:"id" maxLength:"40" doc:"message or delivery id"`
	Recipient   string    `query:"recipient" maxLength:"320" doc:"address, or @domain"`
	Sender      string    `query:"sender" maxLength:"320" doc:"address, or @domain"`
	Tenant      string    `query:"tenant" maxLength:"64"`
	Stream      string    `query:"stream" maxLength:"64"`
	Job         string    `query:"job" maxLength:"128"`
	Tag         string    `query:"tag" maxLength:"64"`
	Type        string    `query:"type" maxLength:"200" doc:"event types, with commas"`
	Destination string    `query:"destination" maxLength:"255"`
	Carrier     string    `query:"carrier" maxLength:"64"`
	Source      string    `query:"source" maxLength:"64"`
	Since       time.Time `query:"since" doc:"inclusive"`
	Until       time.Time `query:"until" doc:"exclusive"`
	Limit       int       `query:"limit" minimum:"1" maximum:"1000000" default:"1000"`
}

func (q EventParams) check(ctx context.Context) (EventQuery, error) {
	if err := own(ctx, &q.Tenant); err != nil {
		return EventQuery{}, err
	}
	if q.ID != "" {
		id, err := messageID(q.ID)
		if err != nil {
			return EventQuery{}, err
		}
		q.ID = id
	}
	return EventQuery(q), nil
}

func streamOp(id, path, summary string) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: http.MethodGet, Path: path, Summary: summary,
		Description: "One JSON object a line. The last line is {\"end\":true,…}; without it the stream was cut off.",
		Tags:        []string{"node"},
		Errors:      []int{http.StatusForbidden, http.StatusServiceUnavailable},
		Responses: map[string]*huma.Response{"200": {
			Description: "OK", Content: map[string]*huma.MediaType{"application/x-ndjson": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}},
	}
}

func (a *api) registerStreams(h huma.API) {
	huma.Register(h, streamOp("search-events", "/v1/events", "Search the event log, oldest first"), func(ctx context.Context, in *EventParams) (*huma.StreamResponse, error) {
		q, err := in.check(ctx)
		if err != nil {
			return nil, err
		}
		return a.stream("search-events", 10*time.Minute, func(ctx context.Context, emit func([]byte) error) (*EventsFound, error) {
			found, err := a.node.SearchEvents(ctx, q, emit)
			if access.From(ctx).Role == access.Tenant {
				found = EventsFound{Matches: found.Matches, Limited: found.Limited} // how much others have is not theirs to know
			}
			return &found, err
		})
	})
	type tailIn struct {
		EventParams
		Seconds int `query:"seconds" minimum:"1" maximum:"86400" default:"3600" doc:"ends after this time"`
	}
	huma.Register(h, streamOp("tail-events", "/v1/events/tail", "Follow the event log"), func(ctx context.Context, in *tailIn) (*huma.StreamResponse, error) {
		q, err := in.check(ctx)
		if err != nil {
			return nil, err
		}
		return a.stream("tail-events", time.Duration(in.Seconds)*time.Second, func(ctx context.Context, emit func([]byte) error) (*EventsFound, error) {
			return nil, a.node.TailEvents(ctx, q, emit)
		})
	})
	a.registerTrace(h)
}

func (a *api) registerTrace(h huma.API) {
	type traceIn struct {
		Direction   string `query:"direction" enum:"in,out" doc:"default both"`
		Destination string `query:"destination" maxLength:"255"`
		Host        string `query:"host" maxLength:"255" doc:"name or address of the peer"`
		Sender      string `query:"sender" maxLength:"320"`
		Recipient   string `query:"recipient" maxLength:"320"`
		Seconds     int    `query:"seconds" minimum:"1" maximum:"3600" default:"60" doc:"ends after this time"`
		Count       int    `query:"count" minimum:"1" maximum:"1000000" default:"10000" doc:"ends after this many lines"`
	}
	huma.Register(h, streamOp("trace", "/v1/trace", "Follow SMTP sessions live"), func(_ context.Context, in *traceIn) (*huma.StreamResponse, error) {
		f := TraceFilter{Direction: in.Direction, Destination: in.Destination, Host: in.Host, Sender: in.Sender, Recipient: in.Recipient}
		return a.stream("trace", time.Duration(in.Seconds)*time.Second, func(ctx context.Context, emit func([]byte) error) (*EventsFound, error) {
			n := 0
			return nil, a.node.Trace(ctx, f, func(t *TraceLine) error {
				b, err := json.Marshal(t)
				if err != nil {
					return err
				}
				if err := emit(b); err != nil {
					return err
				}
				if n++; n >= in.Count {
					return errEnough
				}
				return nil
			})
		})
	})
}
