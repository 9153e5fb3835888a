// Package credential says who a client is: SMTP logins, API keys and networks,
// compiled from policy into a Directory. It makes password hashes and API keys
// too. It holds no connection and knows no protocol.
//
// Read directory.go first, then password.go (argon2id, and why it is not
// computed for each message) and key.go.
//
// INVARIANT: the time of an answer does not depend on whether a user exists or
// on how much of a secret was right. A login's cost is bounded: so many hashes
// at once, the rest waits or is refused with its context.
package credential
