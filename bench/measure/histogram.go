package measure

import (
	"math"
	"math/bits"
	"time"
)

// The layout is HdrHistogram's with the parameters (1, 3.6e9, 3) and the
// microsecond as its unit: 1 µs to 1 h, each value to three significant digits.
// It is ours because recording has to be lock-free (the Go library's is a plain
// increment, to be guarded by a lock); the encoded form is the common one
// (encode.go), so every HdrHistogram tool reads it.
const (
	subBucketBits = 11 // 2048 sub-buckets tell apart 2000 values: three digits
	subBuckets    = 1 << subBucketBits
	halfBuckets   = subBuckets / 2
	significant   = 3
	lowestMicros  = 1
	highestMicros = 3_600_000_000
	buckets       = 22 // 2048 << 21 is the first power above an hour
	cells         = (buckets + 1) * halfBuckets
)

// MaxLatency is the longest time that is told apart; what is longer counts as it.
const MaxLatency = highestMicros * time.Microsecond

// cellOf is the index of the cell that counts d.
func cellOf(d time.Duration) int {
	v := min(max(int64(d), 0)/int64(time.Microsecond), highestMicros)
	// The bucket is the power of two above the sub-buckets' reach.
	b := 64 - subBucketBits - bits.LeadingZeros64(uint64(v)|(subBuckets-1))
	return b*halfBuckets + int(v>>b)
}

// cellRange is the lowest value a cell counts and how many it counts, in µs.
func cellRange(i int) (low, width int64) {
	b, sub := i>>(subBucketBits-1)-1, i&(halfBuckets-1)+halfBuckets
	if b < 0 {
		b, sub = 0, sub-halfBuckets
	}
	return int64(sub) << b, 1 << b
}

// upper is the highest value that falls into cell i: what a percentile reports,
// so that it is never too low.
func upper(i int) time.Duration {
	low, width := cellRange(i)
	return time.Duration(min(low+width-1, highestMicros)) * time.Microsecond
}

// middle stands for all values of a cell in a mean.
func middle(i int) float64 {
	low, width := cellRange(i)
	return float64(low) + float64(width>>1)
}

// Histogram is a spread of latencies from 1 µs to 1 h in 184 KiB. The zero value
// is empty and ready. It is not safe for concurrent use: Recorder is.
type Histogram struct {
	counts []uint64 // nil while empty
	total  uint64
}

// Add counts d n times.
func (h *Histogram) Add(d time.Duration, n uint64) {
	if h.counts == nil {
		h.counts = make([]uint64, cells)
	}
	h.counts[cellOf(d)] += n
	h.total += n
}

// Merge adds all that o has counted.
func (h *Histogram) Merge(o *Histogram) {
	if o == nil || o.total == 0 {
		return
	}
	if h.counts == nil {
		h.counts = make([]uint64, cells)
	}
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
}

// Count is how many values were counted.
func (h *Histogram) Count() uint64 { return h.total }

// Quantile is the time within which the share q (0 to 1) of the values lie, to
// three digits and never too low; 0 of an empty histogram.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	// The nearest rank, at least the first value. The tolerance keeps 0.9 of 10
	// from becoming the tenth by the last bit of a float.
	rank := uint64(math.Ceil(min(max(q, 0), 1)*float64(h.total) - 1e-9*float64(h.total)))
	rank = min(max(rank, 1), h.total)
	seen := uint64(0)
	for i, n := range h.counts {
		if seen += n; seen >= rank {
			return upper(i)
		}
	}
	panic("BUG: a histogram's total is more than its cells hold")
}

// Min and Max are the smallest and the largest value, to three digits.
func (h *Histogram) Min() time.Duration {
	for i, n := range h.counts {
		if n > 0 {
			low, _ := cellRange(i)
			return time.Duration(low) * time.Microsecond
		}
	}
	return 0
}

func (h *Histogram) Max() time.Duration { return h.Quantile(1) }

// Mean is the average, to three digits.
func (h *Histogram) Mean() time.Duration {
	if h.total == 0 {
		return 0
	}
	sum := 0.0
	for i, n := range h.counts {
		if n > 0 {
			sum += float64(n) * middle(i)
		}
	}
	return time.Duration(sum / float64(h.total) * float64(time.Microsecond))
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
		Count: h.total, Min: h.Min(), Mean: h.Mean(),
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
	if h.total == 0 {
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
	for i, n := range h.counts {
		if n == 0 {
			continue
		}
		at := time.Duration(middle(i)) * time.Microsecond
		for at > out[len(out)-1].To {
			k++
			out = append(out, Bar{From: edge(k), To: edge(k + 1)})
		}
		out[len(out)-1].Count += n
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
	if h.total == 0 {
		return nil
	}
	ticks = min(max(ticks, 1), 50)
	var out []Step
	seen, cell := uint64(0), 0
	for half := 0; half < 40; half++ {
		for t := range ticks {
			rest := math.Pow(2, -float64(half)) * (1 - float64(t)/float64(2*ticks))
			rank := max(uint64(math.Ceil((1-rest)*float64(h.total))), 1)
			for seen < rank {
				seen += h.counts[cell]
				cell++
			}
			out = append(out, Step{1 - rest, upper(cell - 1)})
			if rest*float64(h.total) < 1 { // beyond the last value nothing is known
				return append(out, Step{1, h.Max()})
			}
		}
	}
	return append(out, Step{1, h.Max()})
}
