package report

import (
	"fmt"
	"math"
	"time"

	"hikyaku/bench/ledger"
	"hikyaku/bench/measure"
)

// Schema is the number of the JSON form that this program writes. It grows when
// a field changes its meaning or goes away, and when one is added.
const Schema = 2

// Forms of a scenario.
const (
	Short = "short" // under a minute
	Long  = "long"
)

// Report is one run of a scenario.
type Report struct {
	Schema   int           `json:"schema"`
	Scenario string        `json:"scenario"`
	Form     string        `json:"form"` // "short" or "long"
	Started  time.Time     `json:"started"`
	Took     time.Duration `json:"took_ns"`
	Seed     uint64        `json:"seed"`
	// Flags are the settings of the scenario that change what is measured.
	Flags map[string]string `json:"flags"`
	// Mode is how the servers ran: "fsync", "tls", "dkim", "durable", …
	Mode    map[string]string `json:"mode"`
	Machine measure.Machine   `json:"machine"`
	Disk    measure.DiskSync  `json:"disk_sync"`
	// Versions of hikyaku (its commit), Go, Postfix and whatever took part.
	Versions  map[string]string `json:"versions"`
	Figures   []Figure          `json:"figures"`
	Ledger    *Ledger           `json:"ledger,omitempty"` // none where nothing was sent (plan)
	Processes []Process         `json:"processes"`
	Latencies []Latency         `json:"latencies"`
	Series    []measure.Series  `json:"series"`
	Trends    []measure.Trend   `json:"trends,omitempty"`
	Marks     []Mark            `json:"marks,omitempty"` // what happened when
	Carriers  []Carrier         `json:"carriers,omitempty"`
	// Treated are carriers that were treated in several ways (schema 2).
	Treated []Treated `json:"treated,omitempty"`
	// Violations are the first MaxViolations; ViolationCount is all.
	Violations     []Violation `json:"violations,omitempty"`
	ViolationCount int         `json:"violation_count"`
	// Notes say what the figures do not.
	Notes []string `json:"notes"`
}

// MaxViolations is how many violations are listed one by one.
const MaxViolations = 1000

// What is better of a figure.
const (
	Higher = "higher"
	Lower  = "lower"
)

// Status of a figure against its target.
const (
	Met           = "met"
	Missed        = "missed"
	NotApplicable = "not applicable"
)

// Figure is one result of the run.
type Figure struct {
	Name   string   `json:"name"`
	Value  float64  `json:"value"`
	Unit   string   `json:"unit"`             // "msg/s", "s", "bytes", "×", "%", …
	Better string   `json:"better,omitempty"` // "higher", "lower"; empty: neither
	Target *float64 `json:"target,omitempty"` // at least, or at most where lower is better
	// Runs are the values of each round where Value is their median.
	Runs []float64 `json:"runs,omitempty"`
	// Without says why there is no value or no verdict: "Postfix is not installed".
	Without string `json:"without,omitempty"`
	// Status is filled in by Write: Met, Missed, NotApplicable, or empty without
	// a target.
	Status string `json:"status,omitempty"`
}

// Judge compares the value with the target.
func (f Figure) Judge() string {
	switch {
	case f.Without != "":
		return NotApplicable
	case f.Target == nil:
		return ""
	case f.Better == Lower && f.Value <= *f.Target, f.Better != Lower && f.Value >= *f.Target:
		return Met
	}
	return Missed
}

// Ledger says whether every message is accounted for.
type Ledger struct {
	Balanced bool         `json:"balanced"`
	Reasons  []string     `json:"reasons,omitempty"` // why it is not
	Rows     []ledger.Row `json:"rows"`
}

// Process is what a process used for the work.
type Process struct {
	Name     string        `json:"name"`
	User     time.Duration `json:"cpu_user_ns"`
	System   time.Duration `json:"cpu_system_ns"`
	Messages int           `json:"messages"` // the work, by which the rest is divided; 0: not divided
	// Of each message; 0 where Messages is.
	UserEach   time.Duration `json:"cpu_user_per_message_ns"`
	SystemEach time.Duration `json:"cpu_system_per_message_ns"`
	PeakRSS    uint64        `json:"peak_rss_bytes"`
	Files      int           `json:"files"` // open descriptors at the end
	Threads    int           `json:"threads"`
	// IOKnown is false where the system does not tell what a process wrote.
	IOKnown      bool    `json:"io_known"`
	Wrote        uint64  `json:"write_bytes"`
	WrotePerByte float64 `json:"write_bytes_per_message_byte"`
	Calls        uint64  `json:"io_calls"` // read- and write-like system calls
	CallsEach    float64 `json:"io_calls_per_message"`
}

// NewProcess divides what a process used by the work: a number of messages with
// so many bytes of content in all. 0 leaves the quotient out.
func NewProcess(p measure.Process, messages int, contentBytes uint64) Process {
	out := Process{
		Name: p.Name, User: p.User, System: p.System, Messages: max(messages, 0), PeakRSS: p.PeakRSS,
		Files: p.Files, Threads: p.Threads, IOKnown: p.IOKnown, Wrote: p.Wrote, Calls: p.Calls,
	}
	if messages > 0 {
		out.UserEach, out.SystemEach = p.User/time.Duration(messages), p.System/time.Duration(messages)
		out.CallsEach = float64(p.Calls) / float64(messages)
	}
	if contentBytes > 0 && p.IOKnown {
		out.WrotePerByte = float64(p.Wrote) / float64(contentBytes)
	}
	return out
}

