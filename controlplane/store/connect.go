package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// ConnectOptions say how to reach etcd. Endpoints are required.
type ConnectOptions struct {
	// Endpoints are URLs: "https://10.0.0.1:2379", "unix:///…".
	Endpoints []string
	// CertFile and KeyFile are shown to etcd; CAFile is what its certificates
	// are checked with (default: the system's).
	CertFile, KeyFile, CAFile string
	// Username and PasswordFile log in where etcd wants that.
	Username, PasswordFile string
	// DialTimeout bounds Connect. Default 5s.
	DialTimeout time.Duration
	// Lazy gives a client also where no endpoint answers: for a node that can
	// start without. Its caller calls CheckVersions later.
	Lazy bool
}

// ErrNoAnswer says that no endpoint of etcd answers.
var ErrNoAnswer = errors.New("no endpoint of etcd answers")

// Timing of a connection: a member that is gone without a word is noticed
// within their sum.
const (
	pingAfter   = 2 * time.Second
	pingTimeout = 2 * time.Second
)

// floors are the oldest patch versions of etcd that are let in, by minor
// version; anything after the newest of them is too. Below them, leases are
// renewed that were revoked, reads are stale after a pause, and users read what
// they may not (CVE-2026-33343, CVE-2026-44283, GHSA-xg4h-6gfc-h4m8).
var floors = map[int]int{5: 33, 6: 14, 7: 1}

const newestMinor = 7

// Connect makes a client for etcd and checks the version of every member that
// answers; one must. Requests go to any endpoint that works.
func Connect(ctx context.Context, o ConnectOptions) (*clientv3.Client, error) {
	if len(o.Endpoints) == 0 {
		return nil, errors.New("connect to etcd: no endpoints are given")
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = 5 * time.Second
	}
	cfg := clientv3.Config{
		Endpoints: o.Endpoints, DialTimeout: o.DialTimeout, Username: o.Username, Logger: zap.NewNop(),
		DialKeepAliveTime: pingAfter, DialKeepAliveTimeout: pingTimeout, PermitWithoutStream: false,
		MaxCallSendMsgSize: 2 << 20,
	}
	var err error
	if cfg.TLS, err = o.tls(); err != nil {
		return nil, fmt.Errorf("connect to etcd: %w", err)
	}
	if o.PasswordFile != "" {
		b, err := os.ReadFile(o.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("connect to etcd: read the password: %w", err)
		}
		cfg.Password = strings.TrimRight(string(b), "\r\n")
	}
	c, err := clientv3.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to etcd at %s: %w", strings.Join(o.Endpoints, ", "), err)
	}
	err = CheckVersions(ctx, c, o.DialTimeout)
	if err == nil || o.Lazy && errors.Is(err, ErrNoAnswer) {
		return c, nil
	}
	return nil, errors.Join(fmt.Errorf("connect to etcd: %w", err), c.Close())
}

func (o *ConnectOptions) tls() (*tls.Config, error) {
	secure := false
	for _, e := range o.Endpoints {
		secure = secure || strings.HasPrefix(e, "https://") || strings.HasPrefix(e, "unixs://")
	}
	if o.CertFile == "" && o.CAFile == "" {
		if secure {
			return &tls.Config{MinVersion: tls.VersionTLS12}, nil
		}
		return nil, nil
	}
	if !secure {
		return nil, errors.New("certificates are given, but the endpoints are not https")
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificate authority: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", o.CAFile)
		}
	}
	if o.CertFile != "" {
		if _, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile); err != nil {
			return nil, fmt.Errorf("read the certificate: %w", err)
		}
		// Read again at each handshake, so that a renewed one is used.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
			return &c, err
		}
	}
	return cfg, nil
}

// CheckVersions asks all endpoints at once. It is ErrNoAnswer where none says
// what it is, and an error where one is too old.
func CheckVersions(ctx context.Context, c *clientv3.Client, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	endpoints := c.Endpoints()
	versions, errs := make([]string, len(endpoints)), make([]error, len(endpoints))
	var wg sync.WaitGroup
	for i, e := range endpoints {
		wg.Go(func() {
			s, err := c.Status(ctx, e)
			if errs[i] = err; err == nil {
				versions[i] = s.Version
			}
		})
	}
	wg.Wait()
	answered := false
	for i, e := range endpoints {
		if errs[i] != nil {
			errs[i] = fmt.Errorf("%s: %w", e, errs[i])
			continue
		}
		answered = true
		if err := checkVersion(versions[i]); err != nil {
			return fmt.Errorf("%s: %w", e, err)
		}
	}
	if !answered {
		return fmt.Errorf("%w: %w", ErrNoAnswer, errors.Join(errs...))
	}
	return nil
}

// checkVersion refuses an etcd with known faults that we would rely on.
func checkVersion(v string) error {
	core, _, isPre := strings.Cut(strings.TrimPrefix(v, "v"), "-")
	var n [3]int
	parts := strings.Split(core, ".")
	if len(parts) != 3 {
		return fmt.Errorf("version %.40q is not understood", v)
	}
	for i, p := range parts {
		var err error
		if n[i], err = strconv.Atoi(p); err != nil || n[i] < 0 {
			return fmt.Errorf("version %.40q is not understood", v)
		}
	}
	floor, known := floors[n[1]]
	switch {
	case n[0] > 3 || n[0] == 3 && n[1] > newestMinor:
		return nil
	case n[0] == 3 && known && (n[2] > floor || n[2] == floor && !isPre):
		return nil
	case n[0] == 3 && known:
		return fmt.Errorf("version %s has known faults: at least 3.%d.%d is needed", v, n[1], floor)
	}
	return fmt.Errorf("version %s is too old: at least 3.5.%d, 3.6.%d or 3.7.%d is needed", v, floors[5], floors[6], floors[7])
}
