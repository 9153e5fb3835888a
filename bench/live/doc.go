// Package live shows a running benchmark: on a terminal a few lines that are
// drawn over, elsewhere (a file, a pipe, CI) one plain line every five seconds.
//
// Update only notes the state and wakes the goroutine that draws: it never
// waits for a terminal that is slow or stopped. Drawing is by a handful of
// escape sequences; no line is ever wider than the terminal, so that nothing
// wraps and the next drawing begins where this one did. The cursor is hidden
// meanwhile and given back by Close.
//
// It prints nothing but what State says, without what could steer a terminal.
package live
