package controlplane

import (
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/state"
)

type budgets struct{}

func newBudgets(*office, time.Time) *budgets { return &budgets{} }

func (b *budgets) usePolicy(*policy.Set) {}
func (b *budgets) scopes() int           { return 0 }
func (b *budgets) exchange(time.Time, *keyspace.Member, *exchange.Report) ([]exchange.Grant, error) {
	return nil, nil
}
func (b *budgets) outstanding(string, time.Time) time.Duration { return 0 }

func (o *office) keptCountsLocked(string, keyspace.Member, int64) bool { return true }
func (o *office) decideDays() []write                                  { return nil }
func (o *office) grants() ([]state.Grant, error)                       { return nil, nil }
