package suppress

import "context"

// Answer is the answer of a pull, for tests.
type Answer struct{ a *answer }

// ParseAnswer reads one.
func ParseAnswer(b []byte) (Answer, error) {
	a, err := parseAnswer(b)
	return Answer{a}, err
}

// Bytes writes it.
func (a Answer) Bytes() []byte { return a.a.append(nil) }

// Keeper moves a list's mark on, as runMissed does each markEvery.
type Keeper struct{ m mark }

// Move is one of its turns.
func (k *Keeper) Move(ctx context.Context, l *List) error { return l.moveMark(ctx, &k.m) }

// StoreFed stores what waits.
func (l *List) StoreFed() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	l.runFeed(ctx)
}
