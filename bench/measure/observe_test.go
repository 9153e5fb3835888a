package measure_test

import (
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"hikyaku/bench/measure"
)

func TestReadMachine(t *testing.T) {
	m, err := measure.ReadMachine(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if m.Cores != runtime.NumCPU() || m.Memory < 1<<26 || m.Kernel == "" || m.FileSystem == "" || m.Go != runtime.Version() {
		t.Errorf("facts are missing: %+v", m)
	}
	if _, err := measure.ReadMachine("/does/not/exist"); err == nil {
		t.Error("a directory that is not there is no error")
	}
}

func TestSyncLatency(t *testing.T) {
	dir := t.TempDir()
	s, err := measure.SyncLatency(dir, 20)
	if err != nil {
		t.Fatal(err)
	}
	if s.Count != 20 || s.P50 <= 0 || s.P50 > s.P99 || s.P99 > s.Max {
		t.Errorf("%+v", s)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, n := range []int{0, -1, 1 << 30} {
		if _, err := measure.SyncLatency(dir, n); err == nil {
			t.Errorf("%d rounds are no error", n)
		}
	}
}

// proc is a /proc that the test changes while it is read.
type proc struct {
	sync.Mutex
	files fstest.MapFS
}

func (p *proc) Open(name string) (fs.File, error) {
	p.Lock()
	defer p.Unlock()
	return p.files.Open(name)
}

type life struct {
	parent, ticks, systemTicks, childTicks int
	rssKB, peakKB, fds, threads            int
	wrote                                  int
}

func (p *proc) set(pid int, l life) {
	p.Lock()
	defer p.Unlock()
	d := fmt.Sprint(pid)
	files := fstest.MapFS{}
	for k, v := range p.files {
		if !strings.HasPrefix(k, d+"/") {
			files[k] = v
		}
	}
	put := func(name, s string) { files[d+"/"+name] = &fstest.MapFile{Data: []byte(s)} }
	put("stat", fmt.Sprintf("%d (a ) name) S %d 1 1 0 -1 0 0 0 0 0 %d %d %d 0 20 0 %d 0 1 2 3\n", pid, l.parent, l.ticks, l.systemTicks, l.childTicks, l.threads))
	put("status", fmt.Sprintf("Name:\tx\nVmHWM:\t%d kB\nVmRSS:\t%d kB\n", l.peakKB, l.rssKB))
	put("io", fmt.Sprintf("rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 5\nwrite_bytes: %d\ncancelled_write_bytes: 0\n", l.wrote))
	for i := range l.fds {
		put(fmt.Sprintf("fd/%d", i), "")
	}
	p.files = files
}

func (p *proc) end(pid int) {
	p.Lock()
	defer p.Unlock()
	files := fstest.MapFS{}
	for k, v := range p.files {
		if !strings.HasPrefix(k, fmt.Sprintf("%d/", pid)) {
			files[k] = v
		}
	}
	p.files = files
}

func find(t *testing.T, all []measure.Series, name string) measure.Series {
	t.Helper()
	for _, s := range all {
		if s.Name == name {
			return s
		}
	}
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
	}
	t.Fatalf("no series %q in %q", name, names)
	return measure.Series{}
}

func TestWatchFollowsAProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &proc{files: fstest.MapFS{}}
		p.set(10, life{ticks: 100, systemTicks: 50, rssKB: 1000, peakKB: 2000, fds: 3, threads: 4, wrote: 1 << 20})
		w := measure.NewWatch(measure.WatchOptions{Every: time.Second, Proc: p, Targets: []measure.Target{{Name: "node", PID: 10}}})
		defer w.Stop()
		time.Sleep(500 * time.Millisecond)
		for i := range 10 {
			// Half a core in the program, a quarter in the kernel, 1 MiB/s.
			p.set(10, life{ticks: 150 + 50*i, systemTicks: 75 + 25*i, rssKB: 1000 + 100*i, peakKB: 2000 + 100*i, fds: 3 + i, threads: 4, wrote: (2 + i) << 20})
			time.Sleep(time.Second)
		}
		u, err := w.Usage("node")
		if err != nil {
			t.Fatal(err)
		}
		want := measure.Usage{User: 6 * time.Second, System: 3 * time.Second, RSS: 1900 << 10, PeakRSS: 2900 << 10, Files: 12, Threads: 4, IOKnown: true, Wrote: 11 << 20, Read: 5, Calls: 7}
		if u != want {
			t.Errorf("usage %+v\nwant  %+v", u, want)
		}
		for name, v := range map[string]float64{"node: user": 0.5, "node: system": 0.25, "node: written": 1 << 20} {
			s := find(t, w.Series(), name)
			if len(s.At) != 10 || math.Abs(s.Mean()-v) > 1e-9 || math.Abs(s.Max()-v) > 1e-9 {
				t.Errorf("%s: %v, want %g throughout", name, s.Value, v)
			}
		}
		if _, err := w.Usage("nobody"); err == nil {
			t.Error("a process that is not watched has a usage")
		}
	})
}

