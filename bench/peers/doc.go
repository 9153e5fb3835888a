// Package peers hands the programs of bench/candidate to tests: Postfix as
// receiver, client and rival, Hikyaku's own binary, and dnsmasq as the DNS
// server. Errors fail the test, every process is stopped by its own process id
// when the test ends, and its output goes to the log of a test that failed.
//
// A missing program skips the test and says what to install, unless
// HIKYAKU_REQUIRE_PEERS=1 (set by make test), which makes it a failure.
package peers
