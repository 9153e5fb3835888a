package node

import (
	"hikyaku/node/api"
	"hikyaku/node/suppress"
	"hikyaku/spool/suppression"
)

// SuppressionAPI is a suppression list as the admin API asks it.
func SuppressionAPI(l *suppress.List) api.Suppressions { return suppressionAPI{l} }

type suppressionAPI struct{ *suppress.List }

// Metrics is api.Suppressions.
func (s suppressionAPI) Metrics() *api.SuppressionMetrics {
	m := s.List.Metrics()
	st := &m.Store
	out := &api.SuppressionMetrics{
		Entries: map[string]int64{}, Sightings: st.Total.Sightings, Hits: st.Hits, Passed: st.Passed, Faults: st.Faults, Unreadable: st.Unreadable,
		Applied: st.Applied, Snapshots: m.Snapshots, Failures: m.Failures, Fed: m.Fed + m.Found, Dropped: m.Dropped, Queue: m.Queue, MaxQueue: m.MaxQueue,
		Log: st.Log, Origins: st.Origins, FilterBytes: st.FilterBytes, FilterReady: st.FilterReady, DiskBytes: st.DiskBytes,
	}
	for _, word := range suppression.Kinds() {
		k, _ := suppression.ParseKind(word)
		out.Entries[word] = st.Total.ByKind[k]
	}
	for _, p := range m.Peers {
		if p.Behind {
			out.Behind++
		}
		if p.Why != "" {
			out.Unreachable++
			out.Longest = max(out.Longest, p.For)
		}
	}
	return out
}