// TestWatchOfAProcessThatIsEnding: its pages go away one by one, and what is
// left of them in between replaces nothing.
func TestWatchOfAProcessThatIsEnding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &proc{files: fstest.MapFS{}}
		p.set(10, life{ticks: 100, rssKB: 1000, peakKB: 2000, fds: 3, threads: 4, wrote: 1 << 20})
		w := measure.NewWatch(measure.WatchOptions{Every: time.Second, Proc: p, Targets: []measure.Target{{Name: "node", PID: 10}}})
		defer w.Stop()
		before, err := w.Usage("node")
		if err != nil || !before.IOKnown || before.RSS == 0 {
			t.Fatalf("%+v, %v", before, err)
		}
		p.set(10, life{ticks: 150, threads: 1})
		p.Lock()
		delete(p.files, "10/io")
		p.files["10/status"] = &fstest.MapFile{Data: []byte("Name:\tx\nState:\tZ (zombie)\n")}
		p.Unlock()
		time.Sleep(1500 * time.Millisecond)
		if u, err := w.Usage("node"); u != before || err != nil {
			t.Errorf("usage %+v, %v\nwant  %+v", u, err, before)
		}
	})
}

func TestWatchAddsUpLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &proc{files: fstest.MapFS{}}
		w := measure.NewWatch(measure.WatchOptions{Every: time.Second, Proc: p})
		defer w.Stop()
		w.Add(measure.Target{Name: "node", PID: 9}) // not there (yet)
		if len(w.Processes()) != 0 {
			t.Errorf("a process that was never seen is listed: %+v", w.Processes())
		}
		for pid := 10; pid < 13; pid++ {
			p.set(pid, life{ticks: 0, rssKB: 500, peakKB: 100 * pid, wrote: 10})
			w.Add(measure.Target{Name: "node", PID: pid})
			p.set(pid, life{ticks: 100, rssKB: 500, peakKB: 100 * pid, wrote: 1000})
			time.Sleep(2500 * time.Millisecond)
			p.end(pid)
			time.Sleep(2500 * time.Millisecond)
		}
		u, err := w.Usage("node")
		if err != nil || u.User != 3*time.Second || u.Wrote != 3000 || u.PeakRSS != 1200<<10 || !u.IOKnown {
			t.Errorf("%+v, %v", u, err)
		}
		before := measure.Usage{User: time.Second, Wrote: 400, IOKnown: true}
		if d := u.Since(before); d.User != 2*time.Second || d.Wrote != 2600 || d.PeakRSS != u.PeakRSS || !d.IOKnown {
			t.Errorf("since: %+v", d)
		}
	})
}

