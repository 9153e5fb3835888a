// Package screentest is a pseudo-terminal with a person before it, for tests of
// what is shown on a terminal: the program has one end, the person types and
// reads on the other.
package screentest
