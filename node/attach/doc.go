// Package attach puts the address of a source on this machine and takes it off
// again, as the source's attach says: none (nothing to do), netlink (an address
// on an interface) or command (a program that the operator names). It is the only
// user of netlink. It never decides whether this node may use a source; package
// control does, and calls it.
//
// INVARIANT: only what was put here is taken off. An address that was on the
// interface before stays there, whoever put it.
//
// INVARIANT: what is put here is on disk before it is put. After a crash Sweep
// takes off what is not to stay; a failed Detach is kept, to be tried again.
//
// # States of an address
//
//   - nothing is known of it
//     recorded    on disk; it may be on the interface, or the program may have run
//   - taken off, then removed from disk
//
// Between the two the process may die at any point. Taking off what is not there
// does no harm, so recorded is one state and not two. There is one hole: if the
// process dies after it has written down an address and before it has put it on
// the interface, and somebody else then puts that very address there, Sweep takes
// it for ours.
//
// An interface's addresses do not outlive a boot of the machine, so those that
// were recorded before it are forgotten. What a program did may: its detach
// command is run.
//
// # Programs
//
// Policy is data, and whoever may write it must not thereby run programs on all
// nodes. So a node's own configuration lists the programs that policy may name
// (Options.Programs); there is none unless it is listed. They are run without a
// shell, with an empty environment but for PATH, in a process group that is
// killed at the timeout.
//
// # The neighbours
//
// After an address has been put on an interface its neighbours are told: by a
// gratuitous ARP (RFC 5227 3) or an unsolicited neighbour advertisement (RFC 4861
// 7.2.6), so that they do not go on sending to the machine that had it before.
// That this fails is counted, and is no error: an answer to the next question
// does the same later. Duplicate address detection is left out (IFA_F_NODAD):
// leases and quarantine see to it that one machine has the address, and a
// tentative one could not be sent from for a second or more.
//
// Read attach.go first, then record.go, command.go and kernel_linux.go.
package attach