func TestWatchOfATree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &proc{files: fstest.MapFS{}}
		p.set(10, life{ticks: 10, childTicks: 5, rssKB: 100})
		p.set(11, life{parent: 10, ticks: 20, rssKB: 100})
		p.set(12, life{parent: 11, ticks: 30, rssKB: 100})
		p.set(99, life{parent: 1, ticks: 1000, rssKB: 9999})
		w := measure.NewWatch(measure.WatchOptions{Every: time.Second, Proc: p, Targets: []measure.Target{{Name: "postfix", PID: 10, Tree: true}}})
		defer w.Stop()
		u, err := w.Usage("postfix")
		if err != nil || u.User != 650*time.Millisecond || u.RSS != 300<<10 {
			t.Errorf("%+v, %v", u, err)
		}
		// One ends; who waited for it has its time now. Between the two, nothing
		// is taken back.
		p.end(12)
		time.Sleep(1500 * time.Millisecond)
		if u, _ := w.Usage("postfix"); u.User != 650*time.Millisecond || u.RSS != 200<<10 || u.PeakRSS != 300<<10 {
			t.Errorf("one ended: %+v", u)
		}
		p.set(11, life{parent: 10, ticks: 20, childTicks: 40, rssKB: 100})
		time.Sleep(time.Second)
		if u, _ := w.Usage("postfix"); u.User != 750*time.Millisecond {
			t.Errorf("and was waited for: %+v", u)
		}
	})
}

func TestWatchGaugesAndLatencies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, rec := time.Now(), measure.NewRecorder()
		w := measure.NewWatch(measure.WatchOptions{
			Every: 100 * time.Millisecond, Start: start, Proc: fstest.MapFS{},
			Gauges: []measure.Gauge{
				{Name: "queue", Group: measure.GroupQueue, Read: func() (float64, bool) { return 7, true }},
				{Name: "out", Unit: "msg/s", Group: measure.GroupRate, Counter: true, Read: func() (float64, bool) {
					s := time.Since(start)
					return 1000 * s.Seconds(), s < 3*time.Second || s > 6*time.Second
				}},
			},
			Latencies: []measure.Latency{{Name: "accept", Recorder: rec}},
		})
		for range 50 {
			rec.Record(3 * time.Millisecond)
			rec.Record(3 * time.Millisecond)
			rec.Record(200 * time.Millisecond)
			time.Sleep(200 * time.Millisecond)
		}
		w.Stop()
		w.Stop()
		all := w.Series()
		if q := find(t, all, "queue"); q.Mean() != 7 || len(q.At) < 90 {
			t.Errorf("queue: %v", q)
		}
		out := find(t, all, "out")
		if math.Abs(out.Mean()-1000) > 1e-6 || math.Abs(out.Max()-1000) > 1e-6 {
			t.Errorf("rate: %v", out.Value)
		}
		for _, at := range out.At {
			if at > 3 && at < 6 {
				t.Errorf("a rate at %g, in the gap", at)
			}
		}
		p50, p99 := find(t, all, "accept p50"), find(t, all, "accept p99")
		if len(p50.At) < 9 || math.Abs(p50.Mean()-0.003) > 1e-4 || math.Abs(p99.Mean()-0.2) > 1e-3 {
			t.Errorf("p50 %v, p99 %v", p50.Value, p99.Value)
		}
	})
}

// TestWatchSeesARealChild compares with what the kernel told who waited.
func TestWatchSeesARealChild(t *testing.T) {
	child := exec.Command("/bin/sh", "-c", "read x; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; read x")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	w := measure.NewWatch(measure.WatchOptions{Every: 10 * time.Millisecond, Targets: []measure.Target{{Name: "sh", PID: child.Process.Pid}}})
	defer w.Stop()
	fmt.Fprint(in, "go\n\n")
	in.Close()
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	w.Ended("sh", child.ProcessState)
	u, err := w.Usage("sh")
	if err != nil {
		t.Fatal(err)
	}
	if kernel := child.ProcessState.UserTime() + child.ProcessState.SystemTime(); u.CPU() < kernel || u.CPU() > kernel+20*time.Millisecond {
		t.Errorf("CPU %v, the kernel says %v", u.CPU(), kernel)
	}
	if u.PeakRSS == 0 || u.Threads != 1 || !u.IOKnown {
		t.Errorf("%+v", u)
	}
	if self, err := w.Usage(measure.Self); err != nil || self.PeakRSS == 0 || self.Files == 0 {
		t.Errorf("this process: %+v, %v", self, err)
	}
}

