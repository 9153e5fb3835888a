package measure_test

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"hikyaku/bench/measure"
)

// testdata/hdrhistogram.json was written with hdrhistogram-go v1.4.0, range 1 to
// 3,600,000,000, three digits: a later version has to read and say the same.
type vector struct {
	Name        string           `json:"name"`
	Values      [][2]int64       `json:"values"` // µs, times
	Encoded     string           `json:"encoded"`
	Percentiles map[string]int64 `json:"percentiles"`
	Count       uint64           `json:"count"`
	Mean        float64          `json:"mean"`
}

func vectors(tb testing.TB) []vector {
	tb.Helper()
	b, err := os.ReadFile("testdata/hdrhistogram.json")
	if err != nil {
		tb.Fatal(err)
	}
	var v []vector
	if err := json.Unmarshal(b, &v); err != nil || len(v) < 6 {
		tb.Fatalf("%d vectors, %v", len(v), err)
	}
	return v
}

func TestHistogramAgreesWithHdrHistogram(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			var own measure.Histogram
			for _, x := range v.Values {
				own.Add(time.Duration(x[0])*time.Microsecond, uint64(x[1]))
			}
			theirs, err := measure.DecodeHistogram(v.Encoded)
			if err != nil {
				t.Fatal(err)
			}
			again, err := measure.DecodeHistogram(own.Encode())
			if err != nil {
				t.Fatal(err)
			}
			for name, h := range map[string]*measure.Histogram{"own": &own, "theirs": theirs, "own, encoded": again} {
				if h.Count() != v.Count {
					t.Errorf("%s: count %d, want %d", name, h.Count(), v.Count)
				}
				for p, want := range v.Percentiles {
					q, err := strconv.ParseFloat(p, 64)
					if err != nil {
						t.Fatal(err)
					}
					// The vectors round to the nearer of two values, this package
					// up: only whole ranks can agree.
					rank := q / 100 * float64(v.Count)
					if whole := math.Abs(rank-math.Round(rank)) < 1e-6; !whole || q == 0 {
						continue
					}
					if got, want := h.Quantile(q/100).Microseconds(), min(want, 3_600_000_000); got != want {
						t.Errorf("%s: percentile %s is %d, want %d", name, p, got, want)
					}
				}
				if got := float64(h.Mean()) / 1000; math.Abs(got-v.Mean) > 1e-3*v.Mean+0.001 {
					t.Errorf("%s: mean %g, want %g", name, got, v.Mean)
				}
			}
		})
	}
}

func TestHistogramOfNothing(t *testing.T) {
	var h measure.Histogram
	if h.Quantile(0.99) != 0 || h.Min() != 0 || h.Max() != 0 || h.Mean() != 0 || h.Bars(5) != nil || h.Curve(5) != nil {
		t.Errorf("an empty histogram is not empty: %+v", h.Summary())
	}
	h.Merge(nil)
	h.Merge(&measure.Histogram{})
	if h.Count() != 0 {
		t.Error("merging nothing added something")
	}
}

func TestHistogramLimits(t *testing.T) {
	var h measure.Histogram
	h.Add(-time.Second, 1)
	h.Add(5*time.Hour, 1)
	if h.Min() != 0 || h.Max() != measure.MaxLatency {
		t.Errorf("min %v, max %v", h.Min(), h.Max())
	}
	// Three digits: no value is off by more than a thousandth.
	for d := time.Microsecond; d < time.Hour; d = d*11/10 + time.Microsecond {
		var one measure.Histogram
		one.Add(d, 1)
		us := d.Truncate(time.Microsecond)
		if got := one.Max(); got < us || float64(got-us) > float64(us)/1000 {
			t.Fatalf("%v came back as %v", us, got)
		}
	}
}

// A quantile is never too low: the nearest rank above, also where the library
// takes the nearer one.
func TestQuantileRoundsUp(t *testing.T) {
	for _, c := range []struct {
		values int
		q      float64
		want   time.Duration // value i is i ms
	}{
		{6, 0.9, 6}, {6, 0.5, 3}, {7, 0.5, 4}, {10, 0.9, 9}, {10, 0.91, 10},
		{100, 0.99, 99}, {140, 0.99, 139}, {1000, 0.999, 999}, {1000, 0.9991, 1000},
		{10, 0, 1}, {10, -1, 1}, {10, 1, 10}, {10, 2, 10}, {1, 0.001, 1},
	} {
		var h measure.Histogram
		for i := 1; i <= c.values; i++ {
			h.Add(time.Duration(i)*time.Millisecond, 1)
		}
		if got := h.Quantile(c.q).Round(time.Millisecond); got != c.want*time.Millisecond {
			t.Errorf("quantile %g of %d values is %v, want %v ms", c.q, c.values, got, int64(c.want))
		}
	}
}

