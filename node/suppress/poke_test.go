package suppress_test

import (
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hikyaku/node/suppress"
)

// asking counts what came of requests.
type asking struct {
	to   road
	done *atomic.Int32
}

func (a asking) RoundTrip(r *http.Request) (*http.Response, error) {
	defer a.done.Add(1)
	return a.to.RoundTrip(r)
}

// TestAPokeTells: nodes that would ask only after an hour have an entry at once,
// since who has it pokes them; without that (the control) they ask nothing. The
// two seconds that are promised hold without it too: nodes ask each second.
func TestAPokeTells(t *testing.T) {
	for _, silent := range []bool{false, true} {
		c := newCluster(t)
		c.every = time.Hour
		names := []string{"a", "b", "c"}
		var done atomic.Int32
		for _, name := range names {
			n := &node{c: c, name: name, mem: vfs.NewMem(), dir: "suppression", done: make(chan struct{})}
			n.open(func(o *suppress.Options) {
				o.UnsafeNoPoke = silent
				o.Members = func() []string { return slices.Clone(names) } // also those that are not there yet
				o.Client = &http.Client{Transport: asking{road{n}, &done}}
				address := o.Address
				o.Address = func(to string) (string, error) {
					url, err := address(to)
					if err != nil {
						done.Add(1)
					}
					return url, err
				}
			})
		}
		first := int32(len(names) * (len(names) - 1))
		eventually(t, "each has asked each", func() bool { return done.Load() >= first })
		at := c.node("a").add(entry("shop", "u@x.example")).At
		for _, name := range names[1:] {
			wait := 30 * time.Second
			if silent {
				wait = 100 * time.Millisecond
			}
			if got := c.node(name).l.Has(t.Context(), at, wait); got == silent {
				t.Errorf("silent %v: %s has it: %v", silent, name, got)
			}
		}
		if asked := done.Load(); silent && asked != first {
			t.Errorf("%d requests without a poke", asked-first)
		}
	}
}