func TestTrackIsBounded(t *testing.T) {
	for _, peaks := range []bool{false, true} {
		tr := measure.NewTrack("x", "", "", 100, peaks)
		sum, n := 0.0, 100_003
		for i := range n {
			tr.Add(time.Duration(i)*time.Second, float64(i))
			sum += float64(i)
		}
		s := tr.Series()
		if len(s.At) > 101 || len(s.At) < 50 || len(s.At) != len(s.Value) {
			t.Fatalf("%d points", len(s.At))
		}
		for i := 1; i < len(s.At); i++ {
			if s.At[i] <= s.At[i-1] {
				t.Fatalf("time goes back at %d", i)
			}
		}
		switch {
		case peaks && s.Max() != float64(n-1):
			t.Errorf("the peak is %g", s.Max())
		case !peaks && math.Abs(s.Mean()-sum/float64(n)) > float64(n)/50:
			t.Errorf("the mean is %g, want about %g", s.Mean(), sum/float64(n))
		}
		// A line stays a line: each point is the mean of its samples.
		for i := range s.At {
			if d := s.Value[i] - s.At[i]; !peaks && math.Abs(d) > 1e-6*float64(n) {
				t.Fatalf("at %g the value is %g", s.At[i], s.Value[i])
			}
		}
	}
}

func TestThin(t *testing.T) {
	s := measure.Series{Name: "x", Unit: "u", Group: "g"}
	for i := range 1000 {
		s.At, s.Value = append(s.At, float64(i)), append(s.Value, float64(i%10))
	}
	thin := s.Thin(50, false)
	if len(thin.At) != 50 || math.Abs(thin.Mean()-4.5) > 1e-9 || thin.Name != "x" || thin.Unit != "u" || thin.Group != "g" {
		t.Errorf("%d points, mean %g", len(thin.At), thin.Mean())
	}
	if peaks := s.Thin(50, true); peaks.Mean() != 9 {
		t.Errorf("peaks: %v", peaks.Value)
	}
	if same := s.Thin(2000, false); len(same.At) != 1000 {
		t.Errorf("%d points of 1000", len(same.At))
	}
}

func TestSlope(t *testing.T) {
	noise := func(i int) float64 { return float64((i*7919)%101)/50.5 - 1 } // -1 … 1, uncorrelated
	for _, tt := range []struct {
		name      string
		value     func(i int) float64
		perHour   float64
		tolerance float64
		grows     bool
	}{
		{"constant", func(int) float64 { return 5 }, 0, 1e-9, false},
		{"a line", func(i int) float64 { return 100 + float64(i) }, 3600, 1e-6, true},
		{"noise", func(i int) float64 { return 100 + noise(i) }, 0, 1, false},
		{"a line under noise", func(i int) float64 { return 0.01*float64(i) + 5*noise(i) }, 36, 3, true},
		{"slow waves", func(i int) float64 { return 50 * math.Sin(float64(i)/80) }, 0, 300, false},
	} {
		s := measure.Series{Name: tt.name, Unit: "bytes"}
		for i := range 1000 {
			s.At, s.Value = append(s.At, float64(i)), append(s.Value, tt.value(i))
		}
		got, ok := measure.Slope(s, 0)
		if !ok || math.Abs(got.PerHour-tt.perHour) > tt.tolerance || got.Grows() != tt.grows {
			t.Errorf("%s: %+v ok %v, want %g ± %g, grows %v", tt.name, got, ok, tt.perHour, tt.tolerance, tt.grows)
		}
		if math.Abs(got.PerHour-tt.perHour) > got.PlusMinus+1e-6 {
			t.Errorf("%s: the truth %g is outside of %g ± %g", tt.name, tt.perHour, got.PerHour, got.PlusMinus)
		}
	}
	if _, ok := measure.Slope(measure.Series{At: []float64{1, 1, 1}, Value: []float64{1, 2, 3}}, 0); ok {
		t.Error("no time, and yet a slope")
	}
	if _, ok := measure.Slope(measure.Series{At: []float64{1, 2, 3}, Value: []float64{1, 2, 3}}, 2); ok {
		t.Error("two points after the warm-up, and yet a slope")
	}
	if s := (measure.Trend{Name: "node: memory", Unit: "bytes", PerHour: 3 << 20, PlusMinus: 1 << 19}).String(); s != "node: memory +3.00 ± 0.50 MiB/h" {
		t.Error(s)
	}
}

