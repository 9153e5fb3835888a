// Package mx finds the hosts that take a destination's mail (RFC 5321 5.1): MX
// records with their preferences, the domain itself where it has none, null MX,
// CNAME, addresses of either family, and the fixed hosts of routes. It asks
// recursive resolvers and keeps their answers in a bounded cache for as long as
// they say. It never connects to a mail host, judges whether an address may be
// connected to (package delivery does), or looks at policy beyond its options.
//
// For those who check what others see of us, records.go has plain look-ups of
// TXT, MX, A, AAAA and PTR over the same cache.
//
// Read resolve.go first (what is asked and what the answers mean), then
// lookup.go (cache, shared questions, slots), exchange.go (the wire) and
// parse.go (what is believed of an answer). fixed.go has routes and literals.
//
// # What an outcome means
//
//	an answer                     hosts, by preference; the caller shuffles equals
//	556 5.1.10                    null MX (RFC 7505)
//	550 5.1.2                     NXDOMAIN, or no domain at all
//	550 5.4.4                     no MX and no address; MX hosts without any
//	554 5.4.6                     this node is the best MX: a loop
//	451 4.4.3                     everything else: SERVFAIL, REFUSED, no answer,
//	                              malformed or lame answers, CNAME loops
//
// INVARIANT: only an answer that says so makes a name absent. When the look-up
// of MX fails there is no answer, and the address of the domain is not tried.
//
// INVARIANT: nothing in a route is permanent. A typing error in a host name
// delays mail; it does not bounce it.
//
// # What is not believed
//
// Packets whose ID or question differ are ignored until the deadline. Of the
// answer section only records along the CNAME chain from the question count;
// the additional section is never read. ID and port are random for each
// question; the case of letters is not (0x20): the server asked is a resolver on
// or near the node, and some of those do not keep the case.
//
// # Bounds
//
// 64 MX records, 64 TXT or PTR records of 64 KiB together, 20 hosts, 16
// addresses of a host and family, 8 CNAMEs, 255 bytes of site name,
// Config.MaxInFlight questions under way and Config.CacheEntries answers kept.
// Metrics shows when they are reached.
package mx
