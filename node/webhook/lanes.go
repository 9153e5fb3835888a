package webhook

import (
	"container/list"
	"context"
	"sync"
	"time"
)

const (
	// quickLanes and slowLanes are how many requests are under way at a time, and
	// with them how many bodies are in memory.
	quickLanes = 128
	slowLanes  = 64
	// slowAfter is how long a request may take before its webhook goes by the
	// slow lanes.
	slowAfter = 5 * time.Second
	// warmConns is how many endpoints a connection is kept to while nothing is
	// sent.
	warmConns = 256
)

// lanes bound what webhooks have open at a time. Those that fail or are slow go
// by lanes of their own, so that a thousand endpoints that hang for 30 s each
// take nothing from those that answer.
type lanes struct {
	quick, slow chan struct{}
	warm        struct {
		sync.Mutex
		order list.List // of *sender, the last used in front
		at    map[*sender]*list.Element
	}
}

func newLanes() *lanes {
	l := &lanes{quick: make(chan struct{}, quickLanes), slow: make(chan struct{}, slowLanes)}
	l.warm.at = map[*sender]*list.Element{}
	return l
}

// enter waits for a lane. leave is to be called when the request has ended.
func (l *lanes) enter(ctx context.Context, slow bool) (leave func(), err error) {
	lane := l.quick
	if slow {
		lane = l.slow
	}
	select {
	case lane <- struct{}{}:
		return func() { <-lane }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// used notes that a sender may have an open connection, and closes that of the
// one that was used longest ago if there are too many.
func (l *lanes) used(s *sender) {
	l.warm.Lock()
	if e := l.warm.at[s]; e != nil {
		l.warm.order.MoveToFront(e)
	} else {
		l.warm.at[s] = l.warm.order.PushFront(s)
	}
	var cold *sender
	if l.warm.order.Len() > warmConns {
		cold = l.warm.order.Remove(l.warm.order.Back()).(*sender)
		delete(l.warm.at, cold)
	}
	l.warm.Unlock()
	if cold != nil {
		cold.client.CloseIdleConnections()
	}
}

// forget is for a sender that is closed.
func (l *lanes) forget(s *sender) {
	l.warm.Lock()
	defer l.warm.Unlock()
	if e := l.warm.at[s]; e != nil {
		l.warm.order.Remove(e)
		delete(l.warm.at, s)
	}
}
