package main

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hikyaku/node"
	"hikyaku/node/api"
	"hikyaku/node/suppress"
	"hikyaku/spool/suppression"
)

// newSuppressions is a suppression list in memory, with a few entries.
func newSuppressions(t testing.TB) api.Suppressions {
	t.Helper()
	s, err := suppression.Open(suppression.Options{Dir: "suppression", FS: vfs.NewMem(), MemTableSize: 1 << 20, CacheSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	l, err := suppress.New(suppress.Options{Name: "tokyo-1", Store: s})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	_, err = l.Add([]suppression.Entry{
		{Tenant: "shop", Address: "user@docomo.ne.jp", Kind: suppression.Bounce, Category: "unknown-user", Reason: "550 Unknown user", By: "node tokyo-1", Added: at},
		{Tenant: "shop", Address: "user@docomo.ne.jp", Stream: "news", Kind: suppression.Unsubscribe, By: "node tokyo-1", Added: at},
		{Tenant: "bank", Address: "user@docomo.ne.jp", Kind: suppression.Complaint, Reason: "letters of the bank", By: "node tokyo-1", Added: at},
		{Address: "spamtrap@example.org", Kind: suppression.Manual, Reason: "for everybody", By: "ann", Added: at},
	})
	if err != nil {
		t.Fatal(err)
	}
	return node.SuppressionAPI(l)
}
