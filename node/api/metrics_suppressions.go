package api

import "time"

// SuppressionMetrics is how the node's suppression list fares.
type SuppressionMetrics struct {
	Entries     map[string]int64 // by kind
	Sightings   int64
	Hits        uint64
	Passed      uint64
	Faults      uint64
	Unreadable  uint64
	Applied     uint64
	Snapshots   uint64
	Failures    uint64
	Fed         uint64
	Dropped     uint64
	Queue       int
	MaxQueue    int
	Log         int64
	Origins     int
	FilterBytes int64
	FilterReady bool
	DiskBytes   uint64
	Behind      int           // other nodes that are known to lack something
	Unreachable int           // other nodes that cannot be asked
	Longest     time.Duration // since when that is so, at most
}

func (p printer) suppressions(m *SuppressionMetrics) {
	by(p, gaugeKind, "suppressions", "Entries of the suppression lists, by kind.", "kind", m.Entries)
	gauge(p, "suppression_sightings", "Addresses that were unknown once and wait for a second sight.", m.Sightings)
	counter(p, "suppression_hits_total", "Look-ups that found an entry.", m.Hits)
	counter(p, "suppression_disk_lookups_total", "Look-ups that the filter in memory could not answer, and found nothing.", m.Passed)
	counter(p, "suppression_faults_total", "Reads and background writes of the suppression list that failed.", m.Faults)
	counter(p, "suppression_unreadable_total", "Records of the suppression list that could not be read.", m.Unreadable)
	counter(p, "suppression_replicated_total", "Operations on the suppression list that came from other nodes.", m.Applied)
	counter(p, "suppression_snapshots_total", "Whole suppression lists that were read from other nodes.", m.Snapshots)
	counter(p, "suppression_pull_failures_total", "Tries to ask another node for its suppressions that failed.", m.Failures)
	counter(p, "suppression_fed_total", "Entries that replies have made.", m.Fed)
	counter(p, "suppression_feed_dropped_total", "Findings that were not stored, because too many waited or the disk failed.", m.Dropped)
	gauge(p, "suppression_feed_queue", "Findings that wait to be stored.", m.Queue)
	gauge(p, "suppression_feed_queue_limit", "Findings that may wait.", m.MaxQueue)
	gauge(p, "suppression_log_operations", "Operations in the log for other nodes.", m.Log)
	gauge(p, "suppression_origins", "Lives of nodes that the suppression list tells apart.", m.Origins)
	gauge(p, "suppression_filter_bytes", "Memory of the filter in front of the suppression list.", m.FilterBytes)
	gauge(p, "suppression_filter_ready", "1 when the filter is filled; until then look-ups ask the disk.", truth(m.FilterReady))
	gauge(p, "suppression_disk_bytes", "Size of the suppression list on disk.", m.DiskBytes)
	gauge(p, "suppression_nodes_behind", "Other nodes that are known to lack something that is here.", m.Behind)
	gauge(p, "suppression_nodes_unreachable", "Other nodes that cannot be asked for their suppressions.", m.Unreachable)
	gauge(p, "suppression_nodes_unreachable_seconds", "How long that is so, for the one it is longest for.", m.Longest.Seconds())
}
