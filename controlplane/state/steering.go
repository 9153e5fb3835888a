package state

import (
	"context"
	"time"
)

// Steering is what the control plane has decided about sources and tenants, by
// itself or as it was told, and why. Safe for concurrent use; each control plane
// process answers.
type Steering interface {
	// Decisions lists them, newest first. It needs no leader.
	Decisions(ctx context.Context, f DecisionFilter) (*DecisionPage, error)
	Decision(ctx context.Context, id string) (*Decision, error)
	// Undo takes a decision back that is still in force; ErrRefused says that it is
	// not. The answer is the decision, as one that was taken back.
	Undo(ctx context.Context, u Undo) (*Decision, error)
	// SetLane puts a source at a carrier into a state by hand. The answer is how it
	// stands then.
	SetLane(ctx context.Context, s SetLane) (*Lane, error)
	// Lanes are the courses in force, and Holds what is held of tenants' mail.
	Lanes(ctx context.Context, f LaneFilter) ([]Lane, error)
	Holds(ctx context.Context) ([]Hold, error)
	// Scores says how well sources and tenants are liked, the worst first.
	Scores(ctx context.Context, f ScoreFilter) ([]Score, error)
	WarmUps(ctx context.Context) ([]WarmUp, error)
}

// Decision is one thing that was decided: what, why, by which rule, until when.
type Decision struct {
	ID       string    `json:"id" doc:"Rises with time."`
	At       time.Time `json:"at"`
	Carrier  string    `json:"carrier,omitempty"`
	Site     string    `json:"site,omitempty" doc:"At the default carrier, which is not one provider."`
	Source   string    `json:"source,omitempty"`
	Tenant   string    `json:"tenant,omitempty"`
	Stream   string    `json:"stream,omitempty"`
	Job      string    `json:"job,omitempty"`
	Action   string    `json:"action" doc:"slow, raise, rest, block, probation, recover, retire, warm-up-day, warm-up-hold, warm-up-back, warm-up-done, hold, release, warn or undo."`
	From     string    `json:"from,omitempty" doc:"The state, or rate, before."`
	To       string    `json:"to,omitempty" doc:"The state, or rate, after."`
	Rule     string    `json:"rule" doc:"By which it was decided."`
	Why      string    `json:"why" doc:"What was seen: counts, thresholds."`
	Replies  []string  `json:"replies,omitempty" doc:"Some that were seen."`
	Until    time.Time `json:"until,omitzero"`
	DryRun   bool      `json:"dry_run,omitempty" doc:"Nothing followed."`
	UndoneBy string    `json:"undone_by,omitempty"`
	UndoneAt time.Time `json:"undone_at,omitzero"`
	Term     int64     `json:"term,omitempty" doc:"Of the leader that decided."`
}

// DecisionFilter picks decisions; empty fields pick all.
type DecisionFilter struct {
	Carrier, Source, Tenant, Action string
	Since                           time.Time
	Limit                           int
	Page                            string // Next of the page before
}

// DecisionPage is one page of them.
type DecisionPage struct {
	Decisions []Decision
	Next      string // "" when there is no more
	// Unreadable records are left out.
	Unreadable int
}

// Undo is an order to take a decision back.
type Undo struct {
	ID     string `json:"id"`
	Author string `json:"author"`
	Reason string `json:"reason,omitempty"`
}

// SetLane is an order about a source at a carrier.
type SetLane struct {
	Carrier string    `json:"carrier"`
	Site    string    `json:"site,omitempty"`
	Source  string    `json:"source"`
	State   string    `json:"state"` // retired, resting or healthy
	Until   time.Time `json:"until,omitzero"`
	Author  string    `json:"author"`
	Reason  string    `json:"reason,omitempty"`
}

// LaneFilter picks lanes; empty fields pick all.
type LaneFilter struct {
	Carrier string `json:"carrier,omitempty"`
	Source  string `json:"source,omitempty"`
	State   string `json:"state,omitempty"`
}

