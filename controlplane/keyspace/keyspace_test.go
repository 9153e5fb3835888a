package keyspace_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"hikyaku/controlplane/keyspace"
)

func TestKeys(t *testing.T) {
	for _, bad := range []string{"hikyaku/", "/hikyaku", "//", "/a//b/", strings.Repeat("/a", 101) + "/"} {
		if _, err := keyspace.New(bad); err == nil {
			t.Errorf("prefix %q was taken", bad)
		}
	}
	k, err := keyspace.New("")
	if err != nil {
		t.Fatal(err)
	}
	deltas := []string{k.PolicyDelta(100), k.PolicyDelta(9), k.PolicyDelta(10)}
	slices.Sort(deltas)
	if want := []string{k.PolicyDelta(9), k.PolicyDelta(10), k.PolicyDelta(100)}; !slices.Equal(deltas, want) {
		t.Errorf("numbered keys sort as %q", deltas)
	}
	all := map[string]bool{}
	for _, key := range []string{k.Cluster(), k.PolicyHead(), k.PolicyBase(1), k.PolicyDelta(1), k.Audit(1), k.Leader(), k.Node("a"), k.Member("a"), k.Source("a"), k.Day("a"), k.Gossip()} {
		if all[key] || !strings.HasPrefix(key, "/hikyaku/") {
			t.Errorf("key %q stands twice or lies outside the prefix", key)
		}
		all[key] = true
	}
}

func TestSealed(t *testing.T) {
	key, text := keyspace.NewKey()
	again, err := keyspace.ParseKey(text)
	if err != nil || again.PeerToken() != key.PeerToken() {
		t.Fatalf("the key's own text is read as another key: %v", err)
	}
	sealed, err := key.Seal("Route/r password", "hunter2")
	if err != nil || strings.Contains(sealed, "hunter2") {
		t.Fatalf("sealed %q, %v", sealed, err)
	}
	if twice, _ := key.Seal("Route/r password", "hunter2"); twice == sealed {
		t.Error("the same text sealed twice looks the same")
	}
	if got, err := again.Open("Route/r password", sealed); got != "hunter2" || err != nil {
		t.Errorf("opened %q, %v", got, err)
	}
	other, _ := keyspace.NewKey()
	flipped := []byte(sealed)
	flipped[len(flipped)-5] ^= 1
	for name, open := range map[string]func() (string, error){
		"another place": func() (string, error) { return key.Open("Route/s password", sealed) },
		"another key":   func() (string, error) { return other.Open("Route/r password", sealed) },
		"no key":        func() (string, error) { return keyspace.Key{}.Open("Route/r password", sealed) },
		"damaged":       func() (string, error) { return key.Open("Route/r password", string(flipped)) },
		"plain":         func() (string, error) { return key.Open("Route/r password", "hunter2") },
		"short":         func() (string, error) { return key.Open("Route/r password", "sealed:v1:AAAA") },
	} {
		if got, err := open(); err == nil || got != "" || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: opened %q, %v", name, got, err)
		}
	}
	for _, bad := range []string{"", "abc", strings.Repeat("zz", 32), strings.Repeat("ab", 31)} {
		if _, err := keyspace.ParseKey(bad); err == nil {
			t.Errorf("key file %q was taken", bad)
		}
	}
	if s := fmt.Sprintf("%s %v", key, key); s != "*** ***" {
		t.Errorf("the key prints as %q", s)
	}
	if string(key.Derive("a", 16)) == string(key.Derive("b", 16)) {
		t.Error("two purposes share a key")
	}
}
