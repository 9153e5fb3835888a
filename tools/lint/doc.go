// Package lint holds the rules of the house that a compiler does not: who may
// import whom, which package is the one door to a library, how long a function
// may be. It has tests only; "make lint" runs them.
//
// rules.go is the table. If a change does not fit the table, it is the change
// that is looked at first; if the table is wrong, docs/design.md section 6 and
// rules.go change together, in a commit of their own.
package lint
