// Package dkim signs messages (RFC 6376, RFC 8301, RFC 8463) with the keys of
// policy, and makes keys. It does not verify, look anything up in DNS, or ask
// what time it is (the clock is read to add up what signing costs); files are
// read only while a policy snapshot is compiled.
//
// Read signers.go for which keys sign what, sign.go for the making of one
// signature, canonical.go, reduce.go and header.go for what is hashed, key.go
// for keys, rsa.go for what makes RSA signatures.
//
// Signatures are relaxed/relaxed with SHA-256, without l=. All keys of the From
// domain sign, or those of its nearest parent that has some.
//
// Keys are held as crypto.Signer. RSA keys sign by the machine's OpenSSL 3 where
// it has one (package libcrypto), in about a quarter of the time, and else by
// crypto/rsa, which makes the same signatures. A key for which the two differ
// stays with crypto/rsa (Signers.Slow), and a signature that OpenSSL fails to
// make is made by crypto/rsa (Metrics.Fallbacks).
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
// to reduce on every line (indented HTML, tabs, white space at line ends) adds
// 2 µs, eight bytes being decided at once (reduce): 18 to 20 % over key and hash
// with Ed25519, 3 % with RSA. Byte by byte it was 8 µs, and 42 to 51 %. What is
// left would take vector instructions, for which Go has assembly only.
//
// go-msgauth stays as the judge: every test has it verify what is made here,
// and FuzzSignatureVerifies compares the two canonicalisations on foreign
// bytes. dkimpy and opendkim-testmsg verify in peers_test.go.
//
// INVARIANT: content has CRLF line ends only when it comes here. Builds with
// the tag invariants and tests with the race detector check it.
package dkim
