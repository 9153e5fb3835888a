//go:build invariants || race

package dkim

import "bytes"

// checkLineEnds panics on content that breaks the caller's promise.
//
// INVARIANT: content has CRLF line ends only. A bare CR or LF makes verifiers
// disagree about what was signed, so it must have been refused or repaired
// before (design.md 5.5).
func checkLineEnds(raw [][]byte) {
	var last byte
	for _, b := range raw {
		for i, c := range b {
			prev := last
			if i > 0 {
				prev = b[i-1]
			}
			if (c == '\n') != (prev == '\r') {
				panic("BUG: content to be signed has a bare CR or LF near " + string(bytes.ToValidUTF8(b[max(0, i-20):i+1], nil)))
			}
		}
		if len(b) > 0 {
			last = b[len(b)-1]
		}
	}
	if last == '\r' {
		panic("BUG: content to be signed ends in a bare CR")
	}
}
