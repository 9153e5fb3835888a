// Package access says who may ask the admin API, and for what. It is a leaf: the
// standard library and the words of policy; nodes and control planes share it.
//
// A request is somebody's: the bearer of a key of policy (kind AdminKey), of the
// token in the file admin.token_file, or, where there is no such token, of
// anybody on this machine. What the bearer may do is a role; which operation
// needs which role stands in one table (roles.go). A tenant's key sees and
// changes what is the tenant's only, and is told of nothing else that it exists.
//
// Guard stands before the whole admin listener; Peer before a node's part of the
// admin API where the control plane asks it, and believes what the control plane
// says of who asked. Handlers read the Identity with From and never a header.
//
// Read roles.go for the table, guard.go for who is let in, failures.go for how
// guesses are slowed down.
//
// INVARIANT: an operation that is not in the table needs the role admin.
// INVARIANT: the author of a change is who was let in; what a client claims only
// stands beside it.
package access
