package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"hikyaku/node/api"
	"hikyaku/spool/message"
)

// Caller sends one request and gives back what the server said. Answers that
// are not 2xx are errors. Paths are escaped already.
type Caller interface {
	Do(ctx context.Context, method, path string, query url.Values, in, out any) error
	Stream(ctx context.Context, method, path string, query url.Values, in any) (io.ReadCloser, error)
}

// Client asks one node. It is safe for concurrent use if its Caller is.
type Client struct{ c Caller }

// New makes a client over c.
func New(c Caller) *Client { return &Client{c} }

// query builds query parameters; zero values are left out.
type query url.Values

func (q query) text(name, v string) query {
	if v != "" {
		q[name] = []string{v}
	}
	return q
}

func (q query) number(name string, v int) query {
	if v != 0 {
		q[name] = []string{strconv.Itoa(v)}
	}
	return q
}

func (q query) time(name string, v time.Time) query {
	if !v.IsZero() {
		q[name] = []string{v.UTC().Format(time.RFC3339Nano)}
	}
	return q
}

func (q query) scope(s api.Scope) query {
	return q.text("destination", s.Destination).text("tenant", s.Tenant).text("stream", s.Stream).
		text("pool", s.Pool).text("job", s.Job).text("carrier", s.Carrier).text("source", s.Source)
}

