// Package build tells which binary this is: version, commit, Go release, and what
// makes RSA signatures here. The linker sets the version (Makefile); a binary made
// by "go install" knows what the Go tool wrote into it.
package build
