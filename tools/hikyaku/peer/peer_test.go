package peer_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/tools/hikyaku/peer"
)

func hello(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello "+r.Proto) }

func serve(t testing.TB, p *peer.Peers) *peer.Server {
	t.Helper()
	l, err := p.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := p.Serve(l, http.HandlerFunc(hello))
	t.Cleanup(s.Close)
	return s
}

// ask gives the body, or the error or status.
func ask(c *http.Client, scheme string, s *peer.Server) string {
	resp, err := c.Get(scheme + "://" + s.Addr.String())
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.Status + " " + strings.TrimSpace(string(b))
}

func newPeers(t testing.TB, o peer.Options) *peer.Peers {
	t.Helper()
	p, err := peer.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLoopbackByKey(t *testing.T) {
	key, _ := keyspace.NewKey()
	other, _ := keyspace.NewKey()
	p := newPeers(t, peer.Options{Key: key})
	s := serve(t, p)
	if got := ask(p.Client(), p.Scheme(), s); got != "200 OK hello HTTP/1.1" {
		t.Error(got)
	}
	for name, c := range map[string]*http.Client{"another key": newPeers(t, peer.Options{Key: other}).Client(), "no key": http.DefaultClient} {
		if got := ask(c, "http", s); !strings.HasPrefix(got, "401") {
			t.Errorf("%s: %s", name, got)
		}
	}
	if l, err := p.Listen("0.0.0.0:0"); err == nil {
		l.Close()
		t.Error("it listens to everybody without certificates")
	}
	if _, err := peer.New(peer.Options{}); err == nil {
		t.Error("it starts without a key")
	}
}

// certificates makes an authority with one certificate, for 127.0.0.1.
func certificates(t testing.TB, key keyspace.Key, hosts ...string) peer.Options {
	t.Helper()
	dir := t.TempDir()
	if err := peer.MakeAuthority(dir, "test"); err != nil {
		t.Fatal(err)
	}
	if err := peer.MakeCertificate(dir, "node", hosts); err != nil {
		t.Fatal(err)
	}
	return peer.Options{CertFile: filepath.Join(dir, "node.pem"), KeyFile: filepath.Join(dir, "node-key.pem"), CAFile: filepath.Join(dir, peer.AuthorityCert), Key: key}
}

func TestMutualTLS(t *testing.T) {
	key, _ := keyspace.NewKey()
	o := certificates(t, key, "127.0.0.1", "node.test")
	p := newPeers(t, o)
	s := serve(t, p)
	if got := ask(p.Client(), p.Scheme(), s); got != "200 OK hello HTTP/2.0" {
		t.Error(got)
	}
	otherKey, _ := keyspace.NewKey()
	wrong := o
	wrong.Key = otherKey
	if got := ask(newPeers(t, wrong).Client(), "https", s); !strings.HasPrefix(got, "401") {
		t.Errorf("another cluster of the same authority: %s", got)
	}
	stranger := newPeers(t, certificates(t, key, "127.0.0.1"))
	if got := ask(stranger.Client(), "https", s); !strings.Contains(got, "unknown authority") {
		t.Errorf("we trust another authority's server: %s", got)
	}
	for name, c := range map[string]*tls.Config{
		"no certificate": {InsecureSkipVerify: true},
		"TLS 1.2":        {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12},
	} {
		if got := ask(&http.Client{Transport: &http.Transport{TLSClientConfig: c}}, "https", s); strings.Contains(got, "hello") || !strings.Contains(got, "tls:") {
			t.Errorf("%s: %s", name, got)
		}
	}
	elsewhere := newPeers(t, certificates(t, key, "192.0.2.1"))
	if got := ask(elsewhere.Client(), "https", serve(t, elsewhere)); !strings.Contains(got, "127.0.0.1") || strings.Contains(got, "hello") {
		t.Errorf("a certificate of another address was taken: %s", got)
	}
}

func TestBadFiles(t *testing.T) {
	key, _ := keyspace.NewKey()
	good, other := certificates(t, key, "127.0.0.1"), certificates(t, key, "127.0.0.1")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(o *peer.Options){
		"does not go with":           func(o *peer.Options) { o.CAFile = other.CAFile },
		"there is no certificate":    func(o *peer.Options) { o.CAFile = empty },
		"cluster.ca_file: open":      func(o *peer.Options) { o.CAFile = empty + "x" },
		"cluster.cert_file: tls:":    func(o *peer.Options) { o.KeyFile = other.KeyFile },
		"no such file or directory":  func(o *peer.Options) { o.CertFile = empty + "x" },
		"failed to find any PEM dat": func(o *peer.Options) { o.CertFile = empty },
	} {
		o := good
		change(&o)
		if _, err := peer.New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	dir := filepath.Dir(good.CAFile)
	if err := peer.MakeAuthority(dir, "again"); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("the authority was written over: %v", err)
	}
	if err := peer.MakeCertificate(dir, "x", nil); err == nil {
		t.Error("a certificate for nobody")
	}
	if st, err := os.Stat(good.KeyFile); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v %v", st.Mode(), err)
	}
}

func TestRenewedCertificateNeedsNoRestart(t *testing.T) {
	key, _ := keyspace.NewKey()
	o := certificates(t, key, "127.0.0.1")
	o.Recheck = 50 * time.Millisecond
	p := newPeers(t, o)
	s := serve(t, p)
	serial := func() string {
		c, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := tls.Dial("tcp", s.Addr.String(), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{c}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	if err := peer.MakeCertificate(filepath.Dir(o.CAFile), "node", []string{"127.0.0.1", "renewed.test"}); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); serial() == before; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("the new certificate is not used")
		}
	}
}
