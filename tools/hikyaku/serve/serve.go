package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/manifest"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
	"hikyaku/node"
	"hikyaku/node/delivery"
	"hikyaku/node/events"
	"hikyaku/node/mx"
	"hikyaku/scheduler"
	"hikyaku/spool"
	"hikyaku/tools/hikyaku/build"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/config"
)

// serveOptions are the flags of serve.
type serveOptions struct {
	config, policy string
	roles          string
	join           []string

	ehloEpoch                                             bool
	unsafeNoSync, unsafeTrustSession, unsafeGrantsForever bool
}

func newServeCmd(c *cli.Call) *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use: "serve", Short: "Run a node, a control plane, or both", GroupID: cli.GroupRun, Args: cli.WantArgs(0, 0),
		Long: `Runs until SIGTERM or SIGINT, which drain it: listeners close, transactions in
hand end, what is not sent stays queued for the next start. SIGHUP reads
certificates and key files again.

Without files it is a whole cluster of one, with safe defaults: data in
./hikyaku-data, SMTP on 127.0.0.1:2525, HTTP on 127.0.0.1:8025, the admin API on
127.0.0.1:8080, and an etcd inside the process. With etcd.endpoints, or --join, it
is one of several (docs/cluster.md).`,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), c, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.config, "config", "", "hikyaku.yaml")
	f.StringVar(&o.policy, "policy", "", "YAML resources to start with, if the cluster has no policy yet")
	f.StringVar(&o.roles, "roles", "", "`all`, node or control, in place of cluster.roles")
	f.StringSliceVar(&o.join, "join", nil, "etcd `endpoints` of the cluster to join, in place of etcd.endpoints")
	f.BoolVar(&o.ehloEpoch, "ehlo-epoch", false, "say node and epoch in EHLO: for tests, whose receivers tell holders of a source apart")
	f.BoolVar(&o.unsafeNoSync, "unsafe-no-sync", false, "say 250 before the write: for the tests that prove that this loses mail")
	f.BoolVar(&o.unsafeTrustSession, "unsafe-trust-session", false, "believe etcd's client that a lease holds: for the tests that prove that two nodes send from one source then")
	f.BoolVar(&o.unsafeGrantsForever, "unsafe-grants-forever", false, "let no grant run out: for the tests that prove that budgets break then")
	for _, name := range []string{"ehlo-epoch", "unsafe-no-sync", "unsafe-trust-session", "unsafe-grants-forever"} {
		if err := f.MarkHidden(name); err != nil {
			panic("BUG: " + err.Error())
		}
	}
	return cmd
}

// unsafe lists the protections that were switched off.
func (o *serveOptions) unsafe() []string {
	var ws []string
	for text, on := range map[string]bool{
		"mail is acknowledged before it is written: this loses mail":                               o.unsafeNoSync,
		"a lease is believed until etcd's client says otherwise: two nodes may send from a source": o.unsafeTrustSession,
		"grants never run out: budgets may break":                                                  o.unsafeGrantsForever,
	} {
		if on {
			ws = append(ws, text)
		}
	}
	return ws
}

func serve(ctx context.Context, c *cli.Call, o serveOptions) (err error) {
	cfg, err := config.Load(o.config)
	if err != nil {
		return err
	}
	if err := cfg.Override(o.roles, o.join); err != nil {
		return err
	}
	log := newLogger(c, cfg)
	for _, w := range append(cfg.Warnings(), o.unsafe()...) {
		log.Warn(w)
	}
	// Most of the heap is Pebble's buffers: large, without pointers, cheap to
	// keep and never scanned. Collecting at half as much growth as usual costs
	// little CPU and keeps the peak of a deep backlog under 1 GiB.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	if err := dataDir(cfg); err != nil {
		return err
	}
	p, err := newProcess(ctx, cfg, o, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	log.Info("starting", "version", build.This().Version, "as", roleName(cfg), "smtp", strings.Join(smtpAddresses(cfg), " "),
		"admin", cfg.Admin.Listen, "peers", p.advertise, "data", cfg.Node.DataDir)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	go func() { // ends with ctx
		for {
			select {
			case <-ctx.Done():
				return
			case <-hup:
				if err := p.reload(); err != nil {
					log.Error("reload", "error", err)
				} else {
					log.Info("certificates and key files read again")
				}
			}
		}
	}()
	return p.run(ctx)
}

func smtpAddresses(cfg *config.Config) []string {
	var as []string
	for _, l := range cfg.Ingest.SMTP {
		as = append(as, l.Listen)
	}
	return as
}

// newLogger writes to standard error.
func newLogger(c *cli.Call, cfg *config.Config) *slog.Logger {
	o := &slog.HandlerOptions{Level: cfg.LogLevel()}
	if cfg.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(c.Err, o))
	}
	return slog.New(slog.NewTextHandler(c.Err, o))
}

// seed gives an empty store the resources of a file.
func seed(ctx context.Context, s store.Store, path string, log *slog.Logger) error {
	if path == "" {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read policy: %w", err)
	}
	f, err := manifest.Parse(path, b)
	if err != nil {
		return err
	}
	res, err := store.Seed(ctx, s, f.Resources, "serve --policy", "first start")
	var problems policy.Problems
	if errors.As(err, &problems) {
		return f.Locate(problems)
	}
	if err == nil && res == nil && len(f.Resources) > 0 {
		log.Info("the node has a policy of its own; --policy was not read into it", "revision", s.Snapshot().Revision)
	}
	return err
}

func nodeConfig(cfg *config.Config, policies node.PolicySource, log *slog.Logger, o serveOptions) node.Config {
	nc := node.Config{
		Name: cfg.Node.Name, Hostname: cfg.Node.Hostname, DataDir: cfg.Node.DataDir, Version: build.This().Version, Logger: log, Policy: policies,
		SMTP: cfg.Ingest.SMTP, HTTP: cfg.Ingest.HTTP, MaxContentMemory: cfg.Ingest.MaxContentMemory, DrainTimeout: cfg.Node.DrainTimeout.D(),
		Delivery: node.DeliveryConfig{Port: cfg.Delivery.Port, AllowNetworks: cfg.Delivery.AllowNetworks, EHLOEpoch: o.ehloEpoch,
			Client: delivery.Options{DeadFor: cfg.Delivery.DeadHostTime.D(), BrokenTLSFor: cfg.Delivery.BrokenTLSTime.D()}},
		Spool: spool.Options{FreeBytesMin: cfg.Spool.MinFreeBytes, FreePercentMin: cfg.Spool.MinFreePercent, StatusRetention: cfg.Spool.StatusRetention.D(),
			JobRetention: cfg.Spool.JobRetention.D(), CacheSize: cfg.Spool.CacheBytes, MemTableSize: cfg.Spool.MemTableBytes, UnsafeNoSync: o.unsafeNoSync},
		Events:    events.Options{Retention: cfg.Events.Retention.D(), RetentionBytes: cfg.Events.RetentionBytes},
		Scheduler: scheduler.Config{MaxSessions: cfg.Delivery.MaxConnections},
		Resolver:  mx.Config{CacheEntries: 100_000},
	}
	if cfg.Delivery.Resolver != "" {
		nc.Resolver.Servers = []string{cfg.Resolver().String()}
	}
	return nc
}
