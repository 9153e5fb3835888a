package policy_test

import (
	"fmt"
	"testing"

	"hikyaku/controlplane/policy"
)

// BenchmarkLimitsAt is one question among 300 carriers with as many throttles.
func BenchmarkLimitsAt(b *testing.B) {
	var rs []policy.Resource
	for i := range 300 {
		rs = append(rs,
			resource(b, "Carrier", fmt.Sprint("c", i), fmt.Sprintf(`{"domains":["c%d.test"],"limits":{"rate":"10/s"},"per_source":{"per_day":10}}`, i)),
			resource(b, "Throttle", fmt.Sprint("t", i), fmt.Sprintf(`{"carrier":"c%d","rate":"5/s"}`, i)))
	}
	s := mustSet(b, rs...)
	on := policy.Selector{Carrier: "c150", Source: "default"}
	for b.Loop() {
		s.LimitsAt(noon, on)
	}
}
