package scheduler

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func schedule(jitter int, waits ...time.Duration) *policy.Retry {
	r := &policy.Retry{Jitter: &jitter}
	for _, w := range waits {
		r.Schedule = append(r.Schedule, policy.Duration(w))
	}
	return r
}

func TestRetryGolden(t *testing.T) {
	var got strings.Builder
	for _, s := range []struct {
		name  string
		retry *policy.Retry
	}{
		{"default", nil},
		{"1m 2m 5m 10m 20m 40m 1h, jitter 25", schedule(25, time.Minute, 2*time.Minute, 5*time.Minute, 10*time.Minute, 20*time.Minute, 40*time.Minute, time.Hour)},
		{"1s 1d, jitter 50", schedule(50, time.Second, 24*time.Hour)},
	} {
		fmt.Fprintf(&got, "# %s\n%-8s %-20s %-20s %-20s %s\n", s.name, "failures", "least", "middle", "most", "drawn")
		rnd := rand.New(rand.NewPCG(1, 2))
		for n := 1; n <= 20; n++ {
			fmt.Fprintf(&got, "%-8d %-20s %-20s %-20s %s\n", n,
				RetryAfter(s.retry, n, 0), RetryAfter(s.retry, n, 1<<63), RetryAfter(s.retry, n, math.MaxUint64), RetryAfter(s.retry, n, rnd.Uint64()))
		}
		got.WriteByte('\n')
	}
	path := filepath.Join("testdata", "retry.golden")
	if *rewrite {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("retry delays changed; got\n%s\nwant\n%s", got.String(), want)
	}
}

func TestRetryAfter(t *testing.T) {
	ms := time.Millisecond
	for _, tt := range []struct {
		name     string
		retry    *policy.Retry
		attempts int
		rnd      uint64
		want     time.Duration
	}{
		{"no failure counts as the first", schedule(0, time.Minute, time.Hour), 0, 7, time.Minute},
		{"second", schedule(0, time.Minute, time.Hour), 2, 7, time.Hour},
		{"the last repeats", schedule(0, time.Minute, time.Hour), math.MaxInt, 7, time.Hour},
		{"least", schedule(10, time.Minute), 1, 0, 54 * time.Second},
		{"most", schedule(10, time.Minute), 1, math.MaxUint64, 66 * time.Second},
		{"an empty schedule is the default", &policy.Retry{}, 1, 0, 270 * time.Second},
		{"jitter keeps to a second", schedule(50, 1200*ms), 1, 0, time.Second},
		{"a schedule below a second is kept", schedule(50, 500*ms), 1, 0, 500 * ms},
		{"jitter out of range is all of it", schedule(900, time.Minute), 1, 0, time.Second},
		{"negative jitter is none", schedule(-5, time.Minute), 1, 0, time.Minute},
		{"a negative wait is none", schedule(10, -time.Minute), 1, 9, 0},
		{"the longest", schedule(100, math.MaxInt64), 1, math.MaxUint64, math.MaxInt64 - 1},
	} {
		if got := RetryAfter(tt.retry, tt.attempts, tt.rnd); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// Jitter stays in its range, reaches near both ends, and has its mean in the
// middle.
func TestRetryJitterIsEven(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	r, wait, span := schedule(20, time.Hour), time.Hour, 12*time.Minute
	const draws = 20_000
	var sum, least, most time.Duration = 0, math.MaxInt64, 0
	for range draws {
		got := RetryAfter(r, 1, rnd.Uint64())
		if got < wait-span || got > wait+span {
			t.Fatalf("%s is outside %s ± %s", got, wait, span)
		}
		sum, least, most = sum+(got-wait), min(least, got), max(most, got)
	}
	if mean := sum / draws; mean.Abs() > span/50 {
		t.Errorf("the mean is off by %s", mean)
	}
	if least > wait-span*99/100 || most < wait+span*99/100 {
		t.Errorf("draws only reach from %s to %s", least, most)
	}
}
