package suppress

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"hikyaku/spool/suppression"
)

const (
	// maxPeers bounds the nodes that are followed.
	maxPeers = 256
	// forgetAfter is how long a node that is no member any more holds the log back.
	forgetAfter = suppression.LogFor
	// maxWait is the longest between two tries to ask a node that cannot be asked.
	maxWait = 5 * time.Second
)

// runPeers has one goroutine for each other node follow it, and cuts the log.
func (l *List) runPeers(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	tick := time.NewTicker(l.o.Every)
	defer tick.Stop()
	for {
		if l.o.Address != nil {
			l.meet(ctx, &all)
		}
		if err := l.trim(); err != nil && ctx.Err() == nil {
			l.log.Error("cut the suppression log", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// meet starts to follow new members, and ends it for those that are gone for
// long.
func (l *List) meet(ctx context.Context, all *sync.WaitGroup) {
	now := l.o.Now()
	members := l.o.Members()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range members {
		if name == l.o.Name || name == "" {
			continue
		}
		p := l.mu.peers[name]
		if p == nil {
			if len(l.mu.peers) >= maxPeers {
				continue
			}
			pctx, stop := context.WithCancel(ctx)
			p = &peer{name: name, wake: make(chan struct{}, 1), poke: make(chan struct{}, 1), stop: stop}
			l.mu.peers[name] = p
			all.Go(func() { l.follow(pctx, p) })
			all.Go(func() { l.tell(pctx, p) })
		}
		p.mu.Lock()
		p.mu.seen = now
		p.mu.Unlock()
	}
	for name, p := range l.mu.peers {
		p.mu.Lock()
		gone := now.Sub(p.mu.seen) > forgetAfter
		p.mu.Unlock()
		if gone {
			p.stop()
			delete(l.mu.peers, name)
		}
	}
}

func (l *List) peers() []*peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := slices.Collect(maps.Values(l.mu.peers))
	slices.SortFunc(out, func(x, y *peer) int { return cmp.Compare(x.name, y.name) })
	return out
}

// trim cuts the log by what everybody has.
func (l *List) trim() error {
	everywhere := l.store.Vector()
	for _, p := range l.peers() {
		p.mu.Lock()
		has := p.mu.has
		p.mu.Unlock()
		for o := range everywhere {
			everywhere[o] = min(everywhere[o], has[o])
		}
	}
	return l.store.Trim(everywhere, l.o.KeepLog)
}

// tell pokes a node each time there is something new here. A poke that fails is
// not repeated: the node pulls by itself.
func (l *List) tell(ctx context.Context, p *peer) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.poke:
		}
		resp, cancel, err := l.ask(ctx, p, http.MethodPost, pathPoke, url.Values{"from": {l.o.Name}}, nil)
		if err == nil {
			err = drain(resp)
		}
		cancel()
		if err != nil && ctx.Err() == nil {
			l.log.Debug("tell another node of new suppressions", "node", p.name, "error", err)
		}
	}
}

// follow pulls from a node each second, and when it pokes.
func (l *List) follow(ctx context.Context, p *peer) {
	tries := 0
	for {
		err := l.pull(ctx, p)
		if ctx.Err() != nil {
			return
		}
		wait := l.o.Every
		if err != nil {
			l.count.failures.Add(1)
			tries++
			wait = min(l.o.Every<<min(tries, 3), max(maxWait, l.o.Every))
		} else {
			tries = 0
		}
		l.noteState(p, err)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-p.wake:
		}
		t.Stop()
	}
}

func (l *List) noteState(p *peer, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.mu.last = ""
	case p.mu.last == "":
		p.mu.lag = l.o.Now()
		l.log.Warn("suppressions cannot be pulled from a node; tried again until it answers", "node", p.name, "error", err)
		fallthrough
	default:
		p.mu.last = err.Error()
	}
}

