package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hikyaku/bench/ledger"
	"hikyaku/bench/measure"
	"hikyaku/bench/report"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}

// little is a report short enough for its golden file to be read by a person.
func little() *report.Report {
	r := sample(1)
	r.Series = []measure.Series{{Name: "out", Unit: "msg/s", Group: measure.GroupRate, At: []float64{0.1, 0.3}, Value: []float64{8000, 8100.5}}}
	r.Carriers = r.Carriers[4:5]
	r.Carriers[0].Series = nil
	for i := range r.Treated {
		r.Treated[i].Series = nil
	}
	h := &measure.Histogram{}
	h.Add(2*time.Millisecond, 99)
	h.Add(time.Second, 1)
	r.Latencies = []report.Latency{report.NewLatency("accept", h)}
	return r
}

func TestGolden(t *testing.T) {
	r := little()
	b, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, b, "", "  "); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", pretty.Bytes())
	var text bytes.Buffer
	if err := r.Print(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.txt", text.Bytes())
}

func TestRoundTrip(t *testing.T) {
	r := sample(7)
	path, page, err := r.Write(filepath.Join(t.TempDir(), "results"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := report.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, got); d != "" {
		t.Errorf("not what was written (-want +got):\n%s", d)
	}
	if filepath.Base(path) != "carriers-20260314-092653.json" || filepath.Base(page) != "carriers-20260314-092653.html" {
		t.Errorf("written to %s and %s", path, page)
	}
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(files) != 2 {
		t.Errorf("%d files in the directory, want 2: %v", len(files), err)
	}
	r.Scenario = "../../evil"
	if path, _, err := r.Write(t.TempDir()); err != nil || strings.Contains(filepath.Base(path), ".-") || !strings.HasPrefix(filepath.Base(path), "------evil-") {
		t.Errorf("a scenario's name leads out of the directory: %s, %v", path, err)
	}
}

func TestReadIsStrict(t *testing.T) {
	good, err := little().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, old, new, want string }{
		{"newer", `"schema":2`, `"schema":99,"more":true`, "schema 99 is newer than this program's 2"},
		{"no schema", `"schema":2,`, ``, "no schema number"},
		{"schema 0", `"schema":2`, `"schema":0`, "no schema 0"},
		{"unknown field", `"form":"short"`, `"form":"short","fast":true`, `unknown field "fast"`},
		{"unknown field of a figure", `"unit":"msg/s","better"`, `"unit":"msg/s","colour":1,"better"`, `unknown field "colour"`},
		{"form", `"form":"short"`, `"form":"tiny"`, "short or long"},
		{"better", `"better":"lower"`, `"better":"more"`, "better is"},
		{"edited", `"status":"missed"`, `"status":"met"`, "was it edited?"},
		{"series", `"at":[0.1,0.3]`, `"at":[0.1]`, "1 times and 2 values"},
		{"histogram", `"hdr":"HIST`, `"hdr":"XXXX`, "HdrHistogram"},
		{"count", `"count":100,"min_ns"`, `"count":101,"min_ns"`, "its histogram 100"},
		{"cut off", `"notes":`, `"notes`, "not a report"},
		{"behind it", `]}` + "\n", `]}{"x":1}` + "\n", "not a report"},
		{"violations", `"violation_count":7`, `"violation_count":2`, "violations listed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !bytes.Contains(good, []byte(tt.old)) {
				t.Fatalf("the report does not contain %s", tt.old)
			}
			bad := bytes.Replace(good, []byte(tt.old), []byte(tt.new), 1)
			path := filepath.Join(t.TempDir(), "r.json")
			if err := os.WriteFile(path, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := report.Read(path)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v, want %q and the path", err, tt.want)
			}
		})
	}
	if _, err := report.Read(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestWhatIsNotANumberIsNotWritten(t *testing.T) {
	for name, spoil := range map[string]func(*report.Report){
		"figure": func(r *report.Report) { r.Figures[0].Value = math.NaN() },
		"target": func(r *report.Report) { v := math.Inf(1); r.Figures[0].Target = &v },
		"runs":   func(r *report.Report) { r.Figures[0].Runs[1] = math.NaN() },
		"series": func(r *report.Report) { r.Series[0].Value[0] = math.Inf(-1) },
		"twice":  func(r *report.Report) { r.Figures[1].Name = r.Figures[0].Name },
	} {
		r := little()
		spoil(r)
		if _, _, err := r.Write(t.TempDir()); err == nil {
			t.Errorf("%s: written all the same", name)
		}
	}
}

func TestJudge(t *testing.T) {
	v := 10.0
	for _, tt := range []struct {
		f    report.Figure
		want string
	}{
		{report.Figure{Value: 10, Better: report.Higher, Target: &v}, report.Met},
		{report.Figure{Value: 9.99, Better: report.Higher, Target: &v}, report.Missed},
		{report.Figure{Value: 10, Better: report.Lower, Target: &v}, report.Met},
		{report.Figure{Value: 10.01, Better: report.Lower, Target: &v}, report.Missed},
		{report.Figure{Value: 10}, ""},
		{report.Figure{Value: 99, Better: report.Higher, Target: &v, Without: "no Postfix"}, report.NotApplicable},
	} {
		if got := tt.f.Judge(); got != tt.want {
			t.Errorf("%+v is %q, want %q", tt.f, got, tt.want)
		}
	}
}

func TestNewProcess(t *testing.T) {
	u := measure.Process{Name: "node", Usage: measure.Usage{User: 2 * time.Second, System: time.Second, IOKnown: true, Wrote: 8192, Calls: 50}}
	p := report.NewProcess(u, 1000, 4096)
	if p.UserEach != 2*time.Millisecond || p.SystemEach != time.Millisecond || p.Each() != 3*time.Millisecond || p.WrotePerByte != 2 || p.CallsEach != 0.05 {
		t.Errorf("%+v", p)
	}
	if p := report.NewProcess(u, 0, 0); p.Each() != 0 || p.WrotePerByte != 0 || p.User != 2*time.Second {
		t.Errorf("without work: %+v", p)
	}
}

func TestPrintIsSafeOnATerminal(t *testing.T) {
	r := little()
	evil := "a\x1b[2Jb\u202e\n"
	r.Scenario, r.Figures[0].Name, r.Carriers[0].Name, r.Violations[0].Source, r.Notes[0] = evil, evil, evil, evil, evil
	r.Ledger.Rows = append(r.Ledger.Rows, ledger.Row{Name: evil})
	var b bytes.Buffer
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\u202e") {
		t.Errorf("%q", b.String())
	}
	if err := r.Print(failing{}); err == nil {
		t.Error("a failed write is no error")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("gone") }

func FuzzUnmarshal(f *testing.F) {
	b, err := little().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"schema":1,"scenario":"x","form":"long"}`))
	f.Add([]byte(`{"schema":1,"scenario":"x","form":"long","series":[{"name":"a","unit":"s","group":"latency","at":[0,1e300],"value":[-1,1e308]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := report.Unmarshal(b)
		if err != nil {
			return
		}
		// Whatever can be read can be drawn and printed.
		if _, err := r.Page(); err != nil {
			t.Fatal(err)
		}
		if err := r.Print(&bytes.Buffer{}); err != nil {
			t.Fatal(err)
		}
		if _, err := report.Compare(r, r); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCompareRefusesWhatIsUnlike(t *testing.T) {
	for name, change := range map[string]func(*report.Report){
		"scenario":          func(r *report.Report) { r.Scenario = "capacity" },
		"form":              func(r *report.Report) { r.Form = report.Long },
		"flag rate":         func(r *report.Report) { r.Flags["rate"] = "1" },
		"flag new":          func(r *report.Report) { r.Flags["new"] = "1" },
		"mode fsync":        func(r *report.Report) { r.Mode["fsync"] = "never" },
		"mode tls":          func(r *report.Report) { delete(r.Mode, "tls") },
		"processor":         func(r *report.Report) { r.Machine.CPU = "other" },
		"cores":             func(r *report.Report) { r.Machine.Cores = 64 },
		"CPU limit":         func(r *report.Report) { r.Machine.Quota = 1 },
		"architecture":      func(r *report.Report) { r.Machine.Arch = "arm64" },
		"kernel":            func(r *report.Report) { r.Machine.Kernel = "7.0.1" },
		"data device":       func(r *report.Report) { r.Machine.FileSystem = "tmpfs" },
		"":                  func(r *report.Report) { r.Machine.Kernel, r.Seed, r.Versions["hikyaku"] = "6.9.9", 99, "other" },
		"no flags, no mode": func(r *report.Report) { r.Flags, r.Mode = nil, nil },
	} {
		a, b := sample(1), sample(2)
		change(b)
		_, err := report.Compare(a, b)
		var unlike *report.UnlikeError
		switch {
		case name == "":
			if err != nil {
				t.Errorf("another commit and a minor kernel version: %v", err)
			}
		case !errors.As(err, &unlike):
			t.Errorf("%s: %v", name, err)
		case name == "no flags, no mode":
			if len(unlike.Differences) != len(a.Flags)+len(a.Mode) {
				t.Errorf("%q", unlike.Differences)
			}
		case len(unlike.Differences) != 1 || !strings.HasPrefix(unlike.Differences[0], name+": "):
			t.Errorf("%s: %q", name, unlike.Differences)
		default:
			if c := report.CompareAnyway(a, b); !slices.Equal(c.Warnings, unlike.Differences) {
				t.Errorf("%s: warnings %q", name, c.Warnings)
			}
		}
	}
}

func TestCompare(t *testing.T) {
	a, b := little(), little()
	b.Figures[0].Value, b.Figures[0].Runs = 10000, []float64{9900, 10000, 10100}
	b.Figures[1].Value = 0.33 // +6 %: below the assumed noise
	b.Figures[3].Value = 3.2  // disk bytes: twice
	b.Figures = append(b.Figures[:4:4], report.Figure{Name: "only here", Value: 1, Unit: "s"})
	b.Processes[0].UserEach /= 2
	c, err := report.Compare(a, b)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range slices.Concat(c.Figures, c.Latencies, c.Processes) {
		got[r.Name] = r.Factor() + " " + r.Verdict
	}
	for name, want := range map[string]string{
		"rate out": "1.16 better", "p99 from accept to delivered": "1.06 within noise", "disk bytes written per accepted byte": "2.01 worse",
		"only here": "- ", "memory per queued message": "- ", "ratio to Postfix": "- ",
		"accept p50": "1.00 within noise", "accept p99": "1.00 ", "accept max": "1.00 ", "node: user CPU per message": "0.50 better", "node: peak memory": "1.00 within noise",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	if r := c.Figures[0]; !r.Measured || r.Noise < 0.009 || r.Noise > 0.015 {
		t.Errorf("noise of the rounds: %+v", r)
	}
	var text bytes.Buffer
	if err := c.Print(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "comparison.txt", text.Bytes())
	j, err := c.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var back report.Comparison
	if err := json.Unmarshal(j, &back); err != nil || len(back.Figures) != len(c.Figures) {
		t.Errorf("JSON: %v", err)
	}
}