// Lane is a source at a carrier with what was decided about it.
type Lane struct {
	Carrier     string    `json:"carrier"`
	Site        string    `json:"site,omitempty" doc:"At the default carrier, which is not one provider; absent: all its sites."`
	Source      string    `json:"source"`
	State       string    `json:"state" enum:"healthy,warming,slowed,resting,blocked,probation,retired"`
	Rate        string    `json:"rate,omitempty" doc:"At most, as policy writes it."`
	Connections int       `json:"connections,omitempty" doc:"At most."`
	PerDay      int64     `json:"per_day,omitempty" doc:"Messages in 24 hours, at most."`
	Rests       time.Time `json:"rests,omitzero" doc:"No connection and no mail before."`
	Decision    string    `json:"decision,omitempty" doc:"Its id."`
	Reason      string    `json:"reason,omitempty"`
}

// Hold is mail of a tenant that waits since that was decided.
type Hold struct {
	Tenant   string    `json:"tenant"`
	Carrier  string    `json:"carrier,omitempty"`
	Stream   string    `json:"stream,omitempty"`
	Job      string    `json:"job,omitempty"`
	Until    time.Time `json:"until"`
	Decision string    `json:"decision,omitempty"`
	Reason   string    `json:"reason,omitempty"`
}

// ScoreFilter picks scores; empty fields pick all.
type ScoreFilter struct {
	Carrier string `json:"carrier,omitempty"`
	Source  string `json:"source,omitempty"`
	Tenant  string `json:"tenant,omitempty"`
	Domain  string `json:"domain,omitempty"`
	Of      string `json:"of,omitempty"` // sources, tenants, domains; "" is all
	Limit   int    `json:"limit,omitempty"`
}

// Values of ScoreFilter.Of.
const (
	OfSources = "sources"
	OfTenants = "tenants"
	OfDomains = "domains"
)

// Score is how well a source is liked at a carrier, or a tenant's, job's or sender
// domain's mail, with the reasons.
type Score struct {
	Carrier     string        `json:"carrier,omitempty"`
	Site        string        `json:"site,omitempty"`
	Source      string        `json:"source,omitempty"`
	Tenant      string        `json:"tenant,omitempty"`
	Job         string        `json:"job,omitempty"`
	Domain      string        `json:"domain,omitempty" doc:"Of the From header."`
	Score       int           `json:"score" doc:"100 for nothing wrong, 0 for the worst."`
	State       string        `json:"state,omitempty" doc:"Of a source at a carrier; held for a tenant whose mail waits."`
	Rate        string        `json:"rate,omitempty" doc:"At most, if steering bounds it."`
	LastGood    string        `json:"last_good,omitempty" doc:"The rate at which the carrier last throttled."`
	Connections int           `json:"connections,omitempty"`
	PerDay      int64         `json:"per_day,omitempty"`
	Until       time.Time     `json:"until,omitzero"`
	Decision    string        `json:"decision,omitempty"`
	Windows     []WindowCount `json:"windows"`
	Reasons     []string      `json:"reasons,omitempty" doc:"What lowers the score, and by how much."`
	Replies     []string      `json:"replies,omitempty" doc:"The last that spoke against it."`
}

// WindowCount is what was counted in one span, by category of reply.
type WindowCount struct {
	Span   string            `json:"span"`
	Counts map[string]uint32 `json:"counts"`
}

// WarmUp is where a warm-up is.
type WarmUp struct {
	WarmUp  string    `json:"warm_up" doc:"The resource."`
	Carrier string    `json:"carrier"`
	Source  string    `json:"source"`
	Day     int       `json:"day" doc:"From 1."`
	Days    int       `json:"days" doc:"In all."`
	PerDay  int64     `json:"per_day" doc:"Messages that the day allows."`
	Sent    int64     `json:"sent" doc:"Delivered today; at the default carrier at the busiest site."`
	Ends    time.Time `json:"ends" doc:"When the day ends."`
	Held    string    `json:"held,omitempty" doc:"Why the day will not count."`
	Paused  bool      `json:"paused,omitempty"`
	Done    bool      `json:"done,omitempty"`
}