// Counts that no run reaches come from a file: they end in a figure, not in a
// loop or a wrapped total.
func TestHistogramOfHugeCounts(t *testing.T) {
	var h measure.Histogram
	h.Add(time.Millisecond, math.MaxInt64-1)
	h.Add(2*time.Millisecond, math.MaxUint64)
	if h.Count() != math.MaxInt64 || h.Max() < 2*time.Millisecond {
		t.Fatalf("count %d, max %v", h.Count(), h.Max())
	}
	decoded, err := measure.DecodeHistogram(h.Encode())
	if err != nil {
		t.Fatal(err)
	}
	decoded.Merge(&h) // no room for more
	if decoded.Summary() != h.Summary() {
		t.Errorf("%+v is not %+v", decoded.Summary(), h.Summary())
	}
	if c := decoded.Curve(50); len(c) > 40*50+1 || c[len(c)-1].Value != h.Max() {
		t.Errorf("%d points", len(c))
	}
	if b := decoded.Bars(10); len(b) == 0 || b[0].Count != math.MaxInt64-1 {
		t.Errorf("bars %+v", b)
	}
}

func TestDecodeHistogramRefuses(t *testing.T) {
	other := func(low, high int64, digits int) string {
		text, err := hdrhistogram.New(low, high, digits).Encode(hdrhistogram.V2CompressedEncodingCookieBase)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	var h measure.Histogram
	h.Add(time.Second, 3)
	whole := h.Encode()
	for name, c := range map[string]struct{ text, want string }{
		"nothing":         {"", "too short"},
		"not base64":      {"HIST!", "base64"},
		"another cookie":  {"XXXX" + whole[4:], "not supported"},
		"cut off":         {whole[:len(whole)/8*4], "smaller"},
		"too long":        {strings.Repeat("A", 1<<20+1), "more than it needs"},
		"nanoseconds":     {other(1000, 3_600_000_000_000, 3), "another range"},
		"a shorter range": {other(1, 1_000_000, 3), "another range"},
		"fewer digits":    {other(1, 3_600_000_000, 2), "another range"},
	} {
		got, err := measure.DecodeHistogram(c.text)
		if err == nil || got != nil || !strings.HasPrefix(err.Error(), "read HdrHistogram: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCurveAndBars(t *testing.T) {
	var h measure.Histogram
	for i := 1; i <= 10000; i++ {
		h.Add(time.Duration(i)*time.Millisecond/10, 1)
	}
	curve := h.Curve(5)
	if last := curve[len(curve)-1]; last.Quantile != 1 || last.Value != h.Max() {
		t.Errorf("the curve ends at %+v", last)
	}
	if !slices.IsSortedFunc(curve, func(a, b measure.Step) int { return int(a.Value - b.Value) }) {
		t.Error("the curve falls")
	}
	for _, s := range curve {
		// Of values spread evenly to a second the share is the value.
		if want := s.Quantile; math.Abs(s.Value.Seconds()-want) > 0.0015 {
			t.Errorf("at %.5f the curve says %v", s.Quantile, s.Value)
		}
	}
	sum, before := uint64(0), time.Duration(0)
	for i, b := range h.Bars(5) {
		if i > 0 && b.From != before {
			t.Errorf("bar %d begins at %v, the one before ends at %v", i, b.From, before)
		}
		before = b.To
		sum += b.Count
	}
	if sum != 10000 {
		t.Errorf("the bars hold %d of 10000", sum)
	}
}

func TestRecorderLosesNothing(t *testing.T) {
	r := measure.NewRecorder()
	const each, writers = 20000, 8
	var work sync.WaitGroup
	stop := make(chan struct{})
	var sum measure.Histogram
	reader := sync.WaitGroup{}
	reader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				sum.Merge(r.Interval())
				if n := r.Total().Count(); n < sum.Count() {
					t.Errorf("a total of %d after intervals of %d", n, sum.Count())
				}
			}
		}
	})
	for w := range writers {
		work.Go(func() {
			for i := range each {
				r.Record(time.Duration(w*each+i) * time.Microsecond)
			}
		})
	}
	work.Wait()
	close(stop)
	reader.Wait()
	sum.Merge(r.Interval())
	if sum.Count() != each*writers || r.Total().Count() != each*writers {
		t.Errorf("intervals hold %d, the total %d, want %d", sum.Count(), r.Total().Count(), each*writers)
	}
	if sum.Encode() != r.Total().Encode() {
		t.Error("the intervals together are not the total")
	}
	if n := r.Interval().Count(); n != 0 {
		t.Errorf("%d values are in a second interval", n)
	}
	if n := testing.AllocsPerRun(100, func() { r.Record(time.Millisecond) }); n != 0 {
		t.Errorf("Record allocates %g times", n)
	}
}

func FuzzDecodeHistogram(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.Encoded)
		f.Add(v.Encoded[:len(v.Encoded)/2])
	}
	var huge measure.Histogram
	huge.Add(time.Millisecond, math.MaxInt64-1)
	huge.Add(time.Second, 1)
	f.Add(huge.Encode())
	f.Add("")
	f.Add(strings.Repeat("A", 100))
	f.Fuzz(func(t *testing.T, s string) {
		h, err := measure.DecodeHistogram(s)
		if err != nil {
			return
		}
		again, err := measure.DecodeHistogram(h.Encode())
		if err != nil || again.Summary() != h.Summary() {
			t.Fatalf("not the same again: %v", err)
		}
		h.Curve(5)
		h.Bars(10)
	})
}

func BenchmarkRecord(b *testing.B) {
	r := measure.NewRecorder()
	b.SetParallelism(50) // 100 goroutines on two cores
	b.RunParallel(func(pb *testing.PB) {
		d := time.Millisecond
		for pb.Next() {
			r.Record(d)
			d += 100 * time.Nanosecond
		}
	})
}
