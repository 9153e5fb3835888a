//go:build !race

package suppression_test

// shortImages are checked in the short form.
const shortImages = 120
