// Package peers runs the real programs that tests and benchmarks talk to:
// Postfix as receiver, client and rival, its smtp-source and smtp-sink,
// dnsmasq as the DNS server, and Hikyaku's own binary. Every process is a child
// of the test, on loopback, with its data in the test's directory, and is
// stopped by its own process id when the test ends.
//
// A missing program skips the test and says what to install, unless
// HIKYAKU_REQUIRE_PEERS=1 (set by make test), which makes it a failure.
package peers
