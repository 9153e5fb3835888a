package serve

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"slices"

	"hikyaku/controlplane/keyspace"
	"hikyaku/node"
	receiver "hikyaku/node/feedback"
	"hikyaku/node/ingest"
	"hikyaku/reputation/feedback"
	"hikyaku/tools/hikyaku/config"
)

// returnPathKey is what of a cluster key proves return paths and links.
func returnPathKey(k keyspace.Key) []byte { return k.Derive("return-path", feedback.KeyBytes) }

// comesBack is how what comes back comes in. All nodes make tokens; which of them
// listens for those that return is a matter of MX records and proxies.
func comesBack(cfg *config.Config, key keyspace.Key) (*node.FeedbackConfig, error) {
	f := &cfg.Feedback
	former, err := f.FormerKeys()
	if err != nil {
		return nil, err
	}
	var before [][]byte
	for _, k := range former {
		before = append(before, returnPathKey(k))
	}
	c := &node.FeedbackConfig{Addresses: f.Addresses, Limits: receiver.Limits{Messages: f.MaxPerClient, ProxyNetworks: f.ProxyNetworks}}
	if c.Keys, err = feedback.NewKeys(returnPathKey(key), before...); err != nil {
		return nil, err
	}
	if f.SMTPListen != "" {
		c.SMTP = []ingest.SMTPListener{{Listen: f.SMTPListen, Hostname: f.Hostname, CertFile: f.CertFile, KeyFile: f.KeyFile, MaxMessageSize: f.MaxMessageSize, ProxyNetworks: f.ProxyNetworks}}
	}
	if f.HTTPListen != "" {
		c.HTTP = &node.FeedbackHTTP{Listen: func() (net.Listener, error) { return listenTLS(f.HTTPListen, f.CertFile, f.KeyFile) }}
	}
	return c, nil
}

// listenTLS listens, with TLS if there is a certificate. It is read for each
// connection, so a new one counts from when it is there.
func listenTLS(address, certFile, keyFile string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil || certFile == "" {
		return l, err
	}
	load := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("certificate of %s: %w", address, err)
		}
		return &cert, nil
	}
	if _, err := load(nil); err != nil {
		_ = l.Close() // nothing was done with it
		return nil, err
	}
	return tls.NewListener(l, &tls.Config{GetCertificate: load, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}), nil
}

// nodeNames are the nodes that are registered now.
func (p *process) nodeNames() []string {
	return slices.Sorted(maps.Keys(p.rumours.roll.Nodes()))
}
