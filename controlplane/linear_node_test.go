package controlplane_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/lease"
)

// holder is a node as far as sources go: it knows of its assignments by a watch
// that may be late, uses a source while the watch says that it holds it and its
// own clock says that its lease does, and lets go what it shall release.
type holder struct {
	r      *recorder
	name   string
	client *clientv3.Client
	rng    *rand.Rand
	to     func(*rand.Rand) *process // whom it makes its exchange with
	number int                       // as a client of the history
	asker  int
}

// view is what one life of a node knows of sources.
type view struct {
	sync.Mutex
	sources map[string]keyspace.Assignment
	letGo   map[string]int64 // the epoch of the last that it let go
}

// live is one process of the node, from its registration until ctx ends. It dies
// without a word: its lease runs out in etcd.
func (h *holder) live(ctx context.Context) error {
	sent := time.Now()
	granted, err := h.client.Grant(ctx, 1)
	if err != nil {
		return err
	}
	keeper, err := lease.New(sent, time.Second, 200*time.Millisecond)
	if err != nil {
		return err
	}
	if err := h.register(ctx, granted.ID); err != nil {
		return err
	}
	v := &view{sources: map[string]keyspace.Assignment{}, letGo: map[string]int64{}}
	var parts sync.WaitGroup
	parts.Go(func() {
		_ = keeper.Keep(ctx, func(ctx context.Context) (time.Duration, error) { // the end of the lease ends the use
			a, err := h.client.KeepAliveOnce(ctx, granted.ID)
			if err != nil {
				return 0, err
			}
			return time.Duration(a.TTL) * time.Second, nil
		})
	})
	parts.Go(func() { h.follow(ctx, v) })
	parts.Go(func() { h.exchanges(ctx, int64(granted.ID), v) })
	every(ctx, 4*time.Millisecond, func() { h.use(int64(granted.ID), keeper, v) })
	parts.Wait()
	return nil
}

// every does something now and then until ctx ends.
func every(ctx context.Context, d time.Duration, do func()) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do()
		}
	}
}

func (h *holder) register(ctx context.Context, id clientv3.LeaseID) error {
	reg := keyspace.Registration{Name: h.name, NodeID: "id-" + h.name, Lease: int64(id), TTL: time.Second, Started: time.Now(), Version: "test",
		Protocol: [2]int{keyspace.MinProtocol, keyspace.Protocol}, Peer: "127.0.0.1:1"}
	key := h.r.keys.Node(h.name)
	got, err := h.client.Get(ctx, key)
	if err != nil {
		return err
	}
	mod := int64(0)
	if len(got.Kvs) > 0 {
		var before keyspace.Registration
		if err := json.Unmarshal(got.Kvs[0].Value, &before); err != nil {
			return err
		}
		reg.Replaces, mod = before.Lease, got.Kvs[0].ModRevision
	}
	b, err := json.Marshal(reg)
	if err != nil {
		return err
	}
	called := time.Now()
	put, err := h.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", mod)).Then(clientv3.OpPut(key, string(b), clientv3.WithLease(id))).Commit()
	if err == nil && !put.Succeeded {
		return errors.New("the registration before has just ended")
	}
	if reg.Replaces != 0 {
		h.r.replaced(h.number, called, reg.Replaces, err)
	}
	return err
}

// follow keeps the view up with etcd.
func (h *holder) follow(ctx context.Context, v *view) {
	take := func(key string, value []byte) {
		if s, ok := h.r.decode(key, value); ok {
			v.Lock()
			v.sources[s.source.Source] = s.source
			v.Unlock()
		}
	}
	all := h.r.keys.Source("")
	got, err := h.client.Get(ctx, all, clientv3.WithPrefix())
	if err != nil {
		return // it uses nothing in this life
	}
	for _, kv := range got.Kvs {
		take(string(kv.Key), kv.Value)
	}
	for w := range h.client.Watch(ctx, all, clientv3.WithPrefix(), clientv3.WithRev(got.Header.Revision+1)) {
		for _, e := range w.Events {
			take(string(e.Kv.Key), e.Kv.Value)
		}
	}
}

// use uses each source that it may, and notes that.
func (h *holder) use(id int64, keeper *lease.Keeper, v *view) {
	v.Lock()
	defer v.Unlock()
	for name, a := range v.sources {
		if a.Node != h.name || a.Lease != id || a.State != keyspace.Held {
			continue
		}
		if called := time.Now(); keeper.Holds(called) {
			h.r.note(h.number, called, step{key: h.r.keys.Source(name), verb: uses, source: a})
		}
	}
}

// exchanges makes exchanges until ctx ends.
func (h *holder) exchanges(ctx context.Context, id int64, v *view) {
	var last exchange.Answer
	serial := uint64(0)
	every(ctx, 20*time.Millisecond, func() {
		serial++
		r := &exchange.Report{Node: h.name, Lease: id, Serial: serial, Term: last.Term, Applied: last.Serial, Floor: last.Floor, SpoolFreePart: 1, Draining: last.Drain}
		r.Sources = h.held(id, v)
		if a, err := h.r.exchange(ctx, h.to(h.rng), r); err == nil {
			last = *a
		}
	})
}

// held are the sources of a report. What is to be released has stopped by then:
// use and this are one at a time.
func (h *holder) held(id int64, v *view) (out []exchange.HeldSource) {
	v.Lock()
	defer v.Unlock()
	for name, a := range v.sources {
		if a.Node != h.name || a.Lease != id || a.State != keyspace.Held && a.State != keyspace.Releasing {
			continue
		}
		leaves := a.State == keyspace.Releasing
		if leaves && v.letGo[name] != a.Epoch {
			v.letGo[name] = a.Epoch
			h.r.note(h.number, time.Now(), step{key: h.r.keys.Source(name), verb: letsGo, source: a})
		}
		out = append(out, exchange.HeldSource{Source: name, Epoch: a.Epoch, Released: leaves})
	}
	slices.SortFunc(out, func(x, y exchange.HeldSource) int { return bytes.Compare([]byte(x.Source), []byte(y.Source)) })
	return out
}

// exchange makes one, with anybody.
func (r *recorder) exchange(ctx context.Context, p *process, report *exchange.Report) (*exchange.Answer, error) {
	body, err := exchange.AppendReport(nil, report)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.address+exchange.Path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", exchange.ContentType)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", res.StatusCode)
	}
	var a exchange.Answer
	return &a, exchange.DecodeAnswer(b, &a)
}

// lives lets a node die and come back until ctx ends: at once, so that it takes
// the place of its registration, or after its lease has run out.
func (h *holder) lives(ctx context.Context, t testing.TB) {
	for ctx.Err() == nil {
		life, end := context.WithTimeout(ctx, time.Duration(600+h.rng.IntN(2500))*time.Millisecond)
		if err := h.live(life); err != nil && life.Err() == nil && testing.Verbose() {
			t.Logf("%s: %v", h.name, err)
		}
		end()
		rest(ctx, time.Duration(h.rng.IntN(2)*h.rng.IntN(2500))*time.Millisecond)
	}
}
