// Package steer turns what carriers say into rates, source states and holds, for
// the whole cluster.
package steer
