package keyspace_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// etcd is a Reader in memory.
type etcd map[string][]byte

func (e etcd) Range(_ context.Context, from, end string, limit int) ([]keyspace.Entry, error) {
	var out []keyspace.Entry
	for _, k := range slices.Sorted(maps.Keys(e)) {
		if (k == from || end != "" && k > from && k < end) && len(out) < limit {
			out = append(out, keyspace.Entry{Key: k, Value: e[k], ModRevision: 1})
		}
	}
	return out, nil
}

// history writes revisions 1 to n, each with a source of its number, and a base
// every tenth.
func history(t testing.TB, n int64) (keyspace.Keys, etcd, keyspace.Head, []*keyspace.Snapshot) {
	t.Helper()
	k, _ := keyspace.New("")
	e := etcd{}
	head := keyspace.Head{}
	states := []*keyspace.Snapshot{{}}
	for i := int64(1); i <= n; i++ {
		d := &keyspace.Delta{Revision: i, Previous: head.Sum, ID: keyspace.NewID(), Author: "ann",
			Records: []keyspace.Record{{Kind: "Source", Name: fmt.Sprintf("s%d", i), Revision: i, Spec: []byte(`{"ehlo":"` + strings.Repeat("x", 100) + `"}`)}},
			Effects: []keyspace.Effect{{Action: keyspace.Created, Kind: "Source", Name: fmt.Sprintf("s%d", i)}}}
		if i%7 == 0 {
			d.Effects = append(d.Effects, keyspace.Effect{Action: keyspace.Deleted, Kind: "Source", Name: fmt.Sprintf("s%d", i-1)})
		}
		e[k.PolicyDelta(i)] = encode(t, d)
		next, err := states[i-1].Next(d)
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, next)
		head.Revision, head.Sum = i, d.Sum
		if i%10 == 0 {
			head.Base = i
			putBase(t, k, e, next)
		}
	}
	return k, e, head, states
}

