package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

// Options set up a member. Dir is required.
type Options struct {
	// Dir holds the member's data. It is made with mode 0700.
	Dir string
	// Name tells members apart. Default "hikyaku".
	Name string
	// Listen is the URL for clients, as "http://127.0.0.1:2379"; port 0 is any
	// that is free. "" is a unix socket below Dir.
	Listen string
	// Peer is the URL for other members; "" is a unix socket below Dir, for one
	// that is alone: members do not find each other by sockets.
	Peer string
	// Members are all members of a new cluster, name to peer URL, this one
	// among them. Empty: it is alone. Only the first start looks at it.
	Members map[string]string
	// Join says that the cluster exists, and this member was added to it.
	Join bool
	// CertFile, KeyFile and CAFile are for clients and peers alike, who must
	// show a certificate of the same authority; URLs are https then.
	CertFile, KeyFile, CAFile string
	// QuotaBytes bounds the database. Default 2 GiB.
	QuotaBytes int64
	// StartTimeout bounds Start. Default 30s for one that is alone, else 2m.
	StartTimeout time.Duration
	Logger       *slog.Logger // default slog.Default
}

// Timing of a member. One that is alone has nobody to wait for: a short
// heartbeat makes its first election quick and costs next to nothing when idle.
const (
	aloneTickMs, aloneElectionMs = 50, 500
	tickMs, electionMs           = 100, 1000
	defaultQuota                 = 2 << 30
	// keepRevisions is how much of etcd's own history stays: watchers that were
	// away for long read everything again.
	keepRevisions = "10000"
	// defragAbove is how much of the file must be free, and more than half of
	// it, for the file to be written anew: at a start, or later.
	defragAbove = 64 << 20
	defragEvery = time.Hour
)

// Server is a running member.
type Server struct {
	etcd     *embed.Etcd
	endpoint string
	sockets  string // a directory to remove, "" for none
	lock     *os.File
	log      *slog.Logger

	once    sync.Once
	closing atomic.Bool
	closed  error // what Close came to
	stop    chan struct{}
	wg      sync.WaitGroup
}

// Start starts the member and waits until it serves. With several members that
// is when enough of them have found each other.
func Start(ctx context.Context, o Options) (_ *Server, err error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Name == "" {
		o.Name = "hikyaku"
	}
	if o.Peer == "" && (len(o.Members) > 1 || o.Join) {
		return nil, errors.New("start etcd: a member that is not alone needs a URL for the others")
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	if err := os.Chmod(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	s := &Server{log: o.Logger, stop: make(chan struct{})}
	// etcd itself would wait for a second process to end, without a word.
	if s.lock, err = lockDir(o.Dir); err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	cfg, err := s.config(&o)
	if err == nil {
		err = s.start(ctx, cfg, o.StartTimeout)
	}
	if err != nil {
		return nil, fmt.Errorf("start etcd in %s: %w", o.Dir, errors.Join(err, s.Close()))
	}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		s.tidy()
	}()
	return s, nil
}

func (s *Server) start(ctx context.Context, cfg *embed.Config, timeout time.Duration) (err error) {
	if s.etcd, err = embed.StartEtcd(cfg); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case <-s.etcd.Server.ReadyNotify():
	case err := <-s.etcd.Err():
		return err
	case <-s.etcd.Server.StopNotify():
		return errors.New("it stopped while starting; its log says why")
	case <-ctx.Done():
		return fmt.Errorf("it is not ready after %s: the other members are not reached, or the disk is too slow: %w", timeout, ctx.Err())
	}
	s.endpoint = cfg.AdvertiseClientUrls[0].String()
	if strings.HasPrefix(s.endpoint, "http") {
		s.endpoint = cfg.AdvertiseClientUrls[0].Scheme + "://" + s.etcd.Clients[0].Addr().String()
	}
	return nil
}

