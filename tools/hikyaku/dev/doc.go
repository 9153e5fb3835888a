// Package dev has the commands that run things for a try on one machine: a
// receiver (dev.go), a whole cluster (cluster.go), an etcd (etcd.go), and the
// demo, which accounts for every message (demo.go). All of it listens on loopback
// and nothing of it is for real mail.
package dev
