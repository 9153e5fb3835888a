package scenario

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"hikyaku/bench/candidate"
	"hikyaku/bench/load"
)

// certificateName is what the nodes' certificate is for.
const certificateName = "node.bench.test"

// encrypt makes a certificate for the nodes and has the SMTP sources check it,
// where TLS was asked for. It returns the listener's keys.
func (t *trial) encrypt() (keys string, err error) {
	if !t.run.TLS {
		return "", nil
	}
	certFile, keyFile, err := candidate.WriteCertificate(t.dir, certificateName)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(certFile)
	if err != nil {
		return "", err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	for _, f := range t.flows {
		if f.load.Protocol == load.SMTP {
			f.load.TLS = &tls.Config{RootCAs: roots, ServerName: certificateName, MinVersion: tls.VersionTLS12}
		}
	}
	return fmt.Sprintf("cert_file: %q, key_file: %q", certFile, keyFile), nil
}
