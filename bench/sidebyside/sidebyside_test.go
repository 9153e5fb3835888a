package sidebyside

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"hikyaku/bench/candidate"
	"hikyaku/bench/measure"
)

// needPeers skips without Postfix's tools, unless peers are required.
func needPeers(t *testing.T) {
	t.Helper()
	for _, program := range []string{"postfix", "smtp-source", "smtp-sink"} {
		if _, err := candidate.Find(program, "run make test-deps"); err != nil {
			if os.Getenv("HIKYAKU_REQUIRE_PEERS") == "1" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	if os.Getuid() != 0 && os.Getenv("HIKYAKU_REQUIRE_PEERS") != "1" { // where they are required, it fails
		t.Skip("Postfix starts only as root")
	}
}

func TestSameWorkThroughAll(t *testing.T) {
	needPeers(t)
	var began, ended []string
	r, err := Run(t.Context(), Options{Messages: 100, Connections: 5, Rounds: 2, Progress: func(s Step) {
		if s.Done {
			ended = append(ended, s.Name)
		} else {
			began = append(began, s.Name)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append([]string{Bare}, candidate.Names()...) {
		w := r.Row(name)
		switch {
		case w == nil:
			t.Fatalf("no row for %s", name)
		case w.Missing != "":
			if name == "postfix" || name == "hikyaku" {
				t.Errorf("%s: %s", name, w.Missing)
			}
			continue
		case w.Failed != "":
			t.Errorf("%s: %s", name, w.Failed)
			continue
		}
		if len(w.Runs) != 2 || w.PerSecond.N != 2 || w.PerSecond.Median <= 0 || w.OfBare.N != 2 || w.OfPostfix.N != 2 {
			t.Errorf("%s: %+v", name, w)
		}
		if name == Bare {
			continue
		}
		if w.CPU.N != 2 || w.PeakMemory == 0 || w.Version == "" || w.Durability == "" || w.Probe == nil && straceInstalled() {
			t.Errorf("%s: %+v", name, w)
		}
		if w.Probe != nil && (name == "hikyaku" || name == "postfix") && w.Probe.Synced != w.Probe.Messages {
			t.Errorf("%s: %+v, want a sync before each 250", name, *w.Probe)
		}
	}
	if len(began) != len(ended) || len(began) < 9 {
		t.Errorf("%d runs began, %d ended", len(began), len(ended))
	}
	header, rows := r.Table()
	for _, row := range rows {
		if len(row) != len(header) {
			t.Errorf("row %q has %d cells under %d headers", row, len(row), len(header))
		}
	}
	if b, err := json.Marshal(r); err != nil || !strings.Contains(string(b), `"of_bare"`) {
		t.Errorf("%s, %v", b, err)
	}
}

func straceInstalled() bool {
	_, err := candidate.Find("strace", "")
	return err == nil
}

// The independent tools and our own must agree on every message, whoever is
// combined with whom and whoever is between.
func TestToolsAgree(t *testing.T) {
	needPeers(t)
	r, err := CheckTools(t.Context(), CheckOptions{Messages: 300, Connections: 6, Rounds: 1})
	if err != nil {
		t.Fatal(err)
	}
	if want := len(Sources()) * len(Sinks()) * 2; len(r.Rows) != want {
		t.Fatalf("%d combinations, want %d", len(r.Rows), want)
	}
	for _, w := range r.Rows {
		if w.Sent != 300 || w.Received != 300 {
			t.Errorf("%s → %s → %s: sent %d, received %d", w.Source, w.Through, w.Sink, w.Sent, w.Received)
		}
		if w.PerSecond.Median <= 0 || w.OfTools.N != 1 {
			t.Errorf("%s → %s → %s: %+v", w.Source, w.Through, w.Sink, w)
		}
	}
	if header, rows := r.Table(); len(rows) != len(r.Rows) || len(rows[0]) != len(header) {
		t.Errorf("table of %d rows, %d headers", len(rows), len(header))
	}
}

// A source that is refused, and a sink that gets less than was accepted, end in
// an error and not in a figure.
func TestWhatDoesNotArriveIsNoFigure(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, errors.New("enough"))
	defer cancel()
	addr, err := candidate.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	c := &contest{o: Options{Source: OwnPlain, Sink: Own}}
	other, err := startOwnSink("127.0.0.1:0", 10)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	// Everything goes to another sink than the one that is watched.
	if r, err := c.timed(ctx, other.Addr(), addr, Work{Messages: 10, Size: 1000, Connections: 2}, nil); err == nil || !strings.Contains(err.Error(), "did not all arrive") {
		t.Errorf("%+v, %v", r, err)
	}
	// One more than was sent.
	rcv, err := startOwnSink("127.0.0.1:0", 10)
	if err != nil {
		t.Fatal(err)
	}
	defer rcv.Close()
	for range 2 {
		if err := send(t.Context(), OwnPlain, rcv.Addr(), Work{Messages: 10, Size: 1000, Connections: 2}); err != nil {
			t.Fatal(err)
		}
	}
	r := Round{Messages: 10}
	if err := exact(t.Context(), rcv, &r); err == nil || r.Received != 20 {
		t.Errorf("twenty messages where ten were sent: %v, %+v", err, r)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]Options{
		"source":      {Source: "mailx"},
		"sink":        {Sink: "null"},
		"candidate":   {Only: []string{"postfix", "qmail"}},
		"messages":    {Messages: -1},
		"size":        {Size: 1},
		"connections": {Connections: 100_000},
		"rounds":      {Rounds: -1},
		"time":        {Target: time.Millisecond},
	} {
		if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRatiosAreTakenWithinRounds(t *testing.T) {
	// A machine that becomes half as fast: the rates differ, the ratio does not.
	runs := func(rates ...float64) (rs []Round) {
		for i, r := range rates {
			rs = append(rs, Round{Round: i, PerSecond: r, CPUPerMessage: 100 * time.Microsecond, PeakMemory: int64(i) << 20})
		}
		return rs
	}
	r := &Result{Machine: measure.Machine{Cores: 2, Load: [3]float64{3, 1, 1}}, Rows: []Row{
		{Name: Bare, Runs: runs(10000, 5000, 8000)},
		{Name: "postfix", Runs: runs(500, 250, 400)},
		{Name: "hikyaku", Runs: runs(4000, 2000, 3200)},
		{Name: "exim", Missing: "exim is not installed"},
		{Name: "haraka", Failed: "died"},
	}}
	r.sumUp()
	h := r.Row("hikyaku")
	if h.OfBare != (Spread{0.4, 0.4, 0.4, 3}) || h.OfPostfix != (Spread{8, 8, 8, 3}) || h.PerSecond != (Spread{3200, 2000, 4000, 3}) {
		t.Errorf("%+v", h)
	}
	if h.PeakMemory != 2<<20 || h.CPU.Median != 100 {
		t.Errorf("memory %d, CPU %v", h.PeakMemory, h.CPU)
	}
	all := strings.Join(r.Notes, "\n")
	if !strings.Contains(all, "OTHER WORK") || !strings.Contains(all, "load average 3.00") || !strings.Contains(all, "haraka failed: died") {
		t.Errorf("notes: %s", all)
	}
	md := r.Markdown()
	for _, want := range []string{"| hikyaku | 3,200 | 2,000–4,000 | 0.40 | 8.00 | 100 |", "| exim | – |", "not installed", "| ---: |"} {
		if !strings.Contains(md, want) {
			t.Errorf("no %q in\n%s", want, md)
		}
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want Spread
	}{
		{nil, Spread{}},
		{[]float64{3}, Spread{3, 3, 3, 1}},
		{[]float64{5, 1, 3}, Spread{3, 1, 5, 3}},
		{[]float64{4, 1, 3, 2}, Spread{2.5, 1, 4, 4}},
		{[]float64{math.NaN(), 2, math.Inf(1)}, Spread{2, 2, 2, 1}},
	} {
		if got := spreadOf(c.in); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.in, got, c.want)
		}
	}
	a := Spread{2, 1, 3, 3}
	if !a.overlaps(Spread{4, 3, 5, 3}) || a.overlaps(Spread{4, 3.1, 5, 3}) || a.overlaps(Spread{}) {
		t.Error("overlap of ranges")
	}
}

func TestProcessorTimes(t *testing.T) {
	busy, all, err := parseProcessorTimes("cpu  100 20 30 800 40 5 6 7 99 0\ncpu0 1 2 3\n")
	if err != nil || busy != 168 || all != 1008 {
		t.Errorf("%d of %d, %v", busy, all, err)
	}
	for _, bad := range []string{"", "cpu 1 2", "cpu a b c d e f g h", "intr 1 2 3 4 5 6 7 8 9"} {
		if _, _, err := parseProcessorTimes(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestThousands(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567.4: "1,234,567", -1234: "-1,234", -123: "-123"} {
		if got := thousands(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}