// Each is the CPU time of each message.
func (p Process) Each() time.Duration { return p.UserEach + p.SystemEach }

// Latency is how long something took, each time.
type Latency struct {
	Name string `json:"name"` // "accept, from intended time"
	measure.Summary
	HDR string `json:"hdr"` // HdrHistogram V2, compressed, base64; in µs
}

// NewLatency reads a histogram.
func NewLatency(name string, h *measure.Histogram) Latency {
	return Latency{Name: name, Summary: h.Summary(), HDR: h.Encode()}
}

// Mark is something that happened during the run: a restart, a fault.
type Mark struct {
	At   float64 `json:"at"` // seconds since the start
	Text string  `json:"text"`
}

// Carrier is what a simulated carrier saw.
type Carrier struct {
	Name      string `json:"name"`
	Model     string `json:"model"`   // in words: what it is shaped after
	Offered   int64  `json:"offered"` // messages
	Allowed   int64  `json:"allowed"` // by its limits over the run
	Unlimited bool   `json:"unlimited"`
	Delivered int64  `json:"delivered"`
	Deferred  int64  `json:"deferred"`
	Refused   int64  `json:"refused"`
	Broken    int64  `json:"violations"`
	// Series of the names SeriesOffered and so on, in messages a second.
	Series []measure.Series `json:"series,omitempty"`
}

// Names of a carrier's series.
const (
	SeriesOffered   = "offered"
	SeriesAllowed   = "allowed"
	SeriesDelivered = "delivered"
)

// Violation is a limit that a source did not keep to.
type Violation struct {
	At      float64       `json:"at"` // seconds since the start
	Carrier string        `json:"carrier"`
	Source  string        `json:"source"`
	Limit   string        `json:"limit"`
	Window  time.Duration `json:"window_ns"` // of a rate; 0 for a count
	Allowed int64         `json:"allowed"`
	Seen    int64         `json:"seen"`
}

// AddViolation lists v, or only counts it when the list is full.
func (r *Report) AddViolation(v Violation) {
	if r.ViolationCount++; len(r.Violations) < MaxViolations {
		r.Violations = append(r.Violations, v)
	}
}

// Targets counts the figures that have a target by their status.
func (r *Report) Targets() (met, missed, notApplicable int) {
	for _, f := range r.Figures {
		switch f.Judge() {
		case Met:
			met++
		case Missed:
			missed++
		case NotApplicable:
			notApplicable++
		}
	}
	return met, missed, notApplicable
}

// validate holds what Write promises and Read relies on.
func (r *Report) validate() error {
	if r.Scenario == "" || r.Form != Short && r.Form != Long {
		return fmt.Errorf("scenario %q, form %q: a report has a name and is short or long", r.Scenario, r.Form)
	}
	seen := map[string]bool{}
	for _, f := range r.Figures {
		if f.Name == "" || seen[f.Name] {
			return fmt.Errorf("figure %q: a name is there once", f.Name)
		}
		seen[f.Name] = true
		if f.Better != "" && f.Better != Higher && f.Better != Lower {
			return fmt.Errorf("figure %q: better is %q", f.Name, f.Better)
		}
		if !finite(f.Runs...) || !finite(f.Value) || f.Target != nil && !finite(*f.Target) {
			return fmt.Errorf("figure %q is not a number", f.Name)
		}
	}
	if len(r.Violations) > MaxViolations || r.ViolationCount < len(r.Violations) {
		return fmt.Errorf("%d violations listed of %d, at most %d", len(r.Violations), r.ViolationCount, MaxViolations)
	}
	series := r.Series
	for _, c := range r.Carriers {
		series = append(series[:len(series):len(series)], c.Series...)
	}
	for _, c := range r.Treated {
		series = append(series[:len(series):len(series)], c.Series...)
	}
	for _, s := range series {
		if len(s.At) != len(s.Value) {
			return fmt.Errorf("series %q has %d times and %d values", s.Name, len(s.At), len(s.Value))
		}
		if !sensible(s) {
			return fmt.Errorf("series %q holds what is not a number, or not in the order of time", s.Name)
		}
	}
	for _, l := range r.Latencies {
		h, err := measure.DecodeHistogram(l.HDR)
		if err != nil {
			return fmt.Errorf("latency %q: %w", l.Name, err)
		}
		if h.Count() != l.Count {
			return fmt.Errorf("latency %q counts %d, its histogram %d", l.Name, l.Count, h.Count())
		}
	}
	return nil
}

// Bounds of a series: what is beyond is a mistake, and cannot be drawn.
const (
	maxSeconds = 1e9
	maxValue   = 1e18
)

func sensible(s measure.Series) bool {
	before := 0.0
	for i, at := range s.At {
		if !(at >= before && at <= maxSeconds && math.Abs(s.Value[i]) <= maxValue) {
			return false
		}
		before = at
	}
	return true
}

func finite(vs ...float64) bool {
	for _, v := range vs {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}
