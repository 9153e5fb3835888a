package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

var protocols = []string{"h2", "http/1.1"}

// files are the certificate, its key and the authority, read again when they
// change. A file that is broken for a moment, as while it is being replaced,
// leaves the last good set in force.
type files struct {
	o  Options
	mu struct {
		sync.Mutex
		looked time.Time
		stamps [3]stamp
		set    *certificates
	}
}

type stamp struct {
	modified time.Time
	size     int64
}

type certificates struct {
	own   tls.Certificate
	roots *x509.CertPool
}

// current is the set in force.
func (f *files) current() (*certificates, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.set != nil && time.Since(f.mu.looked) < f.o.Recheck {
		return f.mu.set, nil
	}
	f.mu.looked = time.Now()
	var stamps [3]stamp
	for i, path := range []string{f.o.CertFile, f.o.KeyFile, f.o.CAFile} {
		if st, err := os.Stat(path); err == nil {
			stamps[i] = stamp{st.ModTime(), st.Size()}
		}
	}
	if f.mu.set != nil && stamps == f.mu.stamps {
		return f.mu.set, nil
	}
	set, err := f.read()
	switch {
	case err == nil:
		f.mu.set, f.mu.stamps = set, stamps
	case f.mu.set == nil:
		return nil, err
	default:
		f.o.Logger.Error("cluster certificates cannot be read again; those from before stay in force", "error", err)
	}
	return f.mu.set, nil
}

func (f *files) read() (*certificates, error) {
	own, err := tls.LoadX509KeyPair(f.o.CertFile, f.o.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("cluster.cert_file: %w", err)
	}
	text, err := os.ReadFile(f.o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("cluster.ca_file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("cluster.ca_file %s: there is no certificate in PEM in it", f.o.CAFile)
	}
	// Said now rather than at every connection: with another authority's
	// certificate nobody would talk to us.
	more := x509.NewCertPool()
	for _, b := range own.Certificate[1:] {
		if c, err := x509.ParseCertificate(b); err == nil {
			more.AddCert(c)
		}
	}
	if _, err := own.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: more, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return nil, fmt.Errorf("cluster.cert_file %s does not go with cluster.ca_file %s: %w", f.o.CertFile, f.o.CAFile, err)
	}
	return &certificates{own, roots}, nil
}

// server is the TLS of one incoming connection.
func (f *files) server(*tls.ClientHelloInfo) (*tls.Config, error) {
	set, err := f.current()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: protocols, Certificates: []tls.Certificate{set.own},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: set.roots,
	}, nil
}

// dial is the TLS of one outgoing connection.
func (f *files) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	set, err := f.current()
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := tls.Client(conn, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: protocols, Certificates: []tls.Certificate{set.own}, RootCAs: set.roots, ServerName: host,
	})
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("peer %s: %w", addr, err), conn.Close())
	}
	return c, nil
}
