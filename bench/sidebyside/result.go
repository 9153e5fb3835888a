package sidebyside

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"hikyaku/bench/candidate"
	"hikyaku/bench/measure"
)

// resultSchema is the version of the JSON form.
const resultSchema = 1

// Result is a comparison.
type Result struct {
	Schema  int              `json:"schema"`
	Started time.Time        `json:"started"`
	Took    time.Duration    `json:"took_ns"`
	Source  string           `json:"source"`
	Sink    string           `json:"sink"`
	Work    Work             `json:"work"`
	RunTime time.Duration    `json:"run_time_ns"` // of each run, about, where work has no number of messages
	Rounds  int              `json:"rounds"`
	Machine measure.Machine  `json:"machine"`
	Disk    measure.DiskSync `json:"disk_sync"`
	Busy    float64          `json:"busy_before"` // share of the processors in use before the start
	Rows    []Row            `json:"rows"`
	Notes   []string         `json:"notes"`
}

// Row is one candidate.
type Row struct {
	Name      string  `json:"name"`
	Version   string  `json:"version,omitempty"`
	Missing   string  `json:"missing,omitempty"` // why it could not run
	Failed    string  `json:"failed,omitempty"`  // what went wrong
	Runs      []Round `json:"runs,omitempty"`
	PerSecond Spread  `json:"per_second,omitzero"`
	OfBare    Spread  `json:"of_bare,omitzero"`    // ratios within each round
	OfPostfix Spread  `json:"of_postfix,omitzero"` // likewise
	CPU       Spread  `json:"cpu_us_per_message,omitzero"`
	DiskBytes Spread  `json:"disk_bytes_per_byte,omitzero"`
	// MessagesPerSync is known of Hikyaku, which counts its syncs.
	MessagesPerSync Spread               `json:"messages_per_sync,omitzero"`
	PeakMemory      int64                `json:"peak_memory_bytes,omitempty"`
	Durability      string               `json:"durability,omitempty"` // as its configuration says
	Probe           *candidate.SyncProbe `json:"sync_probe,omitempty"` // as it was seen

	planned int
}

// Round is one run of one candidate.
type Round struct {
	Round             int           `json:"round"`
	Messages          int           `json:"messages"`
	Received          int           `json:"received,omitempty"` // counted beyond messages, where asked for
	Took              time.Duration `json:"took_ns"`            // to the last message at the sink
	Sent              time.Duration `json:"sent_ns"`            // to the last message accepted
	PerSecond         float64       `json:"per_second"`
	AcceptedPerSecond float64       `json:"accepted_per_second"`
	CPUPerMessage     time.Duration `json:"cpu_per_message_ns,omitempty"`
	DiskBytesPerByte  float64       `json:"disk_bytes_per_byte,omitempty"`
	PeakMemory        int64         `json:"peak_memory_bytes,omitempty"`
	MessagesPerSync   float64       `json:"messages_per_sync,omitempty"`
}

// Row finds a row by name.
func (r *Result) Row(name string) *Row {
	for i := range r.Rows {
		if r.Rows[i].Name == name {
			return &r.Rows[i]
		}
	}
	return nil
}

// busyWarning is the share of the processors from which on other work is said
// to disturb.
const busyWarning = 0.1

// sumUp fills medians and ratios from the runs.
func (r *Result) sumUp() {
	bare, postfix := r.Row(Bare), r.Row("postfix")
	for i := range r.Rows {
		w := &r.Rows[i]
		w.PerSecond = spreadOf(values(w.Runs, func(x Round) float64 { return x.PerSecond }))
		w.OfBare = ratios(w, bare)
		w.OfPostfix = ratios(w, postfix)
		if w.Name == Bare {
			continue
		}
		w.CPU = spreadOf(values(w.Runs, func(x Round) float64 { return float64(x.CPUPerMessage.Nanoseconds()) / 1000 }))
		w.DiskBytes = spreadOf(values(w.Runs, func(x Round) float64 { return x.DiskBytesPerByte }))
		if w.Name == "hikyaku" {
			w.MessagesPerSync = spreadOf(values(w.Runs, func(x Round) float64 { return x.MessagesPerSync }))
		}
		for _, x := range w.Runs {
			w.PeakMemory = max(w.PeakMemory, x.PeakMemory)
		}
	}
	if load := r.Machine.Load[0]; r.Busy >= busyWarning || load >= float64(r.Machine.Cores)/2 {
		r.Notes = append(r.Notes, fmt.Sprintf("OTHER WORK RAN ON THIS MACHINE: load average %.2f on %d processors, %.0f %% of them in use before the start. Read the ratios, not the rates.",
			load, r.Machine.Cores, r.Busy*100))
	}
	for _, w := range r.Rows {
		if w.Failed != "" {
			r.Notes = append(r.Notes, w.Name+" failed: "+w.Failed)
		}
	}
}

