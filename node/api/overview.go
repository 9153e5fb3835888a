package api

import "time"

// Overview is one look at the node: what "hikyaku top" shows.
type Overview struct {
	Node     string    `json:"node"`
	Version  string    `json:"version"`
	Time     time.Time `json:"time"`
	Started  time.Time `json:"started"`
	NotReady []string  `json:"not_ready,omitempty"`
	Alarms   []string  `json:"alarms,omitempty" doc:"what a person should look at; the node takes mail all the same"`

	Rates       Rates        `json:"rates"`
	Queue       QueueTotals  `json:"queue"`
	Connections Connections  `json:"connections"`
	Latency     []Latency    `json:"latency"`
	Top         []Queue      `json:"top" doc:"the twenty largest destinations"`
	Lanes       []Lane       `json:"lanes" doc:"the twenty busiest"`
	Gates       []Gate       `json:"gates"`
	Errors      []ErrorCount `json:"errors" doc:"the twenty most frequent replies of the last minutes that were no success"`
	Memory      MemoryUse    `json:"memory"`
	EventsBack  uint64       `json:"events_behind" doc:"transitions not yet in the event log"`
}

// Rates are per second, over the last ten seconds. All count recipients but
// Attempts, which counts transactions.
type Rates struct {
	Accepted  float64 `json:"accepted"`
	Delivered float64 `json:"delivered"`
	Deferred  float64 `json:"deferred"`
	Bounced   float64 `json:"bounced"`
	Attempts  float64 `json:"attempts"`
}

// QueueTotals count deliveries.
type QueueTotals struct {
	Queued       int64         `json:"queued"`
	Ready        int64         `json:"ready" doc:"due now"`
	InFlight     int64         `json:"in_flight"`
	Held         int64         `json:"held"`
	Destinations int64         `json:"destinations"`
	Counted      bool          `json:"counted"`
	Silent       time.Duration `json:"silent_ns" doc:"longest time that a due delivery had no event"`
}

// Connections count open connections.
type Connections struct {
	In      int64 `json:"in"`
	Out     int64 `json:"out"`
	OutIdle int64 `json:"out_idle"`
}

// Latency is one measured step. Durations are nanoseconds.
type Latency struct {
	Name string        `json:"name" doc:"accept, first_attempt, attempt, sync …"`
	P50  time.Duration `json:"p50_ns"`
	P90  time.Duration `json:"p90_ns"`
	P99  time.Duration `json:"p99_ns"`
	Max  time.Duration `json:"max_ns"`
}

// Gate is something that stops new mail when it closes.
type Gate struct {
	Name   string     `json:"name" doc:"space, spool, drain …"`
	Closed bool       `json:"closed"`
	Reason string     `json:"reason,omitempty"`
	Since  *time.Time `json:"since,omitempty"`
}

// ErrorCount is one kind of bad reply.
type ErrorCount struct {
	Carrier string `json:"carrier,omitempty"`
	Phase   string `json:"phase,omitempty"`
	Reply   string `json:"reply"`
	Count   int64  `json:"count"`
}

// MemoryUse is in bytes.
type MemoryUse struct {
	Heap       uint64 `json:"heap"`
	Resident   uint64 `json:"resident"`
	Goroutines int    `json:"goroutines"`
}
