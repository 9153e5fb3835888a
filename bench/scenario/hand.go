package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"hikyaku/bench/candidate"
	"hikyaku/bench/reputation"
	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// hand is somebody outside the product who turns its throttles through the admin
// API, as a program of an operator's own would.
type hand interface {
	// told is called before a carrier begins to allow a source something else.
	told(ctx context.Context, lane policy.Steered, l policy.Limits) error
	// work goes on until ctx ends.
	work(ctx context.Context) error
}

// idle leaves everything to the product.
type idle struct{}

func (idle) told(context.Context, policy.Steered, policy.Limits) error { return nil }
func (idle) work(context.Context) error                                { return nil }

// knowing passes on what it is told: the oracle's hand.
type knowing struct{ node *candidate.Hikyaku }

func (k knowing) told(ctx context.Context, lane policy.Steered, l policy.Limits) error {
	return throttle(ctx, k.node, lane, &l)
}

func (k knowing) work(context.Context) error { return nil }

// reading follows the event log and obeys the text rules.
type reading struct {
	node *candidate.Hikyaku
	mu   struct {
		sync.Mutex
		texts *reputation.Texts
	}
}

// readingEvery is how often the text rules' hand acts. A rival's automation takes
// seconds; at a pace of 60 this is three.
const readingEvery = 50 * time.Millisecond

func newReading(node *candidate.Hikyaku, pace int) (*reading, error) {
	texts, err := reputation.NewTexts(pace)
	if err != nil {
		return nil, err
	}
	r := &reading{node: node}
	r.mu.texts = texts
	return r, nil
}

func (r *reading) told(context.Context, policy.Steered, policy.Limits) error { return nil }

func (r *reading) work(ctx context.Context) error {
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := r.node.TailEvents(gctx, "deferred,bounced", r.hear)
		if gctx.Err() != nil {
			return nil // it follows until it is told to end
		}
		return err
	})
	group.Go(func() error { return r.act(gctx) })
	return group.Wait()
}

func (r *reading) hear(line []byte) error {
	var e message.EventRecord
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("a line of the event log: %w", err)
	}
	if e.Reply == nil || e.Reply.Code < 400 || e.Source == "" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.texts.Hear(e.Time, policy.Steered{Carrier: e.Carrier, Source: e.Source}, e.Reply.String())
	return nil
}

// act keeps the throttles to what the rules say.
func (r *reading) act(ctx context.Context) error {
	tick := time.NewTicker(readingEvery)
	defer tick.Stop()
	var courses map[policy.Steered]*policy.Course
	set := map[policy.Steered]policy.Limits{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			r.mu.Lock()
			if c, changed := r.mu.texts.Courses(now); changed {
				courses = c
			}
			r.mu.Unlock()
			if err := r.obey(ctx, now, courses, set); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// obey turns the throttles that are not as they should be; set are those that
// stand.
func (r *reading) obey(ctx context.Context, now time.Time, courses map[policy.Steered]*policy.Course, set map[policy.Steered]policy.Limits) error {
	wanted := map[policy.Steered]policy.Limits{}
	for lane, c := range courses {
		l := policy.Limits{Rate: c.Rate, Connections: c.Connections}
		if c.Resting(now) {
			l.Rate = &policy.Rate{Per: time.Second}
		}
		if l != (policy.Limits{}) { // a rest that is over bounds nothing
			wanted[lane] = l
		}
	}
	for lane, l := range wanted {
		if old, stands := set[lane]; stands && same(old, l) {
			continue
		}
		if err := throttle(ctx, r.node, lane, &l); err != nil {
			return err
		}
		set[lane] = l
	}
	for lane := range set {
		if _, stays := wanted[lane]; stays {
			continue
		}
		if err := throttle(ctx, r.node, lane, &policy.Limits{}); err != nil {
			return err
		}
		delete(set, lane)
	}
	return nil
}

func same(a, b policy.Limits) bool {
	rates := a.Rate == b.Rate || a.Rate != nil && b.Rate != nil && *a.Rate == *b.Rate
	return rates && a.Connections == b.Connections
}

// throttle sets what a source may do at a carrier until that is set anew; no
// limits end it.
func throttle(ctx context.Context, node *candidate.Hikyaku, lane policy.Steered, l *policy.Limits) error {
	path := "/v1/carriers/" + lane.Carrier + "/throttle"
	method, body := http.MethodPut, map[string]any{"source": lane.Source}
	if l.Rate != nil {
		body["rate"] = l.Rate.String()
	}
	if l.Connections > 0 {
		body["connections"] = l.Connections
	}
	if l.ConnectionRate != nil {
		body["connection_rate"] = l.ConnectionRate.String()
	}
	if len(body) == 1 {
		method, path, body = http.MethodDelete, path+"?source="+lane.Source, nil
	}
	status, answer, err := node.Administer(ctx, method, path, body)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d: %v", status, answer)
	}
	if err != nil {
		return fmt.Errorf("throttle %s at %s: %w", lane.Source, lane.Carrier, err)
	}
	return nil
}
