package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/store"
	"hikyaku/controlplane/store/embedded"
	"hikyaku/tools/hikyaku/config"
)

// etcd is the way to what all processes of the cluster must agree on.
type etcd struct {
	server *embedded.Server // nil: an etcd cluster of its own
	client *clientv3.Client
	keys   keyspace.Keys
	key    keyspace.Key
}

// openEtcd starts the etcd inside this process, if none is configured, and
// connects. A node may start while etcd is away, with the policy on its disk; a
// process that only decides waits for it.
func openEtcd(ctx context.Context, cfg *config.Config, log *slog.Logger) (_ *etcd, err error) {
	e := &etcd{}
	if e.keys, err = keyspace.New(cfg.Etcd.Prefix); err != nil {
		return nil, err
	}
	if e.key, err = clusterKey(cfg); err != nil {
		return nil, err
	}
	endpoints := cfg.Etcd.Endpoints
	if len(endpoints) == 0 {
		o := embedded.Options{Dir: cfg.Path("etcd"), Logger: log}
		if cfg.Etcd.Listen != "" {
			o.Listen = "http://" + cfg.Etcd.Listen
		}
		if e.server, err = embedded.Start(ctx, o); err != nil {
			return nil, fmt.Errorf("etcd inside this process: %w", err)
		}
		endpoints = e.server.Endpoints()
	}
	e.client, err = store.Connect(ctx, store.ConnectOptions{
		Endpoints: endpoints, CertFile: cfg.Etcd.CertFile, KeyFile: cfg.Etcd.KeyFile, CAFile: cfg.Etcd.CAFile,
		Username: cfg.Etcd.Username, PasswordFile: cfg.Etcd.PasswordFile, Lazy: cfg.Carries() && e.server == nil,
	})
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// Close ends the connection, then the server.
func (e *etcd) Close() error {
	var errs []error
	if e.client != nil {
		errs = append(errs, e.client.Close())
	}
	if e.server != nil {
		errs = append(errs, e.server.Close())
	}
	return errors.Join(errs...)
}

// clusterKey reads the cluster key. A process with an etcd of its own makes one
// at its first start; with any other there is one already, and it must be
// brought.
func clusterKey(cfg *config.Config) (keyspace.Key, error) {
	path := cfg.Cluster.SecretFile
	b, err := os.ReadFile(path)
	if err == nil {
		key, err := keyspace.ParseKey(string(b))
		if err != nil {
			return key, fmt.Errorf("cluster.secret_file %s: %w", path, err)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) || len(cfg.Etcd.Endpoints) > 0 {
		return keyspace.Key{}, fmt.Errorf("cluster.secret_file: %w; every machine of a cluster has the same one: make it once with \"hikyaku secret cluster-key\" and copy it", err)
	}
	if _, err := os.Stat(cfg.Path("etcd")); err == nil {
		return keyspace.Key{}, fmt.Errorf("cluster.secret_file %s is gone, and what is sealed in %s cannot be read without it: put it back from your backup", path, cfg.Path("etcd"))
	}
	key, text := keyspace.NewKey()
	if err := writeNew(path, text); err != nil {
		return key, fmt.Errorf("make the cluster key: %w", err)
	}
	return key, nil
}

// writeNew writes a private file that survives a crash.
func writeNew(path, text string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
