package reputation

import (
	"slices"
	"time"
)

// Account is what became of the mail for one carrier, and of the sender's name
// there.
type Account struct {
	Carrier string
	// Recipients, each of one message.
	Accepted    int64
	Deliverable int64 // of them: who exists and takes mail, so that somebody could deliver it
	Delivered   int64 // of those
	Returned    int64 // taken by the carrier for who does not exist: it comes back
	Refused     int64 // ended by a reply that was read as final
	Expired     int64
	Withheld    int64 // not sent since the recipient was suppressed
	Queued      int64 // at the end of the day
	// What the carrier saw.
	Attempts   int64 // MAIL commands
	Violations int64
	Blocks     int64
	BlockedFor time.Duration // summed over sources, within the day
	Reputation float64       // 0 to 100, the mean of the sources' standing at the end
	// Addresses that were suppressed, and those of them that exist and have not
	// complained.
	Suppressed, Wrong int64
	// Within is the time from acceptance in which 95 % of what was deliverable
	// had been delivered; zero if that much never was.
	Within time.Duration
	// Rates over the day.
	Series Series

	delays []uint32 // of what was delivered, in tenths of a second
}

// Share is the part of what was deliverable that was delivered.
func (a *Account) Share() float64 {
	if a.Deliverable == 0 {
		return 1
	}
	return float64(a.Delivered) / float64(a.Deliverable)
}

// Step is the distance of the points of Series.
const Step = 10 * time.Minute

// Series count messages in each Step of the day.
type Series struct {
	Offered   []float64 // handed in
	Sent      []float64 // MAIL commands
	Delivered []float64
	Allowed   []float64 // that the hidden rates would have let pass
}

func newSeries(span time.Duration) Series {
	n := int((span + Step - 1) / Step)
	return Series{make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)}
}

// near is the part of what is deliverable whose time is Within.
const near = 0.95

// close reckons what can only be reckoned at the end.
func (a *Account) close() {
	slices.Sort(a.delays)
	need := int(near*float64(a.Deliverable) + 0.999999)
	if need > 0 && need <= len(a.delays) {
		a.Within = time.Duration(a.delays[need-1]) * time.Second / 10
	}
}

// sum adds up the accounts of all carriers.
func sum(all []*Account, span time.Duration) *Account {
	t := &Account{Carrier: "all", Series: newSeries(span)}
	for _, a := range all {
		t.Accepted += a.Accepted
		t.Deliverable += a.Deliverable
		t.Delivered += a.Delivered
		t.Returned += a.Returned
		t.Refused += a.Refused
		t.Expired += a.Expired
		t.Withheld += a.Withheld
		t.Queued += a.Queued
		t.Attempts += a.Attempts
		t.Violations += a.Violations
		t.Blocks += a.Blocks
		t.BlockedFor += a.BlockedFor
		t.Suppressed += a.Suppressed
		t.Wrong += a.Wrong
		t.Reputation += a.Reputation / float64(len(all))
		t.delays = append(t.delays, a.delays...)
		for i := range t.Series.Offered {
			t.Series.Offered[i] += a.Series.Offered[i]
			t.Series.Sent[i] += a.Series.Sent[i]
			t.Series.Delivered[i] += a.Series.Delivered[i]
			t.Series.Allowed[i] += a.Series.Allowed[i]
		}
	}
	t.close()
	return t
}
