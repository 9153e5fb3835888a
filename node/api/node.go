package api

import (
	"context"
	"errors"
)

// Node is what the API asks. Errors that wrap one of the Err values become the
// matching HTTP status with their text; any other is logged and answered with a
// plain 500. Methods are called by many goroutines at once.
type Node interface {
	// NotReady lists the reasons why the node does not serve yet, or any more.
	// Empty is ready.
	NotReady() []string
	Metrics() *Metrics
	Overview(context.Context) (*Overview, error)

	Queues(context.Context, QueueFilter) (*QueueList, error)
	Why(context.Context, Scope) (*WhyAnswer, error)
	Deliveries(context.Context, DeliveryFilter) (*DeliveryList, error)
	Message(ctx context.Context, id string, o MessageOptions) (*Message, error)

	Act(ctx context.Context, r *ActionRequest) (*ActionResult, error)
	Actions(context.Context) ([]Action, error)
	DeleteAction(ctx context.Context, id string) (*ActionResult, error)

	Jobs(context.Context, JobFilter) (*JobList, error)
	Job(ctx context.Context, tenant, id string) (*Job, error)
	ChangeJob(ctx context.Context, tenant, id string, c JobChange) (*Job, error)

	Lanes(context.Context, ListFilter) ([]Lane, error)
	Sites(context.Context, ListFilter) ([]Site, error)
	Budgets(context.Context, ListFilter) ([]Budget, error)

	OpenTransfers(context.Context) ([]Transfer, error)
	// Reclaim is for a transfer whose receiver is gone for good; ErrConflict is
	// that another spool was named, or that the answer is still awaited.
	Reclaim(ctx context.Context, number uint64, r *ReclaimRequest) (*Reclaimed, error)

	// Trace, SearchEvents and TailEvents call fn until ctx ends, fn returns an
	// error, or there is no more. A line is one JSON object, with or without
	// its line end, valid until fn returns.
	Trace(ctx context.Context, f TraceFilter, fn func(*TraceLine) error) error
	SearchEvents(ctx context.Context, q EventQuery, fn func(line []byte) error) (EventsFound, error)
	TailEvents(ctx context.Context, q EventQuery, fn func(line []byte) error) error
}

// The errors a Node tells apart; wrap them with what was asked.
var (
	ErrNotFound    = errors.New("not found")       // 404
	ErrInvalid     = errors.New("invalid request") // 422
	ErrConflict    = errors.New("conflict")        // 409
	ErrUnavailable = errors.New("not available")   // 503
)
