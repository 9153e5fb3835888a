// Package allocate is where the leader's two kinds of decision are made. It has
// no code of its own; each decision is a package, and they do not know each
// other:
//
//	sources   which node holds which sending address
//	budgets   which node may use how much of each budget
//
// Both are pure: the time comes in as an argument, nothing is read or written,
// there is no goroutine, and the same calls give the same answers (no decision
// hangs on the order of a map). Package controlplane feeds them with what etcd
// and the nodes say and writes what they decide; bench/simulate drives them
// through a thousand nodes and every fault in virtual time.
package allocate
