package feedback_test

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"

	receiver "hikyaku/node/feedback"
)

// crowd is a listener at whose door there is always somebody.
type crowd struct{ net.Listener }

func (crowd) Accept() (net.Conn, error) {
	ours, theirs := net.Pipe()
	_ = theirs.Close()
	return ours, nil
}

func (crowd) Close() error { return nil }

func TestBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := receiver.Bounded(crowd{}, 2)
		var open []net.Conn
		var end error
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					end = err
					return
				}
				open = append(open, c)
			}
		}()
		for _, want := range []int{2, 3, 4} {
			synctest.Wait() // for a place
			if len(open) != want {
				t.Fatalf("%d connections came in, want %d", len(open), want)
			}
			last := open[len(open)-1]
			_, _ = last.Close(), last.Close() // twice gives back one place
		}
		synctest.Wait()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !errors.Is(end, net.ErrClosed) || len(open) != 5 {
			t.Errorf("after the end: %v, %d connections", end, len(open))
		}
	})
}
