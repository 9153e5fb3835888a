package ingest

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// largeBody is from which size on a request waits for its turn.
const largeBody = 64 << 10

// turns lets only so many large requests compute at once: half of the
// processors. A page of 5,000 recipients is 30 ms of work without a pause. With
// one on every processor nobody looks at the network meanwhile (Go's scheduler
// polls it when a processor has nothing to run, else every 10 ms), and each
// command of each other client, and each reply of each receiver, waits for that.
type turns struct {
	free chan struct{}
	rest func(ctx context.Context, worked time.Duration) // see HTTPBackend; may be nil
}

func newTurns(rest func(context.Context, time.Duration)) turns {
	return turns{free: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), rest: rest}
}

// enter waits until ctx ends. leave may be called more than once.
func (t turns) enter(ctx context.Context) (leave func(), err error) {
	select {
	case t.free <- struct{}{}:
	case <-ctx.Done():
		e := refuse(fasthttp.StatusServiceUnavailable, codeUnavailable, "too many large requests at once; try again later")
		e.retryAfter = time.Second
		return nil, e
	}
	began := time.Now()
	return sync.OnceFunc(func() {
		if t.rest != nil {
			t.rest(ctx, time.Since(began))
		}
		<-t.free
	}), nil
}
