package serve

import (
	"context"
	"net/http"
	"time"

	"hikyaku/controlplane/access"
	policyapi "hikyaku/controlplane/api"
	"hikyaku/controlplane/exchange"
	"hikyaku/node"
	"hikyaku/node/api"
	"hikyaku/node/suppress"
	"hikyaku/node/transfer"
	"hikyaku/tools/hikyaku/admin"
	"hikyaku/tools/hikyaku/build"
)

// serveParts puts what is open at the moment behind the admin listener and the
// peer listener. It is called again when the control plane has opened.
func (p *process) serveParts() {
	p.peerDoor.open(p.peerParts())
	p.admin.open(p.adminParts())
}

// adminParts is the admin API: the node's part, the cluster's, or both.
func (p *process) adminParts() http.Handler {
	mux := http.NewServeMux()
	o := access.Options{Token: p.token, Policy: p.policy, Hosts: p.cfg.Admin.Hosts, MaxBody: policyapi.MaxBody, Logger: p.log}
	var cluster *policyapi.Options
	if d := p.open(); d != nil {
		cluster = &policyapi.Options{
			Store: d.store, Cluster: d.control, Audit: d.store, Version: build.This().Version, Logger: p.log,
			Peers: policyapi.HTTPPeers{Client: p.peers.Client(), Scheme: p.peers.Scheme()},
		}
		o.Refused = policyapi.Refused(d.store)
	}
	guard := access.New(mux, o)
	counted := policyapi.Collector(func() policyapi.Metrics { return p.decides(guard) })
	part := p.nodePart()
	if part != nil {
		part.Collectors = append(part.Collectors, counted)
	} else {
		p.controlHealth(mux)
		mux.Handle("GET /metrics", policyapi.MetricsHandler(p.log, counted))
	}
	admin.Register(mux, part, cluster)
	return guard
}

func (p *process) nodePart() *api.Options {
	if p.node == nil {
		return nil
	}
	return &api.Options{Node: p.node, Cluster: p.joins, Webhooks: p.node.WebhookAPI(), Senders: p.node.SenderAPI(), Suppressions: node.SuppressionAPI(p.node.Suppressions()), Version: build.This().Version, Pprof: p.cfg.Admin.Pprof, Logger: p.log, Replies: p.node}
}

// controlHealth is what a process without a node says to who asks whether it
// lives and serves.
func (p *process) controlHealth(mux *http.ServeMux) {
	say := func(path string, ready func() bool) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			if !ready() {
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = w.Write([]byte("the control plane is not open\n"))
				return
			}
			_, _ = w.Write([]byte("ok\n"))
		})
	}
	say("/livez", func() bool { return true })
	say("/readyz", func() bool { return p.open() != nil })
}

// peerParts is what other processes of the cluster ask.
func (p *process) peerParts() http.Handler {
	mux := http.NewServeMux()
	if d := p.open(); d != nil {
		h := d.control.Handler()
		mux.Handle(exchange.Path, h)
		mux.Handle("/v1/leader/", h)
	}
	if p.node != nil {
		h := p.node.TransferHandler()
		mux.Handle(transfer.Path, h)
		mux.Handle(transfer.Path+"/", h)
		s := p.node.Suppressions().Handler()
		mux.Handle(suppress.Path, s)
		mux.Handle(suppress.Path+"/", s)
		own := http.NewServeMux()
		admin.Register(own, p.nodePart(), nil)
		mux.Handle("/", access.Peer(own))
	}
	return mux
}

// shutDown lets requests in hand end, for a second.
func shutDown(srv *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if srv.Shutdown(ctx) != nil {
		_ = srv.Close() // streams do not end by themselves
	}
}
