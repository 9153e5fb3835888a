package scheduler

import (
	"math"
	"math/bits"
	"time"

	"hikyaku/controlplane/policy"
)

// leastRetry is what jitter may not go below, unless the schedule itself does.
const leastRetry = time.Second

// RetryAfter is how long a delivery waits after its temporary failures so far,
// of which there is at least one. The last wait of the schedule repeats. What r
// leaves out is policy.DefaultSchedule and policy.DefaultRetryJitter; r may be
// nil. rnd are 64 random bits: jitter keeps what failed together from coming
// back together.
func RetryAfter(r *policy.Retry, attempts int, rnd uint64) time.Duration {
	schedule, jitter := policy.DefaultSchedule, policy.DefaultRetryJitter
	if r != nil && len(r.Schedule) > 0 {
		schedule = r.Schedule
	}
	if r != nil && r.Jitter != nil {
		jitter = min(max(*r.Jitter, 0), 100)
	}
	i := min(max(attempts, 1), len(schedule)) - 1
	// No more than half of what a Duration holds, so that nothing overflows below.
	wait := min(max(schedule[i].D(), 0), math.MaxInt64/2)
	span := uint64(wait/100)*uint64(jitter) + uint64(wait%100)*uint64(jitter)/100
	// The high word of the product is uniform over 0 to 2×span.
	shift, _ := bits.Mul64(rnd, 2*span+1)
	return max(wait-time.Duration(span)+time.Duration(shift), min(wait, leastRetry))
}
