package reputation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"hikyaku/spool/message"
)

// suppressing are the categories that may suppress: those that say that an
// address is dead. Nothing that is about the source, the carrier, the message,
// the sender, policy or ourselves is among them.
var suppressing = []Category{UnknownUser, Inactive, NoMail}

// promise says which promise a verdict breaks, "" when none.
func promise(r *message.Reply, v Verdict) string {
	m, _ := meaningOf(v.Category)
	switch {
	case v.Suppresses() && !slices.Contains(suppressing, v.Category):
		return "a category that says nothing of the address suppresses it"
	case v.Suppresses() && (v.About != AboutRecipient || m.About != AboutRecipient):
		return "what is not about the recipient suppresses it"
	case v.Suppresses() && r.Class() != message.Permanent:
		return "a 4xx reply suppresses"
	case v.Final && r.Class() != message.Permanent:
		return "a 4xx reply ends the recipient"
	case v.Guessed() && v.Action == ActSuppress:
		return "an unknown text suppresses at first sight"
	case v.Guessed() && v.Suppresses() && r.Enhanced == (message.Enhanced{}) && r.Code != 521 && r.Code != 556 && r.Fault == message.FaultNone:
		return "an unknown text with nothing but a 5xx suppresses, though on another day"
	case v.Final && v.About == AboutSource:
		return "a recipient ends for the source's sake"
	}
	return ""
}

// TestA4xxEndsOnlyWhereItIsMeant: a rule of no codes, or of both kinds, ends no
// recipient with a 4xx; one that asks for 4xx alone may, and suppresses not even so.
func TestA4xxEndsOnlyWhereItIsMeant(t *testing.T) {
	for _, tt := range []struct {
		codes  []string
		action Action
		final  bool
		want   Action
	}{
		{nil, ActFail, false, ActRetry},
		{[]string{"4xx", "5xx"}, ActFail, false, ActRetry},
		{[]string{"4xx"}, ActFail, true, ActFail},
		{[]string{"4xx"}, ActSecond, false, ActRetry},
		{[]string{"4xx"}, ActSuppress, false, ActRetry},
		{nil, ActSuppress, false, ActRetry},
	} {
		x, flaws := Rule{Name: "t/t", Codes: tt.codes, Text: "gone", Category: UnknownUser, Action: tt.action}.ready()
		if len(flaws) > 0 {
			t.Fatal(flaws)
		}
		v := newRules([]*rule{x}).Classify("", &message.Reply{Code: 450, Text: "gone", Phase: message.PhaseRcpt})
		if v.Final != tt.final || v.Action != tt.want {
			t.Errorf("codes %v, %s: %+v, want %s final %v", tt.codes, tt.action, v, tt.want, tt.final)
		}
	}
}

// phrases are what rules look for, and what they do not know: pieces of which
// replies nobody has seen are made.
func phrases(rs *Rules) []string {
	list := []string{"Zirkumflex", "the quick brown fox", "<ann@example.com>:", "[192.0.2.7]", "5.1.1", "(#5.1.1)", "Recipient address rejected:", "not", "temporarily", "Sender", "your IP", ""}
	for _, x := range rs.rules {
		if x.text == nil {
			continue
		}
		for _, a := range x.text.alts {
			list = append(list, strings.Join(a.parts, " "))
		}
	}
	return list
}

// broken makes replies of pieces, in all steps and with all codes, and returns
// the first that breaks a promise.
func broken(rs *Rules, n int, seed uint64) string {
	rnd := rand.New(rand.NewPCG(seed, 1))
	pieces := phrases(rs)
	carriers := append(rs.Carriers(), "", "", "")
	codes := []uint16{421, 450, 451, 452, 454, 500, 501, 503, 504, 521, 530, 550, 550, 550, 551, 552, 553, 554, 554, 556, 571, 599}
	for range n {
		words := make([]string, 1+rnd.IntN(4))
		for i := range words {
			words[i] = pieces[rnd.IntN(len(pieces))]
		}
		r := &message.Reply{Code: codes[rnd.IntN(len(codes))], Text: strings.Join(words, " "), Phase: message.Phase(rnd.IntN(int(message.PhaseQuit) + 1))}
		if rnd.IntN(2) == 0 {
			r.Enhanced = message.Enhanced{Class: uint8(4 + rnd.IntN(2)), Subject: uint16(rnd.IntN(8)), Detail: uint16(rnd.IntN(30))}
		}
		if rnd.IntN(20) == 0 {
			r.Fault = message.Fault(rnd.IntN(int(message.FaultLocal)))
		}
		carrier := carriers[rnd.IntN(len(carriers))]
		v := rs.Classify(carrier, r)
		if p := promise(r, v); p != "" {
			return fmt.Sprintf("%s: %q at %q of %q: %+v", p, r.String(), r.Phase, carrier, v)
		}
	}
	return ""
}

// TestPromises: whatever rules are made to say together, nothing but a word about
// the address itself suppresses it, and never a 4xx.
func TestPromises(t *testing.T) {
	if b := broken(Shipped(), 150_000, 7); b != "" {
		t.Error(b)
	}
}

// TestPromisesAreChecked is the control: rules that Load refuses are found.
func TestPromisesAreChecked(t *testing.T) {
	for _, tt := range []struct {
		category Category
		action   Action
		class    int // of the verdict: 0 is for 4xx
		want     string
	}{
		{Content, ActSuppress, 1, "says nothing of the address"},
		{Blocked, ActSecond, 1, "says nothing of the address"},
		{PolicyRule, ActSecond, 1, "says nothing of the address"},
		{UnknownUser, ActSecond, 0, "4xx reply suppresses"},
		{Rate, ActFail, 1, "for the source's sake"},
	} {
		x, _ := Rule{Name: "t/t", Text: "quick brown fox", Category: tt.category}.ready()
		x.verdict[tt.class].Action, x.verdict[tt.class].Final = tt.action, true
		if b := broken(newRules([]*rule{x}), 20_000, 7); !strings.Contains(b, tt.want) {
			t.Errorf("%s %s: found %q, want %q", tt.category, tt.action, b, tt.want)
		}
	}
}
