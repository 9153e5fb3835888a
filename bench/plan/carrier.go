package plan

import (
	"fmt"
	"math"
	"time"

	"hikyaku/bench/carriers"
	"hikyaku/controlplane/policy"
)

// Round trips that a transaction and a connection take, where the time between
// here and the carrier counts.
const (
	// The envelope and DATA in one group (RFC 2920 3.1), then the content.
	transactionTrips = 2
	// TCP, greeting, EHLO, STARTTLS, TLS 1.3, EHLO.
	setupTrips = 6
)

// Distance is what a profile or a policy cannot know.
type Distance struct {
	RoundTrip time.Duration // to the carrier
	Answer    time.Duration // how long it takes for a message, where nothing says so
}

// FromProfile takes the limits of a simulated carrier on each source. Its limits
// over all sources are sized for a farm on one machine, where a dozen sources
// are many; taken for a target they would only say that it is too large.
func FromProfile(p *carriers.Profile, d Distance) Carrier {
	c := Carrier{Name: p.Name, MessagesPerConnection: p.MessagesPerConnection, From: fmt.Sprintf("the profile %s, which is a model, without its limits over all sources, at a round trip of %v", p.Name, d.RoundTrip)}
	c.limit(p.PerSource, policy.Limits{})
	l := p.Latency
	c.Transaction = mean(l.Mail) + mean(l.Rcpt) + mean(l.Data) + mean(l.Dot) + transactionTrips*d.RoundTrip
	c.Setup = mean(l.Connect) + mean(l.Hello) + setupTrips*d.RoundTrip
	return c
}

// Defaults of policy.Carrier, as its fields' comments say them.
const (
	defaultConnections           = 20
	defaultMessagesPerConnection = 1000
)

// FromPolicy takes the limits that the policy puts on the product's own
// sending.
func FromPolicy(name string, p policy.Carrier, d Distance) Carrier {
	c := Carrier{Name: name, MessagesPerConnection: p.MessagesPerConnection, From: fmt.Sprintf("the policy, with %v for the carrier's answers and a round trip of %v", d.Answer, d.RoundTrip)}
	if c.MessagesPerConnection == 0 {
		c.MessagesPerConnection = defaultMessagesPerConnection
	}
	c.limit(p.PerSource, p.Limits)
	if c.Connections == 0 {
		c.Connections = defaultConnections
	}
	c.Transaction = d.Answer + transactionTrips*d.RoundTrip
	c.Setup = setupTrips * d.RoundTrip
	return c
}

func (c *Carrier) limit(each, all policy.Limits) {
	c.PerSecond, c.TotalPerSecond = perSecond(each.Rate), perSecond(all.Rate)
	c.Connections, c.TotalConnections = each.Connections, all.Connections
	c.PerDay, c.TotalPerDay = each.PerDay, all.PerDay
	c.ConnectionsPerSecond = perSecond(each.ConnectionRate)
}

// stopped is the rate of a carrier to which nothing is to be sent ("0/s"): no
// number of addresses is enough, whereas 0 would be no limit.
const stopped = 1e-300

// perSecond ignores the burst: over hours it does not count.
func perSecond(r *policy.Rate) float64 {
	if r == nil || r.Per <= 0 {
		return 0
	}
	return max(float64(r.N)/r.Per.Seconds(), stopped)
}

// mean is the average of a latency, not its median: connections are occupied
// for the average.
func mean(l carriers.Latency) time.Duration {
	if n := len(l.Quantiles); n > 0 {
		// Straight lines between quantiles at even distances: the trapezoidal rule.
		var sum float64
		for i, q := range l.Quantiles {
			w := 1.0
			if n > 1 && (i == 0 || i == n-1) {
				w = 0.5
			}
			sum += w * float64(q)
		}
		return time.Duration(sum / float64(max(n-1, 1)))
	}
	if l.P99 <= l.Median || l.Median == 0 {
		return l.Median.D()
	}
	const z99 = 2.3263478740408408 // the 99th percentile of the normal distribution
	sigma := math.Log(float64(l.P99)/float64(l.Median)) / z99
	return time.Duration(float64(l.Median) * math.Exp(sigma*sigma/2))
}
