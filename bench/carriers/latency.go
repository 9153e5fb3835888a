package carriers

import (
	"math"
	"slices"
	"time"

	"hikyaku/controlplane/policy"
)

// Latency is a distribution of times: lognormal by its median and its 99th
// percentile, or a list of quantiles from 0 to 1 at even distances, which are
// joined by straight lines. The zero value is no time at all.
type Latency struct {
	Median    policy.Duration   `json:"median,omitempty"`
	P99       policy.Duration   `json:"p99,omitempty"`
	Quantiles []policy.Duration `json:"quantiles,omitempty"`
}

// quantiles is a distribution made ready: draw picks one of its times, all of
// which are as likely. nil is always zero.
type quantiles []time.Duration

// steps is the number of times that stand for a lognormal distribution. The
// largest is its quantile 1 - 1/(2 steps), which bounds the tail.
const steps = 512

func (l Latency) table() quantiles {
	if n := len(l.Quantiles); n > 0 {
		t := make(quantiles, steps)
		for i := range t {
			at := i * (n - 1)
			k, rest := at/(steps-1), at%(steps-1)
			t[i] = l.Quantiles[k].D()
			if k+1 < n {
				t[i] += (l.Quantiles[k+1].D() - t[i]) * time.Duration(rest) / (steps - 1)
			}
		}
		return t
	}
	if l.Median == 0 {
		return nil
	}
	if l.P99 <= l.Median {
		return quantiles{l.Median.D()}
	}
	const z99 = 2.3263478740408408 // the 99th percentile of the normal distribution
	sigma := math.Log(float64(l.P99)/float64(l.Median)) / z99
	t := make(quantiles, steps)
	for i := range t {
		q := (float64(i) + 0.5) / steps
		t[i] = time.Duration(float64(l.Median) * math.Exp(sigma*math.Sqrt2*math.Erfinv(2*q-1)))
	}
	return t
}

func (q quantiles) draw(r *dice) time.Duration {
	if len(q) == 0 {
		return 0
	}
	return q[r.next()%uint64(len(q))]
}

func (l Latency) check(bad func(key, reason string)) {
	switch {
	case len(l.Quantiles) > 0 && (l.Median != 0 || l.P99 != 0):
		bad("quantiles", "give median and p99, or quantiles, not both")
	case len(l.Quantiles) == 1 || len(l.Quantiles) > 101:
		bad("quantiles", "want 2 to 101 quantiles")
	case !slices.IsSorted(l.Quantiles):
		bad("quantiles", "quantiles rise")
	case l.P99 != 0 && l.P99 < l.Median:
		bad("p99", "the 99th percentile cannot be less than the median")
	case l.P99 != 0 && l.Median == 0:
		bad("p99", "p99 needs a median beside it")
	}
	for _, d := range append(l.Quantiles, l.Median, l.P99) {
		if d.D() > maxLatency {
			bad("", "nothing takes longer than "+policy.Duration(maxLatency).String())
			return
		}
	}
}

const maxLatency = time.Hour

// dice is a small deterministic source of chance (splitmix64).
type dice struct{ state uint64 }

func (d *dice) next() uint64 {
	d.state += 0x9e3779b97f4a7c15
	return mix(d.state)
}

// hit reports true for a share of the throws.
func (d *dice) hit(share float64) bool { return share > 0 && below(d.next(), share) }

// below reports whether an evenly spread number falls into the first share of
// its range.
func below(x uint64, share float64) bool { return float64(x>>11)/(1<<53) < share }

func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// hash spreads a text evenly under a seed (FNV-1a, then mix). ASCII letters
// count as lower case: a domain's case is nobody's identity.
func hash(seed uint64, text string) uint64 {
	h := uint64(0xcbf29ce484222325) ^ mix(seed)
	for i := range len(text) {
		b := text[i]
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		h = (h ^ uint64(b)) * 0x100000001b3
	}
	return mix(h)
}
