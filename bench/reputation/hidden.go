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

// Mood is what a carrier allows a source from a time on.
type Mood struct {
	After           time.Duration // the beginning
	Carrier, Source int           // their numbers
	Limits          policy.Limits
}

// Moods says how carriers change their minds: Least and Most are the times
// between two changes.
type Moods struct {
	Seed        uint64
	Carriers    []*carriers.Profile
	Sources     int
	Span        time.Duration
	Least, Most time.Duration
}

// The hidden limits, as multiples of what is written.
const (
	leastMood = 0.35
	mostMood  = 2.5
	// evenness is by how much sources differ at one carrier.
	evenness = 0.15
	// disliked is what is left to a source that has fallen from favour at a
	// carrier, for between two fifths of Most and all of it.
	disliked = 0.1
)

// A carrier of the simulated day changes its mind after between these times.
const (
	leastCalm = 90 * time.Minute
	mostCalm  = 5 * time.Hour
)

// Draw draws what each carrier allows each source, in the order of time.
func (m Moods) Draw() []Mood {
	var all []Mood
	r := rand.New(rand.NewPCG(m.Seed, 1))
	falls := m.falls(r)
	for c, p := range m.Carriers {
		luck := make([]float64, m.Sources)
		for i := range luck {
			luck[i] = 1 + evenness*(2*r.Float64()-1)
		}
		factor := drawFactor(r)
		for at := time.Duration(0); at < m.Span; {
			conns := p.PerSource.Connections
			if r.IntN(3) == 0 {
				conns = max(1, conns/2)
			}
			next := (at + m.Least + time.Duration(r.Int64N(int64(m.Most-m.Least)))).Truncate(time.Second)
			for s := range m.Sources {
				all = append(all, mooded(p, Mood{After: at, Carrier: c, Source: s}, factor*luck[s], conns))
				for _, f := range falls {
					if f.carrier != c || f.source != s || f.from >= next || f.to <= at {
						continue
					}
					all = append(all, mooded(p, Mood{After: max(f.from, at), Carrier: c, Source: s}, factor*luck[s]*disliked, conns))
					if f.to < next {
						all = append(all, mooded(p, Mood{After: f.to, Carrier: c, Source: s}, factor*luck[s], conns))
					}
				}
			}
			at, factor = next, drawFactor(r)
		}
	}
	slices.SortStableFunc(all, func(a, b Mood) int { return cmp.Compare(a.After, b.After) })
	return all
}

// fall is a source that a carrier dislikes for a while, whatever it does.
type fall struct {
	carrier, source int
	from, to        time.Duration
}

func (m Moods) falls(r *rand.Rand) []fall {
	var fs []fall
	for range max(1, int(m.Span/(m.Most*6/5))) * len(m.Carriers) / 4 {
		from := time.Duration(r.Int64N(int64(m.Span))).Truncate(time.Second)
		f := fall{carrier: r.IntN(len(m.Carriers)), source: r.IntN(m.Sources), from: from}
		f.to = (from + m.Most*2/5 + time.Duration(r.Int64N(int64(m.Most*3/5)))).Truncate(time.Second)
		fs = append(fs, f)
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
func mooded(p *carriers.Profile, m Mood, factor float64, conns int) Mood {
	l := p.PerSource
	m.Limits = policy.Limits{Connections: conns, ConnectionRate: l.ConnectionRate}
	if r := l.Rate; r != nil {
		perHour := float64(r.N) * float64(time.Hour) / float64(r.Per) * factor
		m.Limits.Rate = &policy.Rate{N: max(1, int64(perHour)), Per: time.Hour, Burst: r.BurstOrDefault()}
	}
	if l.PerDay > 0 {
		m.Limits.PerDay = max(1, int64(float64(l.PerDay)*math.Sqrt(factor)))
	}
	return m
}
