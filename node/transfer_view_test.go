package node

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"hikyaku/bench/sink"
	"hikyaku/node/api"
)

// TestOperatorReclaims: what another node has taken without saying so is shown,
// and comes back only to who names the right spool.
func TestOperatorReclaims(t *testing.T) {
	p := newPair(t, receive(t, sink.Options{}).Addr, longRetry()...)
	p.waiting(1, mail{})
	mute := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		if strings.HasSuffix(r.URL.Path, "/hello") {
			p.b.TransferHandler().ServeHTTP(w, r)
			return
		}
		p.b.TransferHandler().ServeHTTP(rec, r)
		panic(http.ErrAbortHandler)
	}))
	defer mute.Close()
	p.urls["b"].Store(&mute.URL)
	p.a.Drain(true)
	var open api.Transfer
	until(t, "an open transfer", func() bool {
		ts, err := p.a.OpenTransfers(t.Context())
		if err != nil || len(ts) != 1 || ts[0].Why == "" {
			return false
		}
		open = ts[0]
		return true
	})
	if open.To != "b" || open.Spool != p.b.spool.NodeID() || open.Deliveries != 2 || open.Recipients != 2 || open.Stuck {
		t.Errorf("listed as %+v", open)
	}
	for _, x := range []struct {
		number uint64
		spool  string
		want   error
	}{
		{open.Number + 1, open.Spool, api.ErrNotFound},
		{open.Number, p.a.spool.NodeID(), api.ErrConflict},
		{open.Number, "", api.ErrConflict},
	} {
		if r, err := p.a.Reclaim(t.Context(), x.number, &api.ReclaimRequest{Spool: x.spool, Reason: "test"}); !errors.Is(err, x.want) {
			t.Errorf("reclaim %d from %q: %+v, %v", x.number, x.spool, r, err)
		}
	}
	p.a.Drain(false) // else they go the same way again
	r, err := p.a.Reclaim(t.Context(), open.Number, &api.ReclaimRequest{Spool: open.Spool, Reason: "test", Author: "ann"})
	if err != nil || r.Deliveries != 2 || r.Author != "ann" {
		t.Errorf("%+v, %v", r, err)
	}
	if ts := p.a.Transfers(); len(ts) != 0 || p.a.Metrics().Transfer.Reclaimed != 2 {
		t.Errorf("still open: %+v", ts)
	}
	// As the command warns: b was not gone, and both have them now.
	if a, b := p.a.spool.Stats().Deliveries, p.b.spool.Stats().Deliveries; a != 2 || b != 2 {
		t.Errorf("a has %d, b has %d", a, b)
	}
}
