package node

import "sync"

// gate counts what is under way and can be shut: from then on nothing new
// begins, and shut waits for what has begun. (A WaitGroup alone does not allow
// Add while Wait is waiting at zero.)
type gate struct {
	mu struct {
		sync.Mutex
		shut bool
	}
	inside sync.WaitGroup
}

// enter reports whether something new may begin; then leave must follow.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.shut {
		return false
	}
	g.inside.Add(1)
	return true
}

func (g *gate) leave() { g.inside.Done() }

// start runs fn on a goroutine of its own, or reports that it is too late.
func (g *gate) start(fn func()) bool {
	if !g.enter() {
		return false
	}
	go func() { // waited for by shut
		defer g.leave()
		fn()
	}()
	return true
}

// shut lets nothing new in and waits. Doing it twice is harmless.
func (g *gate) shut() {
	g.mu.Lock()
	g.mu.shut = true
	g.mu.Unlock()
	g.inside.Wait()
}
