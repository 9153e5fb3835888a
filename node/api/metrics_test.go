package api_test

import (
	"cmp"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"hikyaku/node/api"
	"hikyaku/node/api/apitest"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// everything is a node that has something to tell of each part.
type everything struct{ *apitest.Node }

func (n everything) Metrics() *api.Metrics {
	m := n.Node.Metrics()
	fill(reflect.ValueOf(m).Elem())
	return m
}

func allCluster() *api.Cluster {
	c := &api.Cluster{Gossip: &api.GossipMetrics{}}
	c.Control.ExchangeAge = new(float64)
	fill(reflect.ValueOf(c).Elem())
	return c
}

// fill puts a value into each map and histogram that is empty.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if h, is := v.Addr().Interface().(*api.Histogram); is {
			if len(h.Counts) == 0 {
				*h = api.Histogram{Bounds: []float64{1}, Counts: []uint64{1, 1}, Sum: 2}
			}
			return
		}
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i))
			}
		}
	case reflect.Map:
		if v.Len() > 0 {
			return
		}
		value := reflect.New(v.Type().Elem()).Elem()
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.Zero(v.Type().Key()), value)
	}
}

// TestEveryMetricByName is the list of what operators build on: a name that goes
// away breaks somebody's alert.
func TestEveryMetricByName(t *testing.T) {
	mux := http.NewServeMux()
	api.Register(mux, api.Options{Node: everything{apitest.New()}, Cluster: allCluster, Suppressions: apitest.Suppressions{}})
	rec := httptest.NewRecorder()
	mux.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "http://127.0.0.1/metrics", nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("/metrics = %d %s", rec.Code, rec.Body)
	}
	page := rec.Body.String()
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
		if !strings.HasSuffix(f.GetHelp(), ".") || f.GetHelp() != strings.TrimSpace(f.GetHelp()) {
			t.Errorf("%s: the help %q is no sentence", name, f.GetHelp())
		}
	}
	slices.Sort(lines)
	golden(t, "metrics.txt", strings.Join(lines, ""))

	problems, err := promlint.New(strings.NewReader(page)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(problems, func(a, b promlint.Problem) int { return cmp.Compare(a.Metric, b.Metric) })
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "hikyaku_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// TestANodeAloneTellsOfNoCluster: zeros would say that the lease is lost.
func TestANodeAloneTellsOfNoCluster(t *testing.T) {
	srv, _ := serve(t, apitest.New(), api.GuardOptions{})
	if _, _, body := get(t, srv.URL+"/metrics", nil); strings.Contains(body, "hikyaku_control_") || strings.Contains(body, "hikyaku_gossip_") {
		t.Error("a node without a cluster tells of one")
	}
}

func TestOverviewHasTheAlarms(t *testing.T) {
	n := apitest.New()
	mux := http.NewServeMux()
	api.Register(mux, api.Options{Node: n, Cluster: func() *api.Cluster { return &api.Cluster{Alarms: []string{"not registered: no answer"}} }})
	for path, want := range map[string]string{"/v1/overview": `"alarms":["not registered: no answer"]`, "/readyz": "ready\n"} {
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "http://127.0.0.1"+path, nil))
		if rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), want) {
			t.Errorf("%s = %d %s, want %s: an alarm is no reason to send no mail", path, rec.Code, rec.Body, want)
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
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
}