func encode(t testing.TB, d *keyspace.Delta) []byte {
	t.Helper()
	b, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func putBase(t testing.TB, k keyspace.Keys, e etcd, s *keyspace.Snapshot) keyspace.BaseRef {
	t.Helper()
	packed, ref, err := keyspace.EncodeRecords(s.Records)
	if err != nil {
		t.Fatal(err)
	}
	ref.ID = keyspace.NewID()
	for i := range ref.Parts {
		e[k.PolicyBasePart(s.Revision, ref.ID, i)] = packed[i*keyspace.BasePart : min((i+1)*keyspace.BasePart, len(packed))]
	}
	e[k.PolicyBase(s.Revision)], err = json.Marshal(keyspace.Base{Revision: s.Revision, Sum: s.Sum, BaseRef: ref})
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func same(a, b *keyspace.Snapshot) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

func TestEveryWayToARevisionGivesTheSame(t *testing.T) {
	k, e, head, states := history(t, 65)
	want := states[65]
	for from := range states {
		got, err := k.CatchUp(t.Context(), e, states[from], head)
		if err != nil || !same(got, want) {
			t.Errorf("from %d: %v", from, err)
		}
	}
	for _, base := range []int64{0, 10, 60} {
		h := head
		h.Base = base
		if got, err := k.LoadSnapshot(t.Context(), e, h); err != nil || !same(got, want) {
			t.Errorf("from base %d: %v", base, err)
		}
	}
	if len(want.Records) != 65-9 || want.Find("Source", "s6") != nil || want.Find("Source", "s7") == nil {
		t.Errorf("%d records", len(want.Records))
	}
}

func TestDamageAndGapsAreTold(t *testing.T) {
	for name, tt := range map[string]struct {
		damage func(k keyspace.Keys, e etcd)
		want   error
	}{
		"a delta is missing":  {func(k keyspace.Keys, e etcd) { delete(e, k.PolicyDelta(63)) }, keyspace.ErrGap},
		"the last is missing": {func(k keyspace.Keys, e etcd) { delete(e, k.PolicyDelta(65)) }, keyspace.ErrGap},
		"a delta is changed": {func(k keyspace.Keys, e etcd) {
			e[k.PolicyDelta(63)] = bytes.Replace(e[k.PolicyDelta(63)], []byte(`"ann"`), []byte(`"eve"`), 1)
		}, keyspace.ErrDamaged},
		"a resource is changed": {func(k keyspace.Keys, e etcd) {
			e[k.PolicyDelta(63)] = bytes.Replace(e[k.PolicyDelta(63)], []byte(`ehlo\":\"x`), []byte(`ehlo\":\"y`), 1)
			e[k.PolicyDelta(63)] = bytes.Replace(e[k.PolicyDelta(63)], []byte(`"ehlo":"x`), []byte(`"ehlo":"y`), 1)
		}, keyspace.ErrDamaged},
		"the base is missing":     {func(k keyspace.Keys, e etcd) { delete(e, k.PolicyBase(60)) }, keyspace.ErrDamaged},
		"the base is of another":  {func(k keyspace.Keys, e etcd) { e[k.PolicyBase(60)] = e[k.PolicyBase(50)] }, keyspace.ErrDamaged},
		"the base's part is gone": {func(k keyspace.Keys, e etcd) { dropParts(k, e, 60) }, keyspace.ErrDamaged},
		"the head is elsewhere":   {func(k keyspace.Keys, e etcd) { e[k.PolicyDelta(65)] = e[k.PolicyDelta(64)] }, keyspace.ErrGap},
		"rubbish":                 {func(k keyspace.Keys, e etcd) { e[k.PolicyDelta(65)] = []byte("\x1f\x8brubbish") }, keyspace.ErrDamaged},
	} {
		k, e, head, _ := history(t, 65)
		tt.damage(k, e)
		if s, err := k.LoadSnapshot(t.Context(), e, head); !errors.Is(err, tt.want) || s != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func dropParts(k keyspace.Keys, e etcd, revision int64) {
	for key := range e {
		if n, part := k.PolicyBaseOf(key); part && n == revision {
			delete(e, key)
		}
	}
}

func TestHugeRevisionLiesInABase(t *testing.T) {
	k, e, head, states := history(t, 5)
	next := keyspace.NewSnapshot(9, "", []keyspace.Record{{Kind: "Source", Name: "only", Revision: 9, Spec: []byte(`{}`)}})
	ref := putBase(t, k, e, next)
	d := &keyspace.Delta{Revision: 9, Previous: head.Sum, Base: &ref}
	e[k.PolicyDelta(9)] = encode(t, d)
	head = keyspace.Head{Revision: 9, Sum: d.Sum}
	for _, s := range states[:6] {
		if got, err := k.CatchUp(t.Context(), e, s, head); err != nil || len(got.Records) != 1 || got.Sum != d.Sum {
			t.Errorf("from %d: %v", s.Revision, err)
		}
	}
	dropParts(k, e, 9)
	if _, err := k.CatchUp(t.Context(), e, states[5], head); !errors.Is(err, keyspace.ErrNotInline) {
		t.Error(err)
	}
}

func TestStrippedDeltaKeepsTheChain(t *testing.T) {
	_, e, _, states := history(t, 3)
	k, _ := keyspace.New("")
	b, changed, err := keyspace.StripDelta(e[k.PolicyDelta(3)])
	if err != nil || !changed || bytes.Contains(b, []byte("xxxx")) {
		t.Fatalf("%v %v", changed, err)
	}
	d, err := keyspace.DecodeDelta(b)
	if err != nil || !d.Stripped || d.Author != "ann" || d.Sum != states[3].Sum || d.Previous != states[2].Sum {
		t.Errorf("%+v %v", d, err)
	}
	if _, err := states[2].Next(d); !errors.Is(err, keyspace.ErrNotInline) {
		t.Error(err)
	}
	if _, changed, _ := keyspace.StripDelta(b); changed {
		t.Error("stripped twice")
	}
}

func TestSealedResources(t *testing.T) {
	key, _ := keyspace.NewKey()
	r := policy.Resource{Kind: "Route", Name: "r", Revision: 3, Spec: &policy.Route{Domains: []string{"a.jp"}, Username: "u", Password: policy.NewSecret("hunter2")}}
	rec, err := key.SealResource(&r, nil)
	if err != nil || strings.Contains(fmt.Sprintf("%s %v", rec.Spec, rec.Secrets), "hunter2") || r.Spec.(*policy.Route).Password.IsZero() {
		t.Fatalf("%s %v %v", rec.Spec, rec.Secrets, err)
	}
	r.Spec.(*policy.Route).Domains = []string{"b.jp"}
	moved, _ := key.SealResource(&r, &rec)
	if same, secrets := rec.Same(&moved); same || !secrets {
		t.Error("a secret that stayed must keep its sealed text")
	}
	r.Spec.(*policy.Route).Password = policy.NewSecret("hunter3")
	changed, _ := key.SealResource(&r, &moved)
	if _, secrets := moved.Same(&changed); secrets {
		t.Error("another secret looks the same")
	}
	got, later, err := key.OpenRecord(&changed)
	if err != nil || later || got.Spec.(*policy.Route).Password.Reveal() != "hunter3" || got.Revision != 3 {
		t.Errorf("%+v %v %v", got, later, err)
	}
	// A record copied under another name gives nothing away.
	thief := changed
	thief.Name = "mine"
	if _, _, err := key.OpenRecord(&thief); err == nil || strings.Contains(err.Error(), "hunter3") {
		t.Error(err)
	}
	shown, err := changed.Listing()
	if p := shown.Spec.(*policy.Route).Password; err != nil || p.IsZero() || p.Reveal() == "hunter3" {
		t.Errorf("%v %v", p, err)
	}
}

func TestOpenSnapshotReusesWhatStayed(t *testing.T) {
	key, _ := keyspace.NewKey()
	rec := func(name string, revision int64, spec string) keyspace.Record {
		return keyspace.Record{Kind: "Source", Name: name, Revision: revision, Spec: []byte(spec)}
	}
	first, err := key.OpenSnapshot(keyspace.NewSnapshot(1, "", []keyspace.Record{rec("a", 1, `{}`), rec("b", 1, `{}`), {Kind: "Later", Name: "x"}}), nil)
	if err != nil || len(first.Resources) != 2 || !slices.Equal(first.Later, []string{"Later/x"}) {
		t.Fatalf("%+v %v", first, err)
	}
	second, err := key.OpenSnapshot(keyspace.NewSnapshot(2, "", []keyspace.Record{rec("a", 1, `{}`), rec("b", 2, `{"ehlo":"b.jp","new":1}`)}), first)
	if err != nil || second.Resources[0].Spec != first.Resources[0].Spec || second.Resources[1].Spec == first.Resources[1].Spec || !slices.Equal(second.Later, []string{"Source/b"}) {
		t.Errorf("%+v %v", second, err)
	}
	for _, bad := range []string{``, `[]`, `{"ehlo":1}`, `{} {}`} {
		if _, err := key.OpenSnapshot(keyspace.NewSnapshot(1, "", []keyspace.Record{rec("a", 1, bad)}), nil); err == nil {
			t.Errorf("spec %q was taken", bad)
		}
	}
}

func TestPolicyTooLarge(t *testing.T) {
	spec := []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
	var big []keyspace.Record
	for range keyspace.MaxPolicyBytes >> 20 {
		big = append(big, keyspace.Record{Kind: "Source", Name: "s", Spec: spec})
	}
	if _, _, err := keyspace.EncodeRecords(big); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Error(err)
	}
}

func TestClusterCheck(t *testing.T) {
	key, _ := keyspace.NewKey()
	c, err := keyspace.NewCluster(key, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(c)
	got, err := keyspace.DecodeCluster(b)
	if err != nil || got.Check(key, "") != nil || got.Check(key, c.ID) != nil {
		t.Errorf("%+v %v", got, err)
	}
	other, _ := keyspace.NewKey()
	swapped := c
	swapped.ID = keyspace.NewID() + keyspace.NewID()
	for name, err := range map[string]error{"key": c.Check(other, c.ID), "id": c.Check(key, swapped.ID), "id under the seal": swapped.Check(key, "")} {
		if !errors.Is(err, keyspace.ErrWrongCluster) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	dir := t.TempDir()
	if id, err := keyspace.RememberedCluster(dir); id != "" || err != nil {
		t.Error(id, err)
	}
	if err := keyspace.RememberCluster(dir, c.ID); err != nil {
		t.Fatal(err)
	}
	if id, err := keyspace.RememberedCluster(dir); id != c.ID || err != nil {
		t.Error(id, err)
	}
	if err := os.WriteFile(filepath.Join(dir, keyspace.ClusterFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := keyspace.RememberCluster(dir, c.ID); err == nil {
		t.Error("an unreadable id was written over")
	}
}

// FuzzDecode: whatever lies in etcd or on the disk is an error or a value that
// encodes to the same again, never a panic.
func FuzzDecode(f *testing.F) {
	k, e, _, _ := history(f, 10)
	f.Add(e[k.PolicyDelta(3)])
	f.Add(e[k.PolicyBase(10)])
	f.Add([]byte(`{"sum":"","delta":{},"records":[]}`))
	f.Add([]byte("\x1f\x8b\x08"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := keyspace.DecodeDelta(b); err == nil {
			if _, err := (&keyspace.Snapshot{Revision: d.Revision - 1, Sum: d.Previous}).Next(d); err != nil && !errors.Is(err, keyspace.ErrNotInline) {
				t.Errorf("does not follow itself: %v", err)
			}
			_, _, _ = keyspace.StripDelta(b)
		}
		_, _ = keyspace.DecodeHead(b)
		_, _ = keyspace.DecodeCluster(b)
		_, _ = keyspace.DecodeRecords(b, keyspace.BaseRef{Packed: len(b)})
	})
}