// config is what etcd is told.
func (s *Server) config(o *Options) (*embed.Config, error) {
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = o.Name, filepath.Join(o.Dir, "member")
	if err := s.listen(cfg, o); err != nil {
		return nil, err
	}
	alone := len(o.Members) < 2 && !o.Join
	cfg.TickMs, cfg.ElectionMs = tickMs, electionMs
	if alone {
		cfg.TickMs, cfg.ElectionMs = aloneTickMs, aloneElectionMs
	}
	if o.StartTimeout == 0 {
		o.StartTimeout = 2 * time.Minute
		if alone {
			o.StartTimeout = 30 * time.Second
		}
	}
	members := o.Members
	if len(members) == 0 {
		members = map[string]string{o.Name: cfg.AdvertisePeerUrls[0].String()}
	}
	var list []string
	for name, peer := range members {
		list = append(list, name+"="+peer)
	}
	cfg.InitialCluster, cfg.InitialClusterToken = strings.Join(list, ","), "hikyaku"
	if o.Join {
		cfg.ClusterState = embed.ClusterStateFlagExisting
	}
	if o.CertFile != "" {
		info := transport.TLSInfo{CertFile: o.CertFile, KeyFile: o.KeyFile, TrustedCAFile: o.CAFile, ClientCertAuth: true}
		cfg.ClientTLSInfo, cfg.PeerTLSInfo = info, info
	}
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModeRevision, keepRevisions
	cfg.BootstrapDefragThresholdMegabytes = defragAbove >> 20
	cfg.QuotaBackendBytes = defaultQuota
	if o.QuotaBytes > 0 {
		cfg.QuotaBackendBytes = o.QuotaBytes
	}
	cfg.EnableGRPCGateway = false // nobody here speaks its HTTP
	cfg.SnapshotCount = 10_000
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(quiet(o.Logger, &s.closing))
	return cfg, nil
}

// maxSocketPath is what fits into a socket's address on every system.
const maxSocketPath = 100

// fitsSockets reports whether sockets can lie in a directory: their paths are
// short enough, and made of what a URL in etcd's list of members may hold.
func fitsSockets(dir string) bool {
	return len(filepath.Join(dir, "client.sock")) <= maxSocketPath && !strings.ContainsFunc(dir, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/._-", r)
	})
}

func (s *Server) listen(cfg *embed.Config, o *Options) error {
	dir := o.Dir
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if (o.Listen == "" || o.Peer == "") && !fitsSockets(dir) {
		var err error
		if dir, err = os.MkdirTemp("", "hikyaku-etcd-"); err != nil { // mode 0700
			return err
		}
		s.sockets = dir
	}
	client, peer := o.Listen, o.Peer
	if client == "" {
		client = "unix://" + filepath.Join(dir, "client.sock")
	}
	if peer == "" {
		peer = "unix://" + filepath.Join(dir, "peer.sock")
	}
	c, err := url.Parse(client)
	if err != nil {
		return fmt.Errorf("client URL: %w", err)
	}
	p, err := url.Parse(peer)
	if err != nil {
		return fmt.Errorf("peer URL: %w", err)
	}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{*c}, []url.URL{*c}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{*p}, []url.URL{*p}
	return nil
}

// lockDir keeps a second process out. The lock goes with the process.
func lockDir(dir string) (*os.File, error) {
	l, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(l.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s is in use by another process: %w", dir, err), l.Close())
	}
	return l, nil
}

// Endpoints is where clients reach it.
func (s *Server) Endpoints() []string { return []string{s.endpoint} }

// Failed is closed, or gives an error, when the member has stopped by itself.
func (s *Server) Failed() <-chan error { return s.etcd.Err() }

// tidy writes the database anew when most of it is free, until Close. The
// member does not answer meanwhile: that takes some ten milliseconds for each
// ten megabytes in use.
func (s *Server) tidy() {
	tick := time.NewTicker(defragEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.stop:
			return
		}
		b := s.etcd.Server.Backend()
		if size, used := b.Size(), b.SizeInUse(); size-used < defragAbove || used > size/2 {
			continue
		}
		if err := b.Defrag(); err != nil {
			s.log.Warn("etcd's database could not be written anew", "error", err)
		}
	}
}

// Close stops the member and waits for it. Twice does no harm.
func (s *Server) Close() error {
	s.once.Do(func() {
		s.closing.Store(true)
		close(s.stop)
		s.wg.Wait()
		if s.etcd != nil {
			s.etcd.Close()
		}
		if s.sockets != "" {
			s.closed = os.RemoveAll(s.sockets)
		}
		s.closed = errors.Join(s.closed, s.lock.Close())
	})
	return s.closed
}
