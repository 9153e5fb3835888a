package mx

import (
	"context"
	"time"
)

// flight is a question under way; whoever has the same question waits for it.
type flight struct {
	done chan struct{}
	rec  *records // set before done is closed
}

var errClosedRecords = &records{status: failed, why: "the resolver is shutting down"}

// lookup answers a question from the cache, or joins the flight for it, or
// starts one. A caller whose ctx ends stops waiting; the flight goes on for
// the others and for the cache.
func (r *Resolver) lookup(ctx context.Context, k key, now time.Time) *records {
	r.mu.Lock()
	rec := r.mu.cache.get(k, now)
	f := r.mu.flights[k]
	r.mu.Unlock()
	if rec != nil {
		r.metrics.hits.Add(1)
		return rec
	}
	if f != nil {
		r.metrics.shared.Add(1)
	} else {
		// The slot comes first: as many goroutines and sockets as there are
		// slots, however many callers wait here.
		select {
		case r.slots <- struct{}{}:
			f = r.launch(k, now)
		case <-ctx.Done():
			return &records{status: failed, why: reason(ctx.Err())}
		case <-r.root.Done():
			return errClosedRecords
		}
	}
	select {
	case <-f.done:
		return f.rec
	case <-ctx.Done():
		return &records{status: failed, why: reason(ctx.Err())}
	}
}

// launch starts the flight for k with the slot that the caller has taken; the
// slot is given back when it ends, or at once if somebody was faster.
func (r *Resolver) launch(k key, now time.Time) *flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.mu.flights[k]
	switch rec := r.mu.cache.get(k, now); {
	case rec != nil:
		f = landed(rec)
	case f != nil:
	case r.mu.closed:
		f = landed(errClosedRecords)
	default:
		r.metrics.misses.Add(1)
		f = &flight{done: make(chan struct{})}
		r.mu.flights[k] = f
		r.running.Go(func() {
			defer func() { <-r.slots }()
			r.fly(f, k, now)
		})
		return f
	}
	<-r.slots
	return f
}

func landed(rec *records) *flight {
	f := &flight{done: make(chan struct{}), rec: rec}
	close(f.done)
	return f
}

// fly asks, follows a chain that the server did not, and puts the answer into
// the cache. Now is the time of whoever came first.
func (r *Resolver) fly(f *flight, k key, now time.Time) {
	ctx, cancel := context.WithTimeout(r.root, 2*time.Duration(r.config.Attempts)*r.config.Timeout)
	defer cancel()
	rec := r.ask(ctx, k)
	ttl := rec.ttl
	for steps := 0; rec.next != ""; steps++ {
		if steps == maxChain {
			r.metrics.fault(errChain)
			rec = &records{status: failed, why: errChain.Error()}
			break
		}
		rec = r.ask(ctx, key{rec.next, k.qtype})
		ttl = min(ttl, rec.ttl)
	}
	rec.ttl = ttl
	rec.until = now.Add(r.lifetime(rec))
	f.rec = rec

	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mu.flights, k)
	if r.root.Err() == nil { // a failure that is our own is not worth keeping
		r.mu.cache.put(k, rec)
	}
	close(f.done)
}

// failureTTL is how long a failure is remembered (RFC 9520 3.2: at least 1 s),
// so that a thousand domains behind one dead name server do not ask it a
// thousand times.
const failureTTL = 5 * time.Second

// lifetime is how long the cache may use an answer.
func (r *Resolver) lifetime(rec *records) time.Duration {
	ttl := time.Duration(rec.ttl) * time.Second
	switch {
	case rec.status == failed:
		return failureTTL
	case rec.status == found:
		return min(max(ttl, r.config.MinTTL), r.config.MaxTTL)
	case !rec.soa:
		return r.config.MinTTL // RFC 2308 5: without its SOA a negative answer should not be kept
	}
	return min(max(ttl, r.config.MinTTL), r.config.NegativeTTL)
}
