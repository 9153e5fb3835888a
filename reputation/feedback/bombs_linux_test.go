package feedback_test

import (
	"runtime"
	"syscall"
	"testing"
	"time"

	"hikyaku/reputation/feedback"
)

// TestBombs reads each at one size and at four times that: the work must not grow
// much faster than the size. It is measured in this thread's CPU time, since
// other programs run here too, and the least of several readings counts.
func TestBombs(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	small, large := bombs(120<<10), bombs(480<<10)
	for name := range small {
		a, b := cpuTime(t, small[name]), cpuTime(t, large[name])
		if b > 12*a && b > 100*time.Millisecond {
			t.Errorf("%s: %v for %d bytes, %v for %d", name, a, len(small[name]), b, len(large[name]))
		}
	}
}

// cpuTime is what one reading takes at least.
func cpuTime(t *testing.T, raw []byte) time.Duration {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_THREAD, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	best := time.Hour
	for range 3 {
		began := used()
		holds(t, feedback.Parse(raw))
		best = min(best, used()-began)
	}
	return best
}
