package serve

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane"
	"hikyaku/controlplane/access"
	policyapi "hikyaku/controlplane/api"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/store"
	"hikyaku/node/api"
	"hikyaku/node/api/apitest"
	"hikyaku/node/control"
)

// TestOnePageForNodeAndControlPlane: the two packages that print metrics do not
// know each other's names, and one name twice would break the whole page.
func TestOnePageForNodeAndControlPlane(t *testing.T) {
	s := control.Status{Registered: true, Holds: 7 * time.Second, LastExchange: 1500 * time.Millisecond, Floor: exchange.FullShare / 4, Members: 3, Alarms: []string{"a", "b"}, Sources: []control.SourceStatus{
		{Source: "one", State: "ready"}, {Source: "two", State: "ready", Fault: "no such interface"}, {Source: "three", State: "ending"},
	}}
	o := api.Options{Node: apitest.New(), Cluster: func() *api.Cluster {
		return &api.Cluster{Gossip: &api.GossipMetrics{Members: 3}, Control: controlMetrics(&s, control.Metrics{GrantsRunOut: 2})}
	}}
	o.Collectors = append(o.Collectors, policyapi.Collector(func() policyapi.Metrics {
		return policyapi.Metrics{Control: &controlplane.Metrics{Leader: true}, Store: &store.EtcdMetrics{Revision: 8}, Admin: &access.Metrics{}}
	}))
	mux := http.NewServeMux()
	api.Register(mux, o)
	rec := httptest.NewRecorder()
	mux.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "http://127.0.0.1/metrics", nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("/metrics = %d %s", rec.Code, rec.Body)
	}
	for _, want := range []string{
		"hikyaku_ready 1\n", "hikyaku_store_revision 8\n", "hikyaku_controlplane_leader 1\n", "hikyaku_gossip_members 3\n",
		"hikyaku_control_alarms 2\n", "hikyaku_control_registered 1\n", "hikyaku_control_lease_remaining_seconds 7\n", "hikyaku_control_exchange_age_seconds 1.5\n",
		"hikyaku_control_floor_ratio 0.25\n", "hikyaku_control_grants_lapsed_total 2\n",
		`hikyaku_control_sources{state="ready"} 1`, `hikyaku_control_sources{state="faulty"} 1`, `hikyaku_control_sources{state="ending"} 1`, `hikyaku_control_sources{state="released"} 0`,
	} {
		if !strings.Contains(rec.Body.String(), want) {
			t.Errorf("/metrics lacks %q", want)
		}
	}
	if s.LastExchange = -1; controlMetrics(&s, control.Metrics{}).ExchangeAge != nil {
		t.Error("a node that has made no exchange tells of an age")
	}
}
