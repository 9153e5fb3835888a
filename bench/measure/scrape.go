package measure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// maxMetricsBytes bounds what a metrics page may hold.
const maxMetricsBytes = 16 << 20

// Metrics is one look at the metrics page of a node.
type Metrics struct {
	families map[string]*dto.MetricFamily
}

// Scrape reads a metrics page in the Prometheus text format.
func Scrape(ctx context.Context, client *http.Client, url string) (Metrics, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Metrics{}, fmt.Errorf("read metrics: %w", err)
	}
	req.Header.Set("Accept", "text/plain; version=0.0.4")
	resp, err := client.Do(req)
	if err != nil {
		return Metrics{}, fmt.Errorf("read metrics: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Metrics{}, fmt.Errorf("read metrics: %s answers %s", url, resp.Status)
	}
	m, err := ParseMetrics(resp.Body)
	if err != nil {
		return Metrics{}, fmt.Errorf("%s: %w", url, err)
	}
	return m, nil
}

// ParseMetrics reads the Prometheus text format, up to 16 MiB.
func ParseMetrics(r io.Reader) (Metrics, error) {
	limited := &io.LimitedReader{R: r, N: maxMetricsBytes + 1}
	p := expfmt.NewTextParser(model.UTF8Validation)
	f, err := p.TextToMetricFamilies(limited)
	if err == nil && limited.N <= 0 {
		err = errors.New("more than 16 MiB")
	}
	if err != nil {
		return Metrics{}, fmt.Errorf("parse metrics: %w", err)
	}
	return Metrics{families: f}, nil
}

// Value is the sum of the samples of name whose labels are as given (pairs of
// label and value; a label that is not given may be anything). Of a histogram or
// summary it is the sum of all that was observed; Count is how often. It is not
// ok if there is no such sample.
func (m Metrics) Value(name string, labels ...string) (v float64, ok bool) {
	m.each(name, labels, func(s *dto.Metric) {
		ok = true
		v += valueOf(s)
	})
	return v, ok
}

// valueOf reads the one part of a sample that is set; the others read as zero.
func valueOf(s *dto.Metric) float64 {
	return s.GetCounter().GetValue() + s.GetGauge().GetValue() + s.GetUntyped().GetValue() +
		s.GetHistogram().GetSampleSum() + s.GetSummary().GetSampleSum()
}

// Count is how many values the histograms or summaries of name have observed.
func (m Metrics) Count(name string, labels ...string) (n uint64, ok bool) {
	m.each(name, labels, func(s *dto.Metric) {
		if s.Histogram != nil || s.Summary != nil {
			ok = true
			n += s.GetHistogram().GetSampleCount() + s.GetSummary().GetSampleCount()
		}
	})
	return n, ok
}

// By is the values of name by one of its labels.
func (m Metrics) By(name, label string) map[string]float64 {
	out := map[string]float64{}
	m.each(name, nil, func(s *dto.Metric) {
		for _, l := range s.GetLabel() {
			if l.GetName() == label {
				out[l.GetValue()] += valueOf(s)
			}
		}
	})
	return out
}

// Len is how many metrics the page had.
func (m Metrics) Len() int { return len(m.families) }

func (m Metrics) each(name string, labels []string, f func(*dto.Metric)) {
	for _, s := range m.families[name].GetMetric() {
		if hasLabels(s, labels) {
			f(s)
		}
	}
}

func hasLabels(s *dto.Metric, labels []string) bool {
	for i := 0; i+1 < len(labels); i += 2 {
		found := false
		for _, l := range s.GetLabel() {
			found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}
		if !found {
			return false
		}
	}
	return true
}