// get asks for a JSON answer.
func get[T any](ctx context.Context, c Caller, path string, q query) (*T, error) {
	var out T
	if err := c.Do(ctx, http.MethodGet, path, url.Values(q), nil, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

func items[T any](ctx context.Context, c Caller, path string, q query) ([]T, error) {
	out, err := get[struct {
		Items []T `json:"items"`
	}](ctx, c, path, q)
	if err != nil {
		return nil, err
	}
	return out.Items, nil
}

// Overview is one look at the node.
func (c *Client) Overview(ctx context.Context) (*api.Overview, error) {
	return get[api.Overview](ctx, c.c, "/v1/overview", nil)
}

// Queues lists queues.
func (c *Client) Queues(ctx context.Context, f api.QueueFilter) (*api.QueueList, error) {
	return get[api.QueueList](ctx, c.c, "/v1/queues", query{}.scope(f.Scope).text("sort", f.Sort).number("limit", f.Limit).text("page", f.Page))
}

// Why says what holds a scope back.
func (c *Client) Why(ctx context.Context, s api.Scope) (*api.WhyAnswer, error) {
	return get[api.WhyAnswer](ctx, c.c, "/v1/queues/why", query{}.scope(s))
}

// Deliveries lists what is queued for a destination.
func (c *Client) Deliveries(ctx context.Context, f api.DeliveryFilter) (*api.DeliveryList, error) {
	return get[api.DeliveryList](ctx, c.c, "/v1/deliveries", query{}.scope(f.Scope).number("limit", f.Limit).text("page", f.Page))
}

// Message shows a message and a page of its deliveries.
func (c *Client) Message(ctx context.Context, id string, o api.MessageOptions) (*api.Message, error) {
	q := query{}.number("from", o.From).number("limit", o.Limit)
	if o.Content {
		q.text("content", "true")
	}
	return get[api.Message](ctx, c.c, "/v1/messages/"+url.PathEscape(id), q)
}

// Act holds, releases, retries, cancels or expires.
func (c *Client) Act(ctx context.Context, r *api.ActionRequest) (*api.ActionResult, error) {
	var out api.ActionResult
	if err := c.c.Do(ctx, http.MethodPost, "/v1/actions", nil, r, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// Actions lists what stands.
func (c *Client) Actions(ctx context.Context) ([]api.Action, error) {
	return items[api.Action](ctx, c.c, "/v1/actions", nil)
}

// DeleteAction ends a hold.
func (c *Client) DeleteAction(ctx context.Context, id string) (*api.ActionResult, error) {
	var out api.ActionResult
	if err := c.c.Do(ctx, http.MethodDelete, "/v1/actions/"+url.PathEscape(id), nil, nil, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// Jobs lists jobs.
func (c *Client) Jobs(ctx context.Context, f api.JobFilter) (*api.JobList, error) {
	return get[api.JobList](ctx, c.c, "/v1/jobs", query{}.text("tenant", f.Tenant).text("state", f.State).number("limit", f.Limit).text("page", f.Page))
}

func jobPath(tenant, id string) string {
	return "/v1/jobs/" + url.PathEscape(tenant) + "/" + url.PathEscape(id)
}

// Job shows a job.
func (c *Client) Job(ctx context.Context, tenant, id string) (*api.Job, error) {
	return get[api.Job](ctx, c.c, jobPath(tenant, id), nil)
}

// ChangeJob pauses, resumes, slows or cancels a job.
func (c *Client) ChangeJob(ctx context.Context, tenant, id string, change api.JobChange) (*api.Job, error) {
	var out api.Job
	if err := c.c.Do(ctx, http.MethodPatch, jobPath(tenant, id), nil, change, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// Lanes lists lanes.
func (c *Client) Lanes(ctx context.Context, f api.ListFilter) ([]api.Lane, error) {
	return items[api.Lane](ctx, c.c, "/v1/lanes", query{}.scope(f.Scope).number("limit", f.Limit))
}

// Sites lists MX host sets.
func (c *Client) Sites(ctx context.Context, f api.ListFilter) ([]api.Site, error) {
	return items[api.Site](ctx, c.c, "/v1/sites", query{}.scope(f.Scope).number("limit", f.Limit))
}

// Budgets lists limits.
func (c *Client) Budgets(ctx context.Context, f api.ListFilter) ([]api.Budget, error) {
	return items[api.Budget](ctx, c.c, "/v1/budgets", query{}.scope(f.Scope).number("limit", f.Limit))
}

func eventParams(q api.EventQuery) query {
	return query{}.text("id", q.ID).text("recipient", q.Recipient).text("sender", q.Sender).text("tenant", q.Tenant).
		text("stream", q.Stream).text("job", q.Job).text("tag", q.Tag).text("type", q.Type).text("destination", q.Destination).
		text("carrier", q.Carrier).text("source", q.Source).time("since", q.Since).time("until", q.Until).number("limit", q.Limit)
}

// SearchEvents calls fn with each matching line of the event log. The line is
// valid until fn returns.
func (c *Client) SearchEvents(ctx context.Context, q api.EventQuery, fn func(line []byte) error) (*api.EventsFound, error) {
	return c.lines(ctx, "/v1/events", eventParams(q), fn)
}

// TailEvents follows the event log for at most d (0 is the server's default).
func (c *Client) TailEvents(ctx context.Context, q api.EventQuery, d time.Duration, fn func(line []byte) error) error {
	_, err := c.lines(ctx, "/v1/events/tail", eventParams(q).number("seconds", seconds(d)), fn)
	return err
}

// Trace follows SMTP sessions for at most d and count lines (0 is the server's
// default).
func (c *Client) Trace(ctx context.Context, f api.TraceFilter, d time.Duration, count int, fn func(*api.TraceLine) error) error {
	q := query{}.text("direction", f.Direction).text("destination", f.Destination).text("host", f.Host).
		text("sender", f.Sender).text("recipient", f.Recipient).number("seconds", seconds(d)).number("count", count)
	_, err := c.lines(ctx, "/v1/trace", q, func(line []byte) error {
		var t api.TraceLine
		if err := json.Unmarshal(line, &t); err != nil {
			return fmt.Errorf("trace line from the node: %w", err)
		}
		return fn(&t)
	})
	return err
}

// seconds rounds up, so that a short time is not "no limit".
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// ErrCut says that a stream ended without its last line: the connection broke
// or the node stopped.
var ErrCut = errors.New("the stream was cut off before its end")

// maxLine is far beyond any event: metadata is at most 32 KiB, a reply 2 KiB.
const maxLine = 1 << 20

func (c *Client) lines(ctx context.Context, path string, q query, fn func([]byte) error) (*api.EventsFound, error) {
	body, err := c.c.Stream(ctx, http.MethodGet, path, url.Values(q), nil)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	sc := bufio.NewScanner(body)
	sc.Buffer(make([]byte, 64<<10), maxLine)
	for sc.Scan() {
		line := sc.Bytes()
		if end, ok := api.ParseStreamEnd(line); ok {
			if end.Error != "" {
				return end.Found, errors.New(end.Error)
			}
			return end.Found, nil
		}
		if err := fn(line); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCut, err)
	}
	return nil, ErrCut
}

// DecodeEvent decodes a line of the event log.
func DecodeEvent(line []byte) (*message.EventRecord, error) {
	var r message.EventRecord
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, fmt.Errorf("event line: %w", err)
	}
	return &r, nil
}
