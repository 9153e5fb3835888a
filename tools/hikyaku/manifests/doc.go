// Package manifests reads files of resources as commands take them with -f: a
// file, a directory, or standard input. What is in them is package
// controlplane/manifest's.
package manifests
