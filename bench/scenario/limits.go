package scenario

import (
	"context"
	"slices"

	"hikyaku/bench/report"
)

// targetLimited is what the issue asks of a node under cluster limits, as a part
// of its rate without.
const targetLimited = 0.97

// oneCarrier makes all of the load's destinations one carrier, so that both
// halves of the comparison group their mail alike.
const oneCarrier = `kind: Carrier
name: all
spec:
  domains: ["*.test"]
`

// everyLimit are limits on every scope that can span nodes, too high to bind, so
// that what is seen is what asking them costs.
const everyLimit = oneCarrier + `  limits: {rate: "1000000/s", connections: 5000, connection_rate: "100000/s", per_day: 1000000000}
  per_source: {rate: "1000000/s", connections: 2000, per_day: 1000000000}
  per_pool: {default: {rate: "1000000/s"}}
---
kind: Throttle
name: tenant
spec: {tenant: default, rate: "1000000/s", per_day: 1000000000}
---
kind: Throttle
name: tenant-carrier
spec: {tenant: default, carrier: all, rate: "1000000/s"}
---
kind: Stream
name: default
spec: {rate: "1000000/s"}
---
`

// half is one of the two that are compared.
type half struct {
	name, policy string
	seen         *closedLoop
}

// limits compares the same work with and without limits on every scope. Limits
// are a matter of memory on the node, whoever grants them: no message waits for
// another process.
func limits(ctx context.Context, r *Run) error {
	var free, ruled closedLoop
	err := r.rounds(func(round int) error {
		halves := []half{{"without limits", oneCarrier + "---\n", &free}, {"with limits on every scope", everyLimit, &ruled}}
		if round%2 == 1 { // the second of two finds a warmer disk, and a machine that is more tired
			slices.Reverse(halves)
		}
		for _, half := range halves {
			o, err := r.do(ctx, plan{name: half.name, flows: []*flow{r.steady("load")}, policy: half.policy, fault: r.Fault})
			if err != nil {
				return err
			}
			if round == 0 {
				r.show(o, half.name)
			}
			half.seen.rates, half.seen.cpu = append(half.seen.rates, o.rate), append(half.seen.cpu, micros(o.nodeCPU()))
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.figure("without limits", "msg/s", report.Higher, 0, free.rates...)
	r.figure("with limits on every scope", "msg/s", report.Higher, 0, ruled.rates...)
	r.figure("with of without", "×", report.Higher, targetLimited, ratios(ruled.rates, free.rates)...)
	r.figure("CPU of the node per message, without limits", "µs", report.Lower, 0, free.cpu...)
	r.figure("CPU of the node per message, with limits on every scope", "µs", report.Lower, 0, ruled.cpu...)
	r.figure("CPU per message, with of without", "×", report.Lower, 0, ratios(ruled.cpu, free.cpu)...)
	return nil
}
