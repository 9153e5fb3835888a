package measure

import (
	"fmt"
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The microsecond is the unit of the library's values: 1 µs to 1 h, each to
// three significant digits.
const (
	lowestMicros  = 1
	highestMicros = 3_600_000_000
	significant   = 3
)

// MaxLatency is the longest time that is told apart; what is longer counts as it.
const MaxLatency = highestMicros * time.Microsecond

func newCounts() *hdrhistogram.Histogram {
	return hdrhistogram.New(lowestMicros, highestMicros, significant)
}

// micros is d as a value that the library can always record.
func micros(d time.Duration) int64 { return min(max(d.Microseconds(), 0), highestMicros) }

// duration is a value of the library as a time. The library's last cell reaches
// a little beyond the hour.
func duration(us int64) time.Duration {
	return time.Duration(min(us, highestMicros)) * time.Microsecond
}

// Histogram is a spread of latencies from 1 µs to 1 h in 184 KiB. The zero value
// is empty and ready. It is not safe for concurrent use: Recorder is. It counts
// up to math.MaxInt64 values; what is beyond is left out.
type Histogram struct {
	counts *hdrhistogram.Histogram // nil while empty
}

// Add counts d n times.
func (h *Histogram) Add(d time.Duration, n uint64) {
	if h.counts == nil {
		h.counts = newCounts()
	}
	n = min(n, math.MaxInt64-h.Count())
	if err := h.counts.RecordValues(micros(d), int64(n)); err != nil {
		panic(fmt.Sprintf("BUG: count %v in a histogram: %v", d, err))
	}
}

// Merge adds all that o has counted.
func (h *Histogram) Merge(o *Histogram) {
	if o != nil {
		h.merge(o.counts)
	}
}

func (h *Histogram) merge(counts *hdrhistogram.Histogram) {
	if counts == nil || counts.TotalCount() == 0 {
		return
	}
	if h.counts == nil {
		h.counts = newCounts()
	}
	h.counts.Merge(counts) // all have one range: only an overflow is dropped
}

// Count is how many values were counted.
func (h *Histogram) Count() uint64 {
	if h.counts == nil {
		return 0
	}
	return uint64(h.counts.TotalCount())
}

// Quantile is the time within which the share q (0 to 1) of the values lie, to
// three digits and never too low; 0 of an empty histogram.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return duration(h.counts.ValueAtPercentile(h.percentile(q)))
}

// percentile is what to ask the library for to get the value at the share q. It
// takes the nearer of two values: within its 90th percentile of six values lie
// only five of them. This names the upper one.
func (h *Histogram) percentile(q float64) float64 {
	total := float64(h.Count())
	// The tolerance keeps 0.9 of 10 from becoming the tenth by the last bit of a
	// float.
	rank := math.Ceil(min(max(q, 0), 1)*total - 1e-12*total)
	return 100 * max(rank, 1) / total
}

// Min and Max are the smallest and the largest value, to three digits.
func (h *Histogram) Min() time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return duration(h.counts.Min())
}

func (h *Histogram) Max() time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return duration(h.counts.Max())
}

// Mean is the average, to three digits.
func (h *Histogram) Mean() time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return time.Duration(h.counts.Mean() * float64(time.Microsecond))
}

// Summary is a histogram in a line. Times are in nanoseconds in JSON.
type Summary struct {
	Count uint64        `json:"count"`
	Min   time.Duration `json:"min_ns"`
	Mean  time.Duration `json:"mean_ns"`
	P50   time.Duration `json:"p50_ns"`
	P90   time.Duration `json:"p90_ns"`
	P99   time.Duration `json:"p99_ns"`
	P999  time.Duration `json:"p99_9_ns"`
	Max   time.Duration `json:"max_ns"`
}

// Summary reads the usual percentiles.
func (h *Histogram) Summary() Summary {
	return Summary{
		Count: h.Count(), Min: h.Min(), Mean: h.Mean(),
		P50: h.Quantile(0.5), P90: h.Quantile(0.9), P99: h.Quantile(0.99), P999: h.Quantile(0.999), Max: h.Max(),
	}
}

// Bar is a range of values and how many lie in it: From < value ≤ To.
type Bar struct {
	From, To time.Duration
	Count    uint64
}

// Bars counts the values in ranges that grow by the factor 10^(1/perDecade),
// from the smallest to the largest value: a histogram for a logarithmic axis.
func (h *Histogram) Bars(perDecade int) []Bar {
	if h.Count() == 0 {
		return nil
	}
	perDecade = min(max(perDecade, 1), 100)
	edge := func(k int) time.Duration {
		return time.Duration(math.Pow(10, float64(k)/float64(perDecade)) * float64(time.Microsecond))
	}
	k := int(math.Floor(math.Log10(max(float64(h.Min().Microseconds()), 1)) * float64(perDecade)))
	out := []Bar{{From: edge(k), To: edge(k + 1)}}
	if k == 0 {
		out[0].From = 0
	}
	for _, cell := range h.counts.Distribution() {
		if cell.Count == 0 {
			continue
		}
		middle := duration(cell.From + (cell.To-cell.From+1)/2)
		for middle > out[len(out)-1].To {
			k++
			out = append(out, Bar{From: edge(k), To: edge(k + 1)})
		}
		out[len(out)-1].Count += uint64(cell.Count)
	}
	return out
}

// Step is one point of the percentile curve: the share Quantile of the values
// is at most Value.
type Step struct {
	Quantile float64
	Value    time.Duration
}

// Curve is the percentile curve as HdrHistogram draws it: ticks points in each
// halving of the distance to 100 %, so that each further nine has as much room
// as the one before. It ends with the last value: quantile 1.
func (h *Histogram) Curve(ticks int) []Step {
	if h.Count() == 0 {
		return nil
	}
	ticks = min(max(ticks, 1), 50)
	// Not the library's CumulativeDistributionWithTicks: with more values than a
	// float has digits for its step becomes nothing, and it never ends.
	var out []Step
	var percentiles []float64
	total := float64(h.Count())
	rest := 1.0 // the share beyond the point; below one value nothing is known
	for half := 0; half < 40 && rest*total >= 1; half++ {
		for t := 0; t < ticks && rest*total >= 1; t++ {
			rest = math.Pow(2, -float64(half)) * (1 - float64(t)/float64(2*ticks))
			out = append(out, Step{Quantile: 1 - rest})
			percentiles = append(percentiles, h.percentile(1-rest))
		}
	}
	for i, us := range h.counts.ValueAtPercentilesSlice(percentiles) {
		out[i].Value = duration(us)
	}
	return append(out, Step{1, h.Max()})
}
