// Package screen keeps a view on a terminal up to date until the user ends it.
//
// A View is a state machine without a terminal in it: looks in, text out. Watch
// asks it to look every so often, draws it over what was drawn before, and obeys
// the keys: q ends, p pauses, + and - change the interval. One look runs at a
// time, beside the drawing, so that a server that does not answer stops neither
// the keys nor the end.
package screen
