//go:build !race

package spool_test

// shortImages is how many crash images the short form checks.
const shortImages = 300
