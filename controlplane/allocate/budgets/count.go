package budgets

// Scopes is how many budgets are kept account of.
func (l *Ledger) Scopes() int { return len(l.list) }
