// Package libcrypto makes RSA signatures (PKCS #1 v1.5 with SHA-256, what RFC
// 8301 3.1 wants) with the machine's OpenSSL 3, loaded at run time and without
// cgo. It signs; it does not make keys, verify, or fall back to anything:
// whoever calls it holds a crypto/rsa key to go on with (package dkim).
//
// Read library.go for how the library is found, key.go for one key.
//
// # Why
//
// crypto/rsa is written for safety first and takes three to four times as long
// as OpenSSL's assembly. With an RSA-2048 key the signature is most of what a
// message costs, so this is the largest single saving there is (figures:
// docs/performance.md). The library that the distribution keeps patched is used
// rather than one of our own.
//
// # What is promised
//
// PKCS #1 v1.5 signatures are deterministic, so "the same as crypto/rsa" can be
// tested bit for bit, and is: for every key when it is imported, and in tests
// over key sizes and messages. A key that does not pass is not used.
//
// OpenSSL signs by the Chinese remainder theorem with blinding, and checks each
// result with the public exponent before it hands it out (rsa_ossl_mod_exp), so
// that a fault in the arithmetic does not give a factor of the key away.
//
// The private key goes into memory that libcrypto allocated in this process,
// and nowhere else. The encoding it travels in is overwritten after the import;
// libcrypto overwrites its own copy when the key is freed, which happens when
// the Key can no longer be reached.
//
// The library's configuration file is not read: it can name modules to load
// into the process, and a signature does not depend on it.
//
// # Calls into C
//
// One signature is one call of EVP_PKEY_sign, for which the goroutine keeps its
// thread. A call through purego costs about 0.3 µs, one signature 300 µs or
// more. As Go gives a call that takes so long a further thread, the calls that
// may run at once are bounded (Library.slots).
//
// INVARIANT: an EVP_PKEY_CTX is used by one goroutine at a time: it is taken
// out of the key's list before the call and put back after it.
//
// INVARIANT: memory of Go that C reads or writes is on the heap and is reached
// by the call's arguments while the call runs. C keeps no pointer to it.
//
// # Builds
//
// purego links against the C library, so a binary with it needs glibc's loader
// (any distribution of the last ten years, not Alpine or an empty container).
// The build tag static leaves it out: Load then says so, and everything else
// works as before. On systems other than Linux on amd64 and arm64 it is left
// out too.
package libcrypto
