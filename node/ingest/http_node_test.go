package ingest_test

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/compose"
	"hikyaku/node/ingest"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// compile is what package node gives to the server.
func compile(t *message.Template) (ingest.CompiledTemplate, []ingest.Problem) {
	t.Static = !compose.HasTags(t)
	c, err := compose.Compile(t)
	var es compose.Errors
	if errors.As(err, &es) {
		var ps []ingest.Problem
		for _, e := range es {
			ps = append(ps, ingest.Problem{Path: e.Field, Reason: e.Err.Error()})
		}
		return nil, ps
	}
	return c, nil
}

// node is all of what stands behind the HTTP server, in memory.
type node struct {
	ids message.IDs
	set *policy.Set
	mu  struct {
		sync.Mutex
		subs   []*ingest.Submission
		keys   map[string]*spool.Idempotency
		states map[message.DeliveryID]message.State
		jobs   map[string]*ingest.JobStatus
	}
	admit  error
	accept func(*ingest.Submission) error // before it counts as stored
}

const (
	goodKey  = "hk_acme_0123456789"
	otherKey = "hk_other_0123456789"
)

func newNode(tb testing.TB) *node {
	tb.Helper()
	set, problems := policy.New([]policy.Resource{
		{Kind: policy.KindTenant, Name: "acme", Spec: &policy.Tenant{SenderDomains: []string{"acme.example", "*.acme.example"}}},
		{Kind: policy.KindTenant, Name: "other", Spec: &policy.Tenant{}},
		{Kind: policy.KindStream, Name: "bulk", Spec: &policy.Stream{Priority: "low"}},
	})
	if len(problems) > 0 {
		tb.Fatal(problems)
	}
	n := &node{set: set}
	n.mu.keys = map[string]*spool.Idempotency{}
	n.mu.states = map[message.DeliveryID]message.State{}
	n.mu.jobs = map[string]*ingest.JobStatus{}
	return n
}

func (n *node) Admit(string) error             { return n.admit }
func (n *node) NewID(now time.Time) message.ID { return n.ids.New(now) }
func (n *node) Policy() *policy.Set            { return n.set }

func (n *node) Accept(_ context.Context, s *ingest.Submission) error {
	if n.accept != nil {
		if err := n.accept(s); err != nil {
			return err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if k := s.Idempotency; k != nil {
		if n.mu.keys[k.Tenant+"/"+k.Key] != nil {
			return spool.ErrDuplicate
		}
		n.mu.keys[k.Tenant+"/"+k.Key] = k
	}
	n.mu.subs = append(n.mu.subs, s)
	for i := range s.Recipients {
		n.mu.states[message.DeliveryID{Message: s.Message.ID, Index: uint16(i)}] = message.Queued
	}
	if j := s.Message.Job; j != "" {
		k := s.Message.Tenant + "/" + j
		if n.mu.jobs[k] == nil {
			n.mu.jobs[k] = &ingest.JobStatus{Job: j, State: ingest.JobActive}
		}
		n.mu.jobs[k].Accepted += int64(len(s.Recipients))
		n.mu.jobs[k].Queued += int64(len(s.Recipients))
	}
	return nil
}

func (n *node) Idempotency(tenant, key string) (*spool.Idempotency, bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := n.mu.keys[tenant+"/"+key]
	return k, k != nil, nil
}

func (n *node) APIKey(_ context.Context, token string) (string, string, bool) {
	for key, tenant := range map[string]string{goodKey: "acme", otherKey: "other"} {
		if subtle.ConstantTimeCompare([]byte(key), []byte(token)) == 1 {
			return tenant, "main", true
		}
	}
	return "", "", false
}

func (n *node) Network(netip.Addr) (string, bool) { return "", false }

func (n *node) find(tenant string, id message.ID) *ingest.Submission {
	for _, s := range n.mu.subs {
		if s.Message.ID == id && s.Message.Tenant == tenant {
			return s
		}
	}
	return nil
}

func (n *node) MessageStatus(_ context.Context, tenant string, id message.ID, from uint16, limit int) (*ingest.MessageStatus, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.find(tenant, id)
	if s == nil {
		return nil, ingest.ErrNotFound
	}
	st := &ingest.MessageStatus{ID: id, Job: s.Message.Job, Sender: s.Message.Sender, Tags: s.Message.Tags, Metadata: s.Message.Metadata,
		Accepted: s.Message.Accepted, Total: len(s.Recipients), Deliveries: []ingest.DeliveryStatus{}}
	for i := int(from); i < len(s.Recipients) && len(st.Deliveries) < limit; i++ {
		d := message.DeliveryID{Message: id, Index: uint16(i)}
		reply := message.Reply{Code: 250, Text: "ok", Phase: message.PhaseDot}
		st.Deliveries = append(st.Deliveries, ingest.DeliveryStatus{ID: d, Destination: "x.example", Due: &s.Message.Accepted,
			Last:       &ingest.AttemptStatus{At: s.Message.Accepted, Reply: reply},
			Recipients: []ingest.RecipientStatus{{Email: s.Recipients[i].Address, State: n.mu.states[d], Reply: &reply}}})
		if next := i + 1; len(st.Deliveries) == limit && next < len(s.Recipients) {
			st.Next = &next
		}
	}
	return st, nil
}

func (n *node) CancelMessage(_ context.Context, tenant string, id message.ID, index *uint16) (*ingest.CancelResult, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.find(tenant, id)
	if s == nil || index != nil && int(*index) >= len(s.Recipients) {
		return nil, ingest.ErrNotFound
	}
	r := &ingest.CancelResult{ID: id.String()}
	for i := range s.Recipients {
		d := message.DeliveryID{Message: id, Index: uint16(i)}
		if index != nil && *index != d.Index {
			continue
		}
		if n.mu.states[d] == message.Queued {
			n.mu.states[d] = message.Cancelled
			r.Cancelled++
		} else {
			r.Ended++
		}
	}
	return r, nil
}

func (n *node) job(tenant, job string, change func(*ingest.JobStatus)) (*ingest.JobStatus, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	j := n.mu.jobs[tenant+"/"+job]
	if j == nil {
		return nil, ingest.ErrNotFound
	}
	if change != nil {
		change(j)
	}
	c := *j
	return &c, nil
}

func (n *node) Job(_ context.Context, tenant, job string) (*ingest.JobStatus, error) {
	return n.job(tenant, job, nil)
}

func (n *node) PatchJob(_ context.Context, tenant, job string, p ingest.JobPatch) (*ingest.JobStatus, error) {
	return n.job(tenant, job, func(j *ingest.JobStatus) {
		if p.State != nil {
			j.State = *p.State
		}
		if p.Rate != nil || p.ClearRate {
			j.Rate = p.Rate
		}
	})
}

func (n *node) CancelJob(_ context.Context, tenant, job string) (*ingest.JobStatus, error) {
	return n.job(tenant, job, func(j *ingest.JobStatus) { j.State = ingest.JobCancelled })
}

// accepted is what was accepted so far.
func (n *node) accepted() []*ingest.Submission {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]*ingest.Submission(nil), n.mu.subs...)
}

