// Package measure is what a benchmark looks at the machine with: what machine
// it is (ReadMachine), how long its disk takes to sync (SyncLatency), what the
// processes of a run use (Watch), how latencies are spread (Recorder,
// Histogram), whether something grows (Slope), and what the product says about
// itself (Scrape).
//
// It only reads: from /proc, /sys, the data directory of the run, and the
// metrics page of a node. It decides nothing and prints nothing.
//
// What holds:
//   - Memory is bounded whatever the length of the run: a Track that is full
//     merges neighbours and goes on at half the resolution; a histogram has a
//     fixed size.
//   - Recording a latency allocates nothing and never waits for a reader longer
//     than the exchange of a pointer takes.
//   - Cells, percentiles and the encoded form of a histogram are those of the
//     HdrHistogram library; here are its range, its unit and its rounding.
//   - What cannot be read is left out and said so (IOKnown, Errors); it is
//     never a zero that looks measured.
//
// Read histogram.go first, then watch.go.
package measure
