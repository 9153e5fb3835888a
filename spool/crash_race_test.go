//go:build race

package spool_test

// shortImages is how many crash images the short form checks. Pebble checks
// itself under the race detector, at a third of a second an image.
const shortImages = 50