func startHTTP(tb testing.TB, n *node, change func(*ingest.HTTPListener)) *ingest.HTTPServer {
	tb.Helper()
	l := ingest.HTTPListener{Listen: "127.0.0.1:0", Hostname: "mx.acme.example"}
	if change != nil {
		change(&l)
	}
	s, err := ingest.NewHTTPServer(ingest.HTTPOptions{Listener: l, Logger: slog.New(slog.DiscardHandler), Backend: ingest.HTTPBackend{
		Acceptor: n, Authenticator: n, Queue: n, Idempotency: n, Compile: compile,
	}})
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		// A connection on which nothing was sent yet is given 5 s, as in
		// net/http; a client that dials ahead of its requests leaves such behind.
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		client.CloseIdleConnections()
		if err := s.Shutdown(ctx); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// answer is one HTTP answer.
type answer struct {
	status  int
	header  http.Header
	body    string
	decoded struct {
		ingest.SubmitAnswer
		ingest.ErrorBody
	}
}

type call struct {
	method, path, body string
	header             []string // name, value, …
}

var client = &http.Client{Timeout: 20 * time.Second}

func do(tb testing.TB, s *ingest.HTTPServer, c call) *answer {
	tb.Helper()
	if c.method == "" {
		c.method = "POST"
	}
	if c.path == "" {
		c.path = "/v1/messages"
	}
	req, err := http.NewRequest(c.method, "http://"+s.Addr().String()+c.path, strings.NewReader(c.body))
	if err != nil {
		tb.Fatal(err)
	}
	if c.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+goodKey)
	for i := 0; i < len(c.header); i += 2 {
		if req.Header.Set(c.header[i], c.header[i+1]); c.header[i+1] == "" {
			req.Header.Del(c.header[i])
		}
	}
	res, err := client.Do(req)
	// A body that is too large is answered and the connection closed before all
	// of it is read. Where the reset overtakes the answer, the client sees only
	// that, so it asks again.
	for try := 0; errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE); try++ {
		if req.Body, err = req.GetBody(); err != nil || try == 10 {
			tb.Fatalf("no answer in %d tries, %v", try, err)
		}
		res, err = client.Do(req)
	}
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	a := &answer{status: res.StatusCode, header: res.Header, body: string(b)}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") {
		var e struct {
			Error   any
			Code    string
			Details []ingest.Problem
		}
		_ = json.Unmarshal(b, &e)
		a.decoded.Code, a.decoded.Details = e.Code, e.Details
		_ = json.Unmarshal(b, &a.decoded.SubmitAnswer)
	}
	return a
}

const hello = `{"from":{"email":"news@acme.example","name":"飛脚"},"subject":"{{name}}様","text":"Hello {{points}}","to":[{"email":"taro@x.example","name":"太郎","vars":{ "points" : 1 }}]}`