// ratios compares a row with another, round by round.
func ratios(w, to *Row) Spread {
	if to == nil {
		return Spread{}
	}
	base := map[int]float64{}
	for _, x := range to.Runs {
		base[x.Round] = x.PerSecond
	}
	var vs []float64
	for _, x := range w.Runs {
		if b := base[x.Round]; b > 0 {
			vs = append(vs, x.PerSecond/b)
		}
	}
	return spreadOf(vs)
}

// Headline says in a line what was compared.
func (r *Result) Headline() string {
	much := fmt.Sprintf("about %v a run", r.RunTime)
	if r.Work.Messages > 0 {
		much = thousands(float64(r.Work.Messages)) + " messages a run"
	}
	return fmt.Sprintf("%s → candidate → %s, %s bytes, %d connections, %s, %d rounds", r.Source, r.Sink, thousands(float64(r.Work.Size)), r.Work.Connections, much, r.Rounds)
}

// Table is the comparison as rows; headers that begin with ">" are numbers.
func (r *Result) Table() (header []string, rows [][]string) {
	header = []string{"candidate", ">msg/s", ">min–max", ">of bare", ">of postfix", ">CPU µs/msg", ">peak MiB", ">disk B/B", "syncs before 250", "version"}
	for _, w := range r.Rows {
		rows = append(rows, w.cells())
	}
	return header, rows
}

func (w *Row) cells() []string {
	switch {
	case w.Missing != "":
		return []string{w.Name, "–", "", "", "", "", "", "", "not installed", ""}
	case w.Failed != "":
		return []string{w.Name, "–", "", "", "", "", "", "", "failed, see below", w.Version}
	}
	name := w.Name
	if name == Bare {
		name = "bare: source → sink"
	}
	return []string{name, thousands(w.PerSecond.Median), thousands(w.PerSecond.Min) + "–" + thousands(w.PerSecond.Max),
		w.OfBare.ratio(), w.OfPostfix.ratio(), w.CPU.figure(0), mebibytes(w.PeakMemory), w.disk(), w.syncs(), w.Version}
}

// disk is empty where what the processes wrote is not known.
func (w *Row) disk() string {
	if w.DiskBytes.Max == 0 {
		return ""
	}
	return w.DiskBytes.figure(2)
}

// syncs says whether it syncs before its 250, and how that is known.
func (w *Row) syncs() string {
	switch {
	case w.Name == Bare:
		return "stores nothing"
	case w.Probe != nil:
		return w.Probe.String()
	case w.Durability != "":
		return "by its configuration: " + w.Durability
	}
	return ""
}

// Markdown is the table for a document.
func (r *Result) Markdown() string {
	header, rows := r.Table()
	var b strings.Builder
	line := func(cells []string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	rule := make([]string, len(header))
	for i, h := range header {
		text, right := strings.CutPrefix(h, ">")
		header[i], rule[i] = text, "---"
		if right {
			rule[i] = "---:"
		}
	}
	line(header)
	line(rule)
	for _, row := range rows {
		for i := range row {
			row[i] = strings.ReplaceAll(row[i], "|", `\|`)
		}
		line(row)
	}
	return b.String()
}

func (s Spread) ratio() string {
	if s.N == 0 {
		return ""
	}
	if s.Median >= 10 {
		return strconv.FormatFloat(s.Median, 'f', 1, 64)
	}
	return strconv.FormatFloat(s.Median, 'f', 2, 64)
}

func (s Spread) figure(decimals int) string {
	if s.N == 0 {
		return ""
	}
	if decimals == 0 {
		return thousands(s.Median)
	}
	return strconv.FormatFloat(s.Median, 'f', decimals, 64)
}

func mebibytes(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	return thousands(float64(bytes) / (1 << 20))
}

// thousands is a number for people: 12,345.
func thousands(v float64) string {
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