// pull asks a node until it has nothing new.
func (l *List) pull(ctx context.Context, p *peer) error {
	body := digest(l.store.Vector())
	loaded := false
	for ctx.Err() == nil {
		before := l.count.snapshots.Load()
		a, err := l.pullOnce(ctx, p, body)
		if err != nil {
			return err
		}
		if a == nil { // the digest was not enough
			body = l.question()
			continue
		}
		if len(a.parcel) > 0 {
			n, err := l.store.Apply(a.parcel)
			if err != nil {
				return fmt.Errorf("take suppressions: %w", err)
			}
			l.count.parcels.Add(1)
			l.log.Debug("suppressions from another node", "node", p.name, "operations", n)
		}
		p.mu.Lock()
		p.mu.has = a.has
		p.mu.Unlock()
		if a.snapshot && !a.more {
			if loaded {
				return errors.New("its log goes on after where its snapshot ends")
			}
			if loaded, err = l.load(ctx, p, before); err != nil {
				return err
			}
		}
		if !a.more && !a.snapshot {
			return nil
		}
		body = l.question()
	}
	return ctx.Err()
}

// question is the body of a pull: a whole vector.
func (l *List) question() []byte { return append([]byte{askVector}, l.store.Vector().Append(nil)...) }

// pullOnce makes one request; nil when the node wants the whole vector.
func (l *List) pullOnce(ctx context.Context, p *peer, body []byte) (*answer, error) {
	resp, cancel, err := l.ask(ctx, p, http.MethodPost, pathPull, url.Values{"from": {l.o.Name}}, body)
	defer cancel()
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusNoContent {
		return &answer{has: l.store.Vector()}, drain(resp)
	}
	if resp.StatusCode == http.StatusConflict {
		return nil, drain(resp)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if cerr := resp.Body.Close(); err != nil || cerr != nil {
		return nil, fmt.Errorf("read its answer: %w", errors.Join(err, cerr))
	}
	if len(b) > maxAnswer {
		return nil, fmt.Errorf("its answer has more than %d bytes", maxAnswer)
	}
	return parseAnswer(b)
}

// load merges the whole list of a node into this one, unless another has been read
// since so many were, before the node was asked.
func (l *List) load(ctx context.Context, p *peer, before uint64) (loaded bool, err error) {
	l.loads.Lock()
	defer l.loads.Unlock()
	if l.count.snapshots.Load() != before {
		return false, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := l.do(ctx, p, http.MethodGet, pathSnapshot, nil, nil)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, refusal(resp)
	}
	start := l.o.Now()
	n, err := l.store.LoadSnapshot(&awake{r: resp.Body, limit: l.o.Timeout, cancel: cancel})
	if err != nil {
		return false, fmt.Errorf("read the whole suppression list of %s: %w", p.name, err)
	}
	l.count.snapshots.Add(1)
	l.log.Info("the whole suppression list was read from another node", "node", p.name, "records", n, "took", l.o.Now().Sub(start))
	return true, nil
}

// awake ends a request whose answer is silent for too long: a snapshot as a whole
// may take minutes.
type awake struct {
	r      io.Reader
	limit  time.Duration
	cancel context.CancelFunc
}

func (a *awake) Read(b []byte) (int, error) {
	t := time.AfterFunc(a.limit, a.cancel)
	defer t.Stop()
	return a.r.Read(b)
}

// ask makes a request within Options.Timeout; the caller calls cancel when the
// answer is read.
func (l *List) ask(ctx context.Context, p *peer, method, path string, q url.Values, body []byte) (*http.Response, context.CancelFunc, error) {
	ctx, cancel := context.WithTimeout(ctx, l.o.Timeout)
	resp, err := l.do(ctx, p, method, path, q, body)
	if err != nil {
		return nil, cancel, err
	}
	if resp.StatusCode/100 != 2 && resp.StatusCode != http.StatusConflict {
		defer resp.Body.Close()
		return nil, cancel, refusal(resp)
	}
	return resp, cancel, nil
}

func (l *List) do(ctx context.Context, p *peer, method, path string, q url.Values, body []byte) (*http.Response, error) {
	base, err := l.o.Address(p.name)
	if err != nil {
		return nil, err
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	return l.o.Client.Do(req)
}

func refusal(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // what came is enough
	return fmt.Errorf("it answered %s: %s", resp.Status, bytes.TrimSpace(text))
}

// drain reads the rest of an answer, so that its connection can be used again.
func drain(resp *http.Response) error {
	_, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 4096))
	return errors.Join(err, resp.Body.Close())
}
