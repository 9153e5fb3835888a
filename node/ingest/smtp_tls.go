package ingest

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate serves a certificate from files and reads them again when they
// change, so that renewing needs no restart. A pair that cannot be read leaves
// the last good one in place.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	mu                struct {
		sync.Mutex
		good    *tls.Certificate
		checked time.Time
		stamp   [2]fileStamp
	}
}

// fileStamp tells two versions of a file apart.
type fileStamp struct {
	modified time.Time
	size     int64
}

// certificateCheck is how often the files are looked at, at most.
const certificateCheck = time.Second

func newCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if err := c.reload(time.Now()); err != nil {
		return nil, err
	}
	return c, nil
}

func stampOf(path string) fileStamp {
	fi, err := os.Stat(path)
	if err != nil {
		return fileStamp{}
	}
	return fileStamp{fi.ModTime(), fi.Size()}
}

// reload reads the files now, whether they changed or not.
func (c *certificate) reload(now time.Time) error {
	stamp := [2]fileStamp{stampOf(c.certFile), stampOf(c.keyFile)}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.checked = now
	c.mu.stamp = stamp // also of a bad pair: it is not read again until it changes
	if err != nil {
		return fmt.Errorf("load certificate %s with key %s: %w", c.certFile, c.keyFile, err)
	}
	c.mu.good = &pair
	return nil
}

// get is tls.Config.GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	now := time.Now()
	c.mu.Lock()
	good, stamp, due := c.mu.good, c.mu.stamp, now.Sub(c.mu.checked) >= certificateCheck
	if due {
		c.mu.checked = now
	}
	c.mu.Unlock()
	if !due || stamp == [2]fileStamp{stampOf(c.certFile), stampOf(c.keyFile)} {
		return good, nil
	}
	if err := c.reload(now); err != nil {
		c.log.Warn("certificate changed but cannot be used; the old one stays", "error", err)
		return good, nil
	}
	c.log.Info("certificate reloaded", "file", c.certFile)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.good, nil
}

// TLSFromFiles is the configuration of another listener whose certificate is kept
// as ours are.
func TLSFromFiles(certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	c, err := newCertificate(certFile, keyFile, log)
	if err != nil {
		return nil, err
	}
	return c.tlsConfig(), nil
}

// tlsConfig is a listener's own: session ticket keys are not shared between
// listeners, so a ticket of one is worthless at another.
func (c *certificate) tlsConfig() *tls.Config {
	return &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12}
}
