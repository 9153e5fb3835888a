//go:build race

package suppression_test

// shortImages are checked in the short form; the race detector takes ten times as
// long.
const shortImages = 16
