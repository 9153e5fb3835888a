// Package message is the vocabulary that every folder shares: what a message,
// a delivery, a reply, an outcome and an event are. It is a leaf: standard
// library only, no I/O, no locks, no clock except in NewID's generator, which
// is handed one.
//
// Read in this order: message.go (what is accepted once), delivery.go (what is
// queued), reply.go (what a remote said), event.go (what is recorded),
// suppression_key.go (when two spellings are one mailbox).
//
// INVARIANT: the values here are plain data. Whoever builds one hands it on
// and never writes to it again; to change a Delivery, copy it (Delivery.Clone).
package message
