package report_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hikyaku/bench/report"
)

var keepPages = os.Getenv("HIKYAKU_KEEP_PAGES") // a directory: pages stay there to be looked at

func write(t *testing.T, r *report.Report) string {
	t.Helper()
	dir := keepPages
	if dir == "" {
		dir = t.TempDir()
	}
	_, page, err := r.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	if page, err = filepath.Abs(page); err != nil {
		t.Fatal(err)
	}
	return page
}

func TestPageInABrowser(t *testing.T) {
	b := openBrowser(t)
	page := write(t, sample(1))
	backs := map[string]string{}
	for _, l := range []look{{name: "light", width: 1280}, {name: "dark", width: 1280, dark: true}, {name: "narrow", width: 360}, {name: "narrow-dark", width: 390, dark: true}, {name: "print", width: 760, print: true, dark: true}} {
		got := b.check(page, l)
		checkFaults(t, l.name, got)
		// Rates, latency, queue, CPU, memory, disk, descriptors, histogram,
		// percentiles, 13 carriers, and two that were treated in several ways.
		if got["plots"] != "24" || got["pointed"] != "24" {
			t.Errorf("%s: %s plots drawn, %s answer the pointer, want 24", l.name, got["plots"], got["pointed"])
		}
		if got["width"] != strconv.Itoa(l.width) {
			t.Errorf("%s: the window is %s wide, want %d", l.name, got["width"], l.width)
		}
		if n, _ := strconv.Atoi(got["labels"]); n < 250 {
			t.Errorf("%s: only %d labels were looked at", l.name, n)
		}
		backs[l.name] = got["back"]
	}
	if backs["light"] == backs["dark"] || backs["print"] != backs["light"] {
		t.Errorf("backgrounds %v: want dark on a dark screen only", backs)
	}
}

func checkFaults(t *testing.T, name string, got map[string]string) {
	t.Helper()
	var faults []string
	if err := json.Unmarshal([]byte(got["faults"]), &faults); err != nil {
		t.Fatalf("%s: faults %q: %v", name, got["faults"], err)
	}
	if len(faults) > 0 {
		t.Errorf("%s: the page finds fault with itself:\n%s", name, strings.Join(faults, "\n"))
	}
}

// TestTheBrowserSeesFaults: a check that never fails would be worth nothing.
func TestTheBrowserSeesFaults(t *testing.T) {
	b := openBrowser(t)
	page, err := sample(1).Page()
	if err != nil {
		t.Fatal(err)
	}
	// All labels of an axis in one place, and a table that does not scroll.
	spoiled := bytes.Replace(page, []byte("</style>"), []byte(".x .tick { left: 50% !important; } .scroll { min-width: 3000px; }</style>"), 1)
	file := filepath.Join(t.TempDir(), "spoiled.html")
	if err := os.WriteFile(file, spoiled, 0o644); err != nil {
		t.Fatal(err)
	}
	got := b.check(file, look{name: "spoiled", width: 1280})
	if !strings.Contains(got["faults"], "lies on") || !strings.Contains(got["faults"], "wider than the window") {
		t.Errorf("not seen: %s", got["faults"])
	}
}

func TestPageStandsAlone(t *testing.T) {
	r := sample(1)
	evil := `"><script>alert(1)</script><img onerror=alert(2)>'`
	r.Notes = append(r.Notes, evil)
	r.Figures[0].Name, r.Series[0].Name, r.Carriers[0].Name, r.Latencies[0].Name = evil, evil, evil, evil
	r.Violations[0].Source, r.Marks[0].Text, r.Machine.CPU, r.Mode[evil] = evil, evil, evil, evil
	page, err := r.Page()
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	if strings.Contains(text, "<script>alert") || strings.Contains(text, "<img") {
		t.Error("what a report says is not escaped")
	}
	if !strings.Contains(text, "default-src &#39;none&#39;") && !strings.Contains(text, "default-src 'none'") {
		t.Error("no policy")
	}
	for _, asks := range []string{"http://", "https://", " src=\"", "<link", "@import", "url("} {
		if strings.Contains(text, asks) {
			t.Errorf("the page asks for something: %s", asks)
		}
	}
	if len(page) > report.MaxPageBytes {
		t.Errorf("%d bytes", len(page))
	}
}

// TestPageStaysSmall: an hour of everything still fits.
func TestPageStaysSmall(t *testing.T) {
	r := sample(1)
	for i := range r.Series {
		s := &r.Series[i]
		for len(s.At) < 2400 {
			s.At, s.Value = append(s.At, s.At[len(s.At)-1]+0.213), append(s.Value, s.Value[len(s.Value)%200]*1.017)
		}
	}
	for i := range 4 {
		more := slices.Clone(r.Series)
		for j := range more[:len(more)/(i+1)] {
			more[j].Name += strings.Repeat("'", i+1)
			r.Series = append(r.Series, more[j])
		}
	}
	for range 3000 {
		r.AddViolation(r.Violations[0])
	}
	page, err := r.Page()
	if err != nil {
		t.Fatal(err)
	}
	if len(page) > report.MaxPageBytes {
		t.Errorf("%d bytes with %d series", len(page), len(r.Series))
	}
	if len(r.Violations) != report.MaxViolations || r.ViolationCount != 3007 {
		t.Errorf("%d violations listed of %d", len(r.Violations), r.ViolationCount)
	}
}

func TestComparisonInABrowser(t *testing.T) {
	b := openBrowser(t)
	other := sample(2)
	other.Machine.Cores = 64
	c := report.CompareAnyway(sample(1), other)
	page, err := c.Page()
	if err != nil {
		t.Fatal(err)
	}
	dir := keepPages
	if dir == "" {
		dir = t.TempDir()
	}
	file, err := filepath.Abs(filepath.Join(dir, "comparison.html"))
	if err == nil {
		err = os.WriteFile(file, page, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(page) > report.MaxPageBytes || !bytes.Contains(page, []byte("cores: 2, 64")) {
		t.Errorf("%d bytes, or the warning is missing", len(page))
	}
	for _, l := range []look{{name: "light", width: 1280}, {name: "narrow", width: 360, dark: true}} {
		got := b.check(file, l)
		checkFaults(t, l.name, got)
		// 17 series, and two plots for each of two latencies.
		if got["plots"] != "21" {
			t.Errorf("%s: %s plots, want 21", l.name, got["plots"])
		}
	}
}
