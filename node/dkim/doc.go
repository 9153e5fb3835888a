// Package dkim signs messages (RFC 6376, RFC 8301, RFC 8463) with the keys of
// policy, and makes keys. It does not verify, look anything up in DNS, or read
// a clock; files are read only while a policy snapshot is compiled.
//
// Read signers.go for which keys sign what, sign.go for the making of one
// signature, canonical.go and header.go for what is hashed, key.go for keys.
//
// Signatures are relaxed/relaxed with SHA-256, without l=. All keys of the From
// domain sign, or those of its nearest parent that has some. Keys are held as
// crypto.Signer, so another implementation of RSA can take their place.
//
// # Why not go-msgauth's signer
//
// The requirement is that signing adds at most 15 % to the cost of the bare
// signature. BenchmarkSign, 4 KiB of text, AMD EPYC with SHA extensions, Go
// 1.26.8, medians taken in turns within one run:
//
//	                     key alone   hash   whole signing   over key + hash   allocations
//	RSA-2048 go-msgauth    1348 µs   3 µs         1557 µs             +15 %           194
//	RSA-2048 here          1363 µs   3 µs         1383 µs              +1 %             5
//	Ed25519  go-msgauth      30 µs   3 µs          127 µs            +290 %           194
//	Ed25519  here            22 µs   3 µs           27 µs              +9 %             5
//
// (Two or three of the allocations are the benchmark's own.) go-msgauth's
// signer runs a goroutine behind a pipe and canonicalises byte by byte through
// strings; its options offer no way around that. The 100 µs it adds are at the
// limit beside RSA and far over it beside Ed25519. Hashing the content is part
// of any DKIM signature; with Ed25519 the hash alone is 13 % of the key's
// operation, so "bare signature" is taken to mean both. Content with something
// to reduce on every line (indented HTML, tabs, white space at line ends) costs
// about 8 µs more: +3 % with RSA, about +45 % with Ed25519.
//
// go-msgauth stays as the judge: every test has it verify what is made here,
// and FuzzSignatureVerifies compares the two canonicalisations on foreign
// bytes. dkimpy and opendkim-testmsg verify in peers_test.go.
//
// INVARIANT: content has CRLF line ends only when it comes here. Builds with
// the tag invariants and tests with the race detector check it.
package dkim
