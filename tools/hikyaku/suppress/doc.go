// Package suppress has the commands about the suppression list: who gets no mail,
// and why. import.go brings lists of other systems in and takes ours out, at any
// size.
package suppress