const page = `# HELP q Deliveries.
# TYPE q gauge
q{tenant="a",state="ready"} 3
q{tenant="b",state="ready"} 4
q{tenant="b",state="later"} 50
# TYPE sent_total counter
sent_total 12
# TYPE took_seconds histogram
took_seconds_bucket{le="0.1"} 3
took_seconds_bucket{le="+Inf"} 4
took_seconds_sum 1.5
took_seconds_count 4
`

func TestScrape(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics":
			fmt.Fprint(w, page)
		case "/bad":
			fmt.Fprint(w, "{{{ 1")
		default:
			http.NotFound(w, r)
		}
	}))
	defer srv.Close()
	m, err := measure.Scrape(t.Context(), srv.Client(), srv.URL+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		labels []string
		want   float64
		ok     bool
	}{
		{"q", nil, 57, true},
		{"q", []string{"state", "ready"}, 7, true},
		{"q", []string{"state", "ready", "tenant", "b"}, 4, true},
		{"q", []string{"state", "never"}, 0, false},
		{"sent_total", nil, 12, true},
		{"took_seconds", nil, 1.5, true},
		{"nothing", nil, 0, false},
	} {
		if v, ok := m.Value(tt.name, tt.labels...); v != tt.want || ok != tt.ok {
			t.Errorf("%s %v: %g %v, want %g %v", tt.name, tt.labels, v, ok, tt.want, tt.ok)
		}
	}
	if n, ok := m.Count("took_seconds"); n != 4 || !ok {
		t.Errorf("count %d %v", n, ok)
	}
	if by := m.By("q", "tenant"); len(by) != 2 || by["a"] != 3 || by["b"] != 54 {
		t.Errorf("by tenant: %v", by)
	}
	for _, path := range []string{"/bad", "/none"} {
		if _, err := measure.Scrape(t.Context(), srv.Client(), srv.URL+path); err == nil || !strings.Contains(err.Error(), "metrics") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestWaitedForChildrenAreNotOurs: the kernel adds what an ended child has
// written to its parent's page, so a benchmark that ends its nodes would seem to
// have written all of their mail.
func TestWaitedForChildrenAreNotOurs(t *testing.T) {
	w := measure.NewWatch(measure.WatchOptions{Every: time.Hour})
	defer w.Stop()
	before, err := w.Usage(measure.Self)
	if err != nil {
		t.Fatal(err)
	}
	const wrote = 8 << 20
	path := filepath.Join(t.TempDir(), "f")
	if out, err := exec.Command("dd", "if=/dev/zero", "of="+path, "bs=1M", "count=8", "conv=fsync").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.Stop()
	after, err := w.Usage(measure.Self)
	if err != nil {
		t.Fatal(err)
	}
	if !after.IOKnown {
		t.Skip("this system does not tell what a process wrote")
	}
	if grown := after.Wrote - before.Wrote; grown >= wrote/2 {
		t.Fatalf("this process seems to have written %d bytes; its child did", grown)
	}
}
