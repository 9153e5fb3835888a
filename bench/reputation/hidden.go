package reputation

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"hikyaku/bench/carriers"
	"hikyaku/controlplane/policy"
)

// mood is what a carrier allows a source from a time on.
type mood struct {
	at              time.Time
	carrier, source int
	limits          policy.Limits
}

// The hidden limits, as multiples of what is written.
const (
	leastMood = 0.35
	mostMood  = 2.5
	// A carrier changes its mind after between these times.
	leastCalm = 90 * time.Minute
	mostCalm  = 5 * time.Hour
	// evenness is by how much sources differ at one carrier.
	evenness = 0.15
	// disliked is what is left to a source that has fallen from favour at a
	// carrier, for between two and five hours.
	disliked = 0.1
)

// drawMoods draws what each carrier allows each source over the day.
func (w *world) drawMoods(r *rand.Rand) []mood {
	var all []mood
	falls := w.drawFalls(r)
	for c, p := range w.profiles {
		luck := make([]float64, len(w.sources))
		for i := range luck {
			luck[i] = 1 + evenness*(2*r.Float64()-1)
		}
		factor := drawFactor(r)
		for at := w.start; at.Before(w.end); {
			conns := p.PerSource.Connections
			if r.IntN(3) == 0 {
				conns = max(1, conns/2)
			}
			next := at.Add(leastCalm + time.Duration(r.Int64N(int64(mostCalm-leastCalm)))).Truncate(time.Second)
			for s := range w.sources {
				all = append(all, w.mooded(p, mood{at: at, carrier: c, source: s}, factor*luck[s], conns))
				for _, f := range falls {
					if f.carrier != c || f.source != s || !f.from.Before(next) || !f.to.After(at) {
						continue
					}
					all = append(all, w.mooded(p, mood{at: latest(f.from, at), carrier: c, source: s}, factor*luck[s]*disliked, conns))
					if f.to.Before(next) {
						all = append(all, w.mooded(p, mood{at: f.to, carrier: c, source: s}, factor*luck[s], conns))
					}
				}
			}
			at, factor = next, drawFactor(r)
		}
	}
	slices.SortStableFunc(all, func(a, b mood) int { return cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) })
	return all
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// fall is a source that a carrier dislikes for a while, whatever it does.
type fall struct {
	carrier, source int
	from, to        time.Time
}

func (w *world) drawFalls(r *rand.Rand) []fall {
	var fs []fall
	for range max(1, int(w.o.Span/(6*time.Hour))) * len(w.profiles) / 4 {
		from := w.start.Add(time.Duration(r.Int64N(int64(w.o.Span)))).Truncate(time.Second)
		fs = append(fs, fall{r.IntN(len(w.profiles)), r.IntN(len(w.sources)), from, from.Add(2*time.Hour + time.Duration(r.Int64N(int64(3*time.Hour)))).Truncate(time.Second)})
	}
	return fs
}

// drawFactor is evenly spread over the logarithm, so that twice and half are
// as likely.
func drawFactor(r *rand.Rand) float64 {
	return math.Exp(math.Log(leastMood) + r.Float64()*(math.Log(mostMood)-math.Log(leastMood)))
}

// mooded is a mood with its limits: the written ones, times the factor. Rates
// are by the hour, which lets small ones differ.
func (w *world) mooded(p *carriers.Profile, m mood, factor float64, conns int) mood {
	l := p.PerSource
	m.limits = policy.Limits{Connections: conns, ConnectionRate: l.ConnectionRate}
	if r := l.Rate; r != nil {
		perHour := float64(r.N) * float64(time.Hour) / float64(r.Per) * factor
		m.limits.Rate = &policy.Rate{N: max(1, int64(perHour)), Per: time.Hour, Burst: r.BurstOrDefault()}
	}
	if l.PerDay > 0 {
		m.limits.PerDay = max(1, int64(float64(l.PerDay)*math.Sqrt(factor)))
	}
	return m
}
