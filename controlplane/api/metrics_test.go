package api_test

import (
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"hikyaku/controlplane"
	"hikyaku/controlplane/access"
	"hikyaku/controlplane/api"
	"hikyaku/controlplane/store"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func metricsPage(t *testing.T, m api.Metrics) string {
	t.Helper()
	rec := httptest.NewRecorder()
	api.MetricsHandler(slog.New(slog.DiscardHandler), api.Collector(func() api.Metrics { return m })).
		ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "http://127.0.0.1/metrics", nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("/metrics = %d %s", rec.Code, rec.Body)
	}
	return rec.Body.String()
}

// TestEveryMetricByName is the list of what operators build on: a name that goes
// away breaks somebody's alert.
func TestEveryMetricByName(t *testing.T) {
	page := metricsPage(t, api.Metrics{
		Control: &controlplane.Metrics{Leader: true, Sources: map[string]int{"held": 3}, Steering: controlplane.SteeringMetrics{Decisions: map[string]int64{"block": 2}}}, Store: &store.EtcdMetrics{}, Admin: &access.Metrics{},
		Process: &api.ProcessMetrics{Name: "c1", Version: "test", Started: time.Unix(1, 0)},
	})
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for name, f := range families {
		if !strings.HasPrefix(name, "hikyaku_") {
			continue // of the runtime and the process
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		lines = append(lines, fmt.Sprintf("%s %s {%s} %s\n", name, strings.ToLower(f.GetType().String()), strings.Join(labels, ","), f.GetHelp()))
	}
	slices.Sort(lines)
	const path = "testdata/metrics.txt"
	got := strings.Join(lines, "")
	if *rewrite {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; -rewrite writes it anew. Have:\n%s", path, got)
	}
	problems, err := promlint.New(strings.NewReader(page)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "hikyaku_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func TestMetricsSayWhatIsThere(t *testing.T) {
	for name, c := range map[string]struct {
		m           api.Metrics
		has, hasNot []string
	}{
		"leader": {
			api.Metrics{Control: &controlplane.Metrics{Leader: true, Term: 9, Members: 3, Live: 2, DecisionTime: 1500 * time.Millisecond, Sources: map[string]int{"held": 3, "free": 1}}},
			[]string{"hikyaku_controlplane_leader 1\n", "hikyaku_controlplane_term 9\n", "hikyaku_controlplane_members_live 2\n", "hikyaku_controlplane_decision_seconds_total 1.5\n",
				`hikyaku_controlplane_sources{state="free"} 1`, `hikyaku_controlplane_sources{state="quarantined"} 0`},
			[]string{"hikyaku_store_", "hikyaku_admin_", "hikyaku_ready"},
		},
		"standing by": {
			api.Metrics{Control: &controlplane.Metrics{Term: 9}},
			[]string{"hikyaku_controlplane_leader 0\n"},
			[]string{"hikyaku_controlplane_members", "hikyaku_controlplane_sources"},
		},
		"before etcd answers": {
			api.Metrics{Admin: &access.Metrics{Refused: 1, Limited: 2, Forbidden: 3}, Process: &api.ProcessMetrics{Name: "c1", Version: "v"}},
			[]string{`hikyaku_admin_refused_total{reason="key"} 1`, `hikyaku_admin_refused_total{reason="limited"} 2`, `hikyaku_admin_refused_total{reason="role"} 3`,
				"hikyaku_ready 0\n", `hikyaku_build_info{node="c1",version="v"} 1`},
			[]string{"hikyaku_controlplane_", "hikyaku_store_"},
		},
		"restored etcd": {
			api.Metrics{Store: &store.EtcdMetrics{Revision: 41, Degraded: true, Alarms: 2}},
			[]string{"hikyaku_store_degraded 1\n", "hikyaku_store_revision 41\n", "hikyaku_store_alarms_total 2\n"},
			[]string{"hikyaku_ready"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			page := metricsPage(t, c.m)
			for _, want := range c.has {
				if !strings.Contains(page, want) {
					t.Errorf("no %q in\n%s", want, page)
				}
			}
			for _, no := range c.hasNot {
				if strings.Contains(page, "\n"+no) {
					t.Errorf("%q is told of", no)
				}
			}
		})
	}
}
