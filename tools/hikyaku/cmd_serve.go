package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/controlplane/manifest"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
	"hikyaku/node"
	"hikyaku/node/api"
	"hikyaku/node/delivery"
	"hikyaku/node/events"
	"hikyaku/node/mx"
	"hikyaku/scheduler"
	"hikyaku/spool"
	"hikyaku/tools/hikyaku/config"
)

// serveOptions are the flags of serve.
type serveOptions struct {
	config, policy string
	unsafeNoSync   bool
}

func newServeCmd(c *cli) *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use: "serve", Short: "Run a node", GroupID: groupRun, Args: wantArgs(0, 0),
		Long: `Runs a node until SIGTERM or SIGINT, which drain it: listeners close,
transactions in hand end, what is not sent stays queued for the next start.
SIGHUP reads certificates and key files again.

Without files it uses safe defaults: data in ./hikyaku-data, SMTP on
127.0.0.1:2525, HTTP on 127.0.0.1:8025, the admin API on 127.0.0.1:8080.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.serve(cmd.Context(), o) },
	}
	cmd.Flags().StringVar(&o.config, "config", "", "hikyaku.yaml")
	cmd.Flags().StringVar(&o.policy, "policy", "", "YAML resources to start with, if the node has no policy yet")
	cmd.Flags().BoolVar(&o.unsafeNoSync, "unsafe-no-sync", false, "say 250 before the write: for the tests that prove that this loses mail")
	if err := cmd.Flags().MarkHidden("unsafe-no-sync"); err != nil {
		panic("BUG: " + err.Error())
	}
	return cmd
}

func (c *cli) serve(ctx context.Context, o serveOptions) (err error) {
	cfg, err := config.Load(o.config)
	if err != nil {
		return err
	}
	log := newLogger(c, cfg)
	for _, w := range cfg.Warnings() {
		log.Warn(w)
	}
	if o.unsafeNoSync {
		log.Warn("mail is acknowledged before it is written: this loses mail")
	}
	// Most of the heap is Pebble's buffers: large, without pointers, cheap to
	// keep and never scanned. Collecting at half as much growth as usual costs
	// little CPU and keeps the peak of a deep backlog under 1 GiB.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	if err := os.MkdirAll(cfg.Node.DataDir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	policies, err := store.OpenFile(cfg.Path("policy"), store.Options{Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, policies.Close()) }()
	if err := seed(ctx, policies, o.policy, log); err != nil {
		return err
	}
	n, err := node.New(nodeConfig(cfg, policies, log, o))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	stopAdmin, err := serveAdmin(cfg, n, policies, log)
	if err != nil {
		return err
	}
	defer stopAdmin()
	log.Info("starting", "version", thisBuild().Version, "smtp", strings.Join(smtpAddresses(cfg), " "), "http", cfg.Ingest.HTTP.Listen,
		"admin", cfg.Admin.Listen, "data", cfg.Node.DataDir)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	go func() { // ends with ctx
		for {
			select {
			case <-ctx.Done():
				return
			case <-hup:
				if err := n.Reload(); err != nil {
					log.Error("reload", "error", err)
				} else {
					log.Info("certificates and key files read again")
				}
			}
		}
	}()
	return n.Run(ctx)
}

func smtpAddresses(cfg *config.Config) []string {
	var as []string
	for _, l := range cfg.Ingest.SMTP {
		as = append(as, l.Listen)
	}
	return as
}

func newLogger(c *cli, cfg *config.Config) *slog.Logger {
	o := &slog.HandlerOptions{Level: cfg.LogLevel()}
	if cfg.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(c.err, o))
	}
	return slog.New(slog.NewTextHandler(c.err, o))
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

func nodeConfig(cfg *config.Config, policies store.Store, log *slog.Logger, o serveOptions) node.Config {
	nc := node.Config{
		Name: cfg.Node.Name, Hostname: cfg.Node.Hostname, DataDir: cfg.Node.DataDir, Version: thisBuild().Version, Logger: log, Policy: policies,
		SMTP: cfg.Ingest.SMTP, HTTP: cfg.Ingest.HTTP, MaxContentMemory: cfg.Ingest.MaxContentMemory, DrainTimeout: cfg.Node.DrainTimeout.D(),
		Delivery: node.DeliveryConfig{Port: cfg.Delivery.Port, AllowNetworks: cfg.Delivery.AllowNetworks,
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

// serveAdmin starts the admin API: the node's own part and policy, on one
// address.
func serveAdmin(cfg *config.Config, n *node.Node, policies store.Store, log *slog.Logger) (stop func(), err error) {
	token, err := cfg.Token()
	if err != nil {
		return nil, err
	}
	cert, err := cfg.Certificate()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	registerAdmin(mux, &api.Options{Node: n, Version: thisBuild().Version, Pprof: cfg.Admin.Pprof, Logger: log},
		&policyapi.Options{Store: policies, Version: thisBuild().Version, Logger: log})
	l, err := net.Listen("tcp", cfg.Admin.Listen)
	if err != nil {
		return nil, fmt.Errorf("admin API: %w", err)
	}
	if cert != nil {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12})
	}
	srv := api.NewServer(api.Guard(mux, api.GuardOptions{Token: token, Policy: policies.Snapshot, Hosts: cfg.Admin.Hosts, MaxBody: policyapi.MaxBody, Logger: log}))
	done := make(chan struct{})
	go func() { // ended and waited for by stop
		defer close(done)
		if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			log.Error("admin API", "error", err)
		}
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if srv.Shutdown(ctx) != nil {
			_ = srv.Close() // streams do not end by themselves
		}
		<-done
	}, nil
}
