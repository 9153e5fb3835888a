// Package serve runs a process of the cluster: a node, a control plane or both,
// from hikyaku.yaml to a clean end. "hikyaku config" checks that file.
//
// Read process.go first: what is open at which time, and in which order it is
// closed. serve.go has the flags and what of the configuration becomes a node's;
// etcd.go, control.go, gossip.go and news.go open one part each; parts.go puts
// what is open behind the listeners, metrics.go its counters on one page. What the
// parts do is theirs (node, controlplane); nothing here decides about mail.
package serve
