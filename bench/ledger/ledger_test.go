package ledger

import "testing"

func TestBalanceFindsEachFault(t *testing.T) {
	for name, c := range map[string]struct {
		do  func(*Ledger)
		err bool
	}{
		"delivered":  {func(l *Ledger) { l.Offered(1); l.Accepted(1); l.Received(1) }, false},
		"bounced":    {func(l *Ledger) { l.Offered(1); l.Accepted(1); l.Bounced(1) }, false},
		"refused":    {func(l *Ledger) { l.Offered(1) }, false},
		"unanswered": {func(l *Ledger) { l.Offered(1); l.Received(1) }, false},
		"lost":       {func(l *Ledger) { l.Offered(1); l.Accepted(1) }, true},
		"doubled":    {func(l *Ledger) { l.Offered(1); l.Accepted(1); l.Received(1); l.Received(1) }, true},
		"phantom":    {func(l *Ledger) { l.Received(1) }, true},
		"both":       {func(l *Ledger) { l.Offered(1); l.Accepted(1); l.Received(1); l.Bounced(1) }, true},
	} {
		l := New(3)
		c.do(l)
		if err := l.Balance().Err(0); (err != nil) != c.err {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNumber(t *testing.T) {
	if n, ok := Number(Address("bounce-", 42, "x.test")); !ok || n != 42 {
		t.Errorf("got %d, %v", n, ok)
	}
	if _, ok := Number("nobody@x.test"); ok {
		t.Error("an address without a number gave one")
	}
}
