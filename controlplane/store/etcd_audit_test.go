package store_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"hikyaku/controlplane/store"
)

func TestAuditListsOrdersAndRevisionsTogether(t *testing.T) {
	w := newWorld(t)
	o := w.options()
	var mu sync.Mutex
	clock := start
	o.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		clock = clock.Add(time.Minute)
		return clock
	}
	e := w.open(t, o)
	for i := range 40 {
		apply(t, e, source(i))
		for _, action := range []string{"hold", "release", "drain"} {
			if err := e.AppendAudit(t.Context(), store.Entry{Author: "bob", Role: "operator", Action: action, Scope: fmt.Sprintf("tenant t%d", i), Result: "3 of 3"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, limit := range []int{1, 7, 100, 1000} {
		var all []store.Entry
		for before := ""; ; {
			p, err := e.Audit(t.Context(), store.AuditFilter{}, limit, before)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, p.Entries...)
			if before = p.Next; before == "" {
				break
			}
		}
		seen := map[string]bool{}
		for i, x := range all {
			if seen[x.ID] || i > 0 && x.Time.After(all[i-1].Time) {
				t.Errorf("limit %d: %s twice, or out of order", limit, x.ID)
			}
			seen[x.ID] = true
		}
		if len(all) != 160 || all[3].Action != "policy" || all[3].Scope != "created Source/s00039" {
			t.Errorf("limit %d: %d entries; %+v", limit, len(all), all[3])
		}
	}
	for name, tt := range map[string]struct {
		f store.AuditFilter
		n int
	}{
		"author":     {store.AuditFilter{Author: "ann"}, 40},
		"action":     {store.AuditFilter{Action: "drain"}, 40},
		"role":       {store.AuditFilter{Role: "operator"}, 120},
		"scope":      {store.AuditFilter{Scope: "tenant t7"}, 3},
		"since":      {store.AuditFilter{Since: clock.Add(-3 * time.Minute)}, 4},
		"until":      {store.AuditFilter{Until: start.Add(6 * time.Minute)}, 4},
		"nobody's":   {store.AuditFilter{Author: "eve"}, 0},
		"a resource": {store.AuditFilter{Scope: "Source/s00001"}, 1},
	} {
		p, err := e.Audit(t.Context(), tt.f, 1000, "")
		if err != nil || len(p.Entries) != tt.n || p.Next != "" {
			t.Errorf("%s: %d entries, next %q, %v; want %d", name, len(p.Entries), p.Next, err, tt.n)
		}
	}
	for _, bad := range []string{"x", "1", "0.0", "-2.1", "1.x", "1.2.3"} {
		if _, err := e.Audit(t.Context(), store.AuditFilter{}, 1, bad); !errors.Is(err, store.ErrBadCursor) {
			t.Errorf("cursor %q: %v", bad, err)
		}
	}
}

func TestAuditShowsTampering(t *testing.T) {
	for name, tamper := range map[string]func(t *testing.T, w world){
		"nothing": func(*testing.T, world) {},
		"an order changed": func(t *testing.T, w world) {
			w.edit(t, w.keys.Audit(3), "bob", "eve")
		},
		"an order gone": func(t *testing.T, w world) {
			w.delete(t, w.keys.Audit(3))
		},
		"the first order gone": func(t *testing.T, w world) {
			w.delete(t, w.keys.Audit(1))
		},
		"a revision's author changed": func(t *testing.T, w world) {
			w.edit(t, w.keys.PolicyDelta(2), "ann", "eve")
		},
		"a revision's resource changed": func(t *testing.T, w world) {
			w.edit(t, w.keys.PolicyDelta(2), "s00001.example.net", "s00009.example.net")
		},
		"a revision gone": func(t *testing.T, w world) {
			w.delete(t, w.keys.PolicyDelta(2))
		},
		"the first revision gone": func(t *testing.T, w world) {
			w.delete(t, w.keys.PolicyDelta(1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			e := w.open(t, w.options())
			for i := range 4 {
				apply(t, e, source(i))
				if err := e.AppendAudit(t.Context(), store.Entry{Author: "bob", Action: "hold"}); err != nil {
					t.Fatal(err)
				}
			}
			tamper(t, w)
			if _, err := e.VerifyAudit(t.Context()); (err == nil) != (name == "nothing") {
				t.Errorf("verify: %v", err)
			}
		})
	}
}

func (w world) edit(t testing.TB, key, from, to string) {
	t.Helper()
	r, err := w.client.Get(t.Context(), key)
	if err != nil || len(r.Kvs) != 1 || !strings.Contains(string(r.Kvs[0].Value), from) {
		t.Fatalf("%s does not hold %q: %v", key, from, err)
	}
	if _, err := w.client.Put(t.Context(), key, strings.ReplaceAll(string(r.Kvs[0].Value), from, to)); err != nil {
		t.Fatal(err)
	}
}

func (w world) delete(t testing.TB, key string) {
	t.Helper()
	if r, err := w.client.Delete(t.Context(), key); err != nil || r.Deleted != 1 {
		t.Fatalf("%+v %v", r, err)
	}
}

func TestAuditFromManyWriters(t *testing.T) {
	w := newWorld(t)
	a, b := w.open(t, w.options()), w.open(t, w.options())
	var wg sync.WaitGroup
	for i := range 40 {
		e := []*store.Etcd{a, b}[i%2]
		wg.Go(func() {
			if err := e.AppendAudit(t.Context(), store.Entry{Action: "hold", Reason: strings.Repeat("é", 3000), Scope: "\xff"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	p, err := a.VerifyAudit(t.Context())
	if err != nil || p.Orders != 40 || p.Order != 40 {
		t.Errorf("%+v %v", p, err)
	}
	page, err := b.Audit(t.Context(), store.AuditFilter{}, 1, "")
	if err != nil || len(page.Entries[0].Reason) > 1000 || page.Entries[0].Scope != "?" {
		t.Errorf("%+v %v", page, err)
	}
}
