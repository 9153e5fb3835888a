package config

import (
	"fmt"
	"os"
	"strings"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// Bounds of the feedback section.
const (
	maxFeedbackAddresses = 100
	maxFormerKeys        = 7 // feedback.MaxKeys less the current one
)

// feedback checks the feedback section.
func (k *check) feedback(f *Feedback, node string) {
	for _, l := range [][2]string{{"smtp_listen", f.SMTPListen}, {"http_listen", f.HTTPListen}} {
		if _, err := splitListen(l[1]); l[1] != "" && err != nil {
			k.bad("feedback."+l[0], "%.80q: %v", l[1], err)
		}
	}
	if err := policy.CheckDomain(f.Hostname); err != nil && f.Hostname != node {
		k.bad("feedback.hostname", "%.80q is no host name: %v", f.Hostname, err)
	}
	if (f.CertFile == "") != (f.KeyFile == "") {
		k.bad("feedback.cert_file", "cert_file and key_file: give both or none")
	}
	if len(f.Addresses) > maxFeedbackAddresses {
		k.bad("feedback.addresses", "%d are given, at most %d", len(f.Addresses), maxFeedbackAddresses)
	}
	for i, a := range f.Addresses {
		if local, domain, ok := strings.Cut(a, "@"); !ok || local == "" || policy.CheckDomain(domain) != nil {
			k.bad(fmt.Sprintf("feedback.addresses[%d]", i), "%.100q: want local@domain", a)
		}
	}
	number(k, "feedback.max_message_size", f.MaxMessageSize, 64<<10, 10<<20)
	number(k, "feedback.max_per_client", f.MaxPerClient, 1, 100_000)
	if len(f.FormerKeyFiles) > maxFormerKeys {
		k.bad("feedback.former_key_files", "%d are given, at most %d", len(f.FormerKeyFiles), maxFormerKeys)
	}
}

// FormerKeys reads the cluster keys of before.
func (f *Feedback) FormerKeys() ([]keyspace.Key, error) {
	var keys []keyspace.Key
	for i, path := range f.FormerKeyFiles {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("feedback.former_key_files[%d]: %w", i, err)
		}
		key, err := keyspace.ParseKey(string(b))
		if err != nil {
			return nil, fmt.Errorf("feedback.former_key_files[%d] %s: %w", i, path, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}
