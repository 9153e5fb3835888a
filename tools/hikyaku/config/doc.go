// Package config reads hikyaku.yaml: what one machine needs to start. Listen
// addresses, directories, the resolver, certificates. What decides about mail
// is policy (controlplane/policy) and is changed while the node runs; this file
// is read once.
//
// The comments on the fields are the configuration reference (docs/): every
// field's json tag is its key. Without a file the defaults make a node that
// takes mail from its own machine only.
package config
