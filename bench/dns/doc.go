// Package dns is a name server for tests and load runs: real packets over UDP
// and TCP on loopback, records from a zone text, and faults on demand. It
// answers as a recursive resolver would that knows everything: it follows CNAME
// within its records, and what it does not have does not exist.
//
// It never forwards a query and is not for the open network.
//
// Read server.go for the life of a Server, zone.go for how a name is looked
// up, fault.go for what can go wrong on purpose.
package dns
