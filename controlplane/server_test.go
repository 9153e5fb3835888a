package controlplane_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
)

func TestExchangeRefuses(t *testing.T) {
	c := newCluster(t, "")
	p := c.lead("c1")
	n := c.join("n1").joined(p)
	old := c.join("old", func(r *keyspace.Registration) { r.Protocol = [2]int{keyspace.Protocol + 1, keyspace.Protocol + 2} })
	wire := func(change func(*exchange.Report)) []byte {
		r := n.report()
		change(r)
		b, err := exchange.AppendReport(nil, r)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	newer := wire(func(*exchange.Report) {})
	newer[3] = 99 // the oldest version that can read it
	before := p.Metrics().ExchangesRefused
	for _, tt := range []struct {
		name string
		body []byte
		want int
	}{
		{"nothing", nil, http.StatusBadRequest},
		{"garbage", []byte("garbage"), http.StatusBadRequest},
		{"another version", newer, http.StatusUpgradeRequired},
		{"too much", make([]byte, exchange.MaxWire+1), http.StatusRequestEntityTooLarge},
		{"a stranger", wire(func(r *exchange.Report) { r.Node = "stranger" }), http.StatusConflict},
		{"another lease", wire(func(r *exchange.Report) { r.Lease++ }), http.StatusConflict},
		{"a node of another version", wire(func(r *exchange.Report) { r.Node, r.Lease = "old", int64(old.lease) }), http.StatusUpgradeRequired},
		{"an old report", wire(func(r *exchange.Report) { r.Serial = 1 }), http.StatusTooManyRequests},
		{"a good one", wire(func(*exchange.Report) {}), http.StatusOK},
	} {
		if status, _ := n.post(p, tt.body); status != tt.want {
			t.Errorf("%s: status %d, want %d", tt.name, status, tt.want)
		}
	}
	if n := p.Metrics().ExchangesRefused - before; n != 8 {
		t.Errorf("%d refusals counted", n)
	}
	res, err := http.Get("http://" + p.address + exchange.Path)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: status %d", res.StatusCode)
	}
}

// Without a content length, the bound holds all the same.
func TestExchangeReadsNoMoreThanItsBound(t *testing.T) {
	c := newCluster(t, "")
	p := c.lead("c1")
	body := struct{ *bytes.Reader }{bytes.NewReader(make([]byte, exchange.MaxWire+100))}
	res, err := http.Post("http://"+p.address+exchange.Path, exchange.ContentType, body)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", res.StatusCode)
	}
	var problem struct {
		Status        int
		Title, Detail string
	}
	if err := json.NewDecoder(res.Body).Decode(&problem); err != nil || problem.Status != res.StatusCode || problem.Title == "" || problem.Detail == "" || res.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%+v as %s, %v", problem, res.Header.Get("Content-Type"), err)
	}
}

func TestMisdirectedNodesAreToldTheLeader(t *testing.T) {
	c := newCluster(t, "")
	a := c.lead("c1")
	b := c.start("c2")
	n := c.join("n1").joined(a)
	c.eventually("it knows the leader", func() bool { return n.exchange(b) == http.StatusMisdirectedRequest })
	for _, path := range []string{exchange.Path, "/v1/leader/move"} {
		res, err := http.Post("http://"+b.address+path, "", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusMisdirectedRequest || res.Header.Get(exchange.LeaderHeader) != a.address {
			t.Errorf("%s: status %d, leader %q", path, res.StatusCode, res.Header.Get(exchange.LeaderHeader))
		}
	}
}

// Orders that cannot be read are refused where they arrive.
func TestOrdersAreRead(t *testing.T) {
	c := newCluster(t, "")
	a := c.lead("c1")
	for _, body := range []string{"", "{", `{"node":1}`, `{"node":"` + strings.Repeat("x", 70_000) + `"}`} {
		res, err := http.Post("http://"+a.address+"/v1/leader/drain", "", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("%.20q: status %d", body, res.StatusCode)
		}
	}
}

func TestExpiredThrottlesAreDeleted(t *testing.T) {
	now := time.Now()
	c := newCluster(t, "---\nkind: Throttle\nname: short\nspec: {carrier: default, rate: 1/s, expires: \""+now.Add(time.Hour).Format(time.RFC3339)+"\"}\n"+
		"---\nkind: Throttle\nname: long\nspec: {tenant: default, rate: 1/s, expires: \""+now.Add(3*time.Hour).Format(time.RFC3339)+"\"}\n")
	p := c.lead("c1", func(o *controlplane.Options) {
		o.Now = func() time.Time { return time.Now().Add(2 * time.Hour) } // the clock of the control plane
	})
	c.eventually("the one that has expired is deleted", func() bool { return c.store.Snapshot().Throttles["short"] == nil })
	if c.store.Snapshot().Throttles["long"] == nil {
		t.Error("the other one is gone too")
	}
	h, err := c.store.History(t.Context(), 1)
	if err != nil || !strings.Contains(h[0].Author, "c1") || h[0].Reason != "expired" {
		t.Errorf("%+v, %v", h, err)
	}
	c.eventually("the leader decides by the new policy", func() bool {
		l, err := p.Leader(t.Context())
		return err == nil && l.Revision == h[0].Revision
	})
}

func TestAppliedSaysWhoHasARevision(t *testing.T) {
	c := newCluster(t, sourcesPolicy(1))
	p := c.lead("c1")
	other := c.start("c2")
	a, b := c.join("n1").joined(p), c.join("n2").joined(p)
	a.fill = func(r *exchange.Report) { r.Revision = 1 }
	b.fill = func(r *exchange.Report) { r.Revision = 2 }
	a.exchange(p)
	b.exchange(p)
	c.apply("---\nkind: Source\nname: m1\nspec: {address: 192.0.2.77}\n")
	for revision, want := range map[int64]int{1: 2, 2: 1, 3: 0, 0: 1} {
		c.eventually("it is known", func() bool {
			v, err := other.Applied(t.Context(), revision)
			return err == nil && v.Applied == want && v.Live == 2 && len(v.Nodes) == 2 && v.Nodes[1].Revision == 2
		})
	}
	b.crash()
	c.eventually("a dead node does not count", func() bool {
		v, err := p.Applied(t.Context(), 2)
		return err == nil && v.Live == 1 && v.Applied == 0 && !v.Nodes[1].Live
	})
}
