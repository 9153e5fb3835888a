package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/node/blocklist"
	"hikyaku/node/feedback"
	"hikyaku/node/ingest"
	"hikyaku/node/suppress"
	"hikyaku/node/webhook"
	"hikyaku/reputation"
	tokens "hikyaku/reputation/feedback"
	"hikyaku/spool/suppression"
)

// This file joins what happens after mail has left: the list of those who get no
// more of it, what comes back, and who is told of events.

// FeedbackConfig is how what comes back comes in.
type FeedbackConfig struct {
	Keys *tokens.Keys
	// SMTP takes bounces and complaints, HTTP one-click requests; either may be
	// missing, for another node may have it.
	SMTP []ingest.SMTPListener
	HTTP *FeedbackHTTP
	// Addresses take complaints beside those at return-path domains.
	Addresses []string
	Limits    feedback.Limits
}

// FeedbackHTTP is the listener of the one-click endpoint.
type FeedbackHTTP struct {
	Listen func() (net.Listener, error)
	// CertFile and KeyFile switch TLS on. They are read again when they change.
	CertFile, KeyFile string
}

// news is what the parts have in common.
type news struct {
	store    *suppression.Store
	list     *suppress.List
	hooks    *webhook.Hooks
	lists    *blocklist.Watch
	receiver *feedback.Receiver // nil: nothing comes back here
	smtp     []*ingest.SMTPServer
	http     *http.Server
	serving  sync.WaitGroup
}

func (n *Node) openNews() (err error) {
	x := &n.news
	x.store, err = suppression.Open(suppression.Options{Dir: filepath.Join(n.cfg.DataDir, "suppression"), Logger: n.log, UnsafeNoSync: n.cfg.Spool.UnsafeNoSync})
	if err != nil {
		return fmt.Errorf("suppression list: %w", err)
	}
	o := suppress.Options{Name: n.name, Store: x.store, Policy: n.policy.Load, Logger: n.log, Missed: n.missed, Destination: ingest.Destination, Room: n.spool.Admit}
	if t := n.cfg.Transfer; t != nil && n.cfg.Members != nil {
		o.Members, o.Address, o.Client = n.cfg.Members, t.Address, t.Client
	}
	if x.list, err = suppress.New(o); err != nil {
		return err
	}
	x.hooks, err = webhook.New(webhook.Options{Node: n.name, Store: n.spool.NodeID(), Log: hookLog{n.events}, Dir: filepath.Join(n.cfg.DataDir, "webhooks"),
		Version: n.cfg.Version, Logger: n.log, Roots: n.cfg.Delivery.RootCAs})
	if err != nil {
		return err
	}
	if err := n.openBlocklists(); err != nil {
		return err
	}
	return n.openFeedback()
}

func (n *Node) openFeedback() (err error) {
	c, x := n.cfg.Feedback, &n.news
	if c == nil {
		return nil
	}
	x.receiver, err = feedback.New(feedback.Options{Keys: c.Keys, Policy: n.policy.Load, Addresses: c.Addresses, Limits: c.Limits, Logger: n.log, Now: n.now, Handle: n.comesBack})
	if err != nil {
		return err
	}
	for _, l := range c.SMTP {
		s, err := FeedbackSMTP(l, x.receiver, n.hostname, n.log)
		if err != nil {
			return err
		}
		x.smtp = append(x.smtp, s)
	}
	if c.HTTP != nil {
		x.http = &http.Server{Handler: x.receiver.OneClick(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	}
	return nil
}

// listenForNews opens the listeners of what comes back.
func (n *Node) listenForNews() error {
	x := &n.news
	for _, s := range x.smtp {
		if err := s.Start(); err != nil {
			return err
		}
	}
	if x.http == nil {
		return nil
	}
	l, err := n.cfg.Feedback.HTTP.Listen()
	if err != nil {
		return fmt.Errorf("one-click listener: %w", err)
	}
	l = feedback.Bounded(l, feedback.MaxConnections)
	if c := n.cfg.Feedback.HTTP; c.CertFile != "" {
		config, err := ingest.TLSFromFiles(c.CertFile, c.KeyFile, n.log)
		if err != nil {
			return errors.Join(fmt.Errorf("one-click listener: %w", err), l.Close())
		}
		config.NextProtos = []string{"http/1.1"}
		l = tls.NewListener(l, config)
	}
	x.serving.Go(func() {
		if err := x.http.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			n.log.Error("one-click listener ended", "error", err)
		}
	})
	return nil
}

// newsShutters end the listeners.
func (x *news) shutters() (list []func(context.Context) error) {
	for _, s := range x.smtp {
		list = append(list, s.Shutdown)
	}
	if x.http != nil {
		list = append(list, func(ctx context.Context) error {
			err := x.http.Shutdown(ctx)
			x.serving.Wait()
			return err
		})
	}
	return list
}

func (x *news) close() error {
	if x.hooks != nil {
		x.hooks.Close()
	}
	if x.lists != nil {
		x.lists.Close()
	}
	if x.store != nil {
		return x.store.Close()
	}
	return nil
}

// Suppressions is the list of those who get no mail.
func (n *Node) Suppressions() *suppress.List { return n.news.list }

// Webhooks are the webhooks of this node.
func (n *Node) Webhooks() *webhook.Hooks { return n.news.hooks }

// Unclassified is api.Replies.
func (n *Node) Unclassified() []api.StrangeReply {
	groups, _ := n.replies.Unclassified()
	list := make([]api.StrangeReply, len(groups))
	for i := range groups {
		list[i] = api.StrangeReply(groups[i])
	}
	return list
}

// newRules makes the rules of a policy. What is wrong with them was refused when
// they were applied; what a newer control plane took and this node does not know
// is left out, and said.
func (n *Node) newRules(set *policy.Set) {
	rules, problems := reputation.Compile(set.ReplyRules)
	for _, p := range problems {
		n.log.Error("a reply rule is left out", "problem", p.String())
	}
	if rules != nil {
		n.replies.SetRules(rules)
	}
}
