// Package candidate runs mail servers as child processes: Hikyaku's own binary,
// Postfix, Exim, OpenSMTPD and Haraka as relays to one sink, Postfix's
// smtp-source and smtp-sink as tools around them. Tests use it through
// bench/peers, the load suite directly.
//
// What is always true:
//
//   - A candidate listens on loopback and nowhere else. Options that say
//     otherwise are refused, and after the start the kernel is asked which
//     sockets the processes listen on: one beyond loopback ends the candidate.
//   - Everything is ended by Close: the processes (only those started here, by
//     their ids), then the directories that were made here.
//   - A mail server that is not installed is ErrNotInstalled with what to
//     install, so that a caller can say so in its table.
//   - What a candidate costs is read for all its processes, ended ones too.
//
// Whether a candidate syncs before its 250 is not believed but looked at:
// ProbeSync.
//
// It does not generate load beyond the probe, does not keep accounts and judges
// nothing. Read candidate.go first, then hikyaku.go and postfix.go.
package candidate
