package serve

import (
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
		c.HTTP = &node.FeedbackHTTP{Listen: func() (net.Listener, error) { return net.Listen("tcp", f.HTTPListen) }, CertFile: f.CertFile, KeyFile: f.KeyFile}
	}
	return c, nil
}

// nodeNames are the nodes that are registered now.
func (p *process) nodeNames() []string {
	return slices.Sorted(maps.Keys(p.rumours.roll.Nodes()))
}
