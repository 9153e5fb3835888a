package replies_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/node/replies"
	"hikyaku/reputation"
	"hikyaku/spool/message"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestOurOwnWordsAreNoCarriers(t *testing.T) {
	b := replies.New(reputation.Shipped())
	for name, tt := range map[string]struct {
		reply message.Reply
		want  reputation.Category
		final bool
	}{
		"expired":          {message.Fail(550, message.Enhanced{Class: 5, Subject: 4, Detail: 7}, message.PhasePolicy, message.FaultLocal, "delivery time expired"), reputation.Local, true},
		"no usable source": {message.Fail(451, message.Enhanced{Class: 4, Subject: 3, Detail: 5}, message.PhaseConnect, message.FaultLocal, "source x is not usable"), reputation.Local, false},
		"the carrier's":    {message.Reply{Code: 550, Enhanced: message.Enhanced{Class: 5, Subject: 1, Detail: 1}, Text: "No such user", Phase: message.PhaseRcpt}, reputation.UnknownUser, true},
		"success":          {message.Reply{Code: 250, Text: "ok", Phase: message.PhaseDot}, reputation.Delivered, true},
	} {
		if v := b.Judge("gmail", &tt.reply); v.Category != tt.want || v.Final != tt.final {
			t.Errorf("%s: %+v, want %s, final %v", name, v, tt.want, tt.final)
		}
	}
}

func sums(ts []exchange.Tally) map[[2]string]uint64 {
	m := map[[2]string]uint64{}
	for _, x := range ts {
		m[[2]string{x.Source, x.Category}] += uint64(x.N)
	}
	return m
}

// TestCountsAreTrueBeyondTheBounds: with far more jobs and domains than there is
// room for, a report keeps to its bound and the sums over a source stay true.
func TestCountsAreTrueBeyondTheBounds(t *testing.T) {
	b := replies.New(reputation.Shipped())
	r := rand.New(rand.NewPCG(1, 2))
	want := map[[2]string]uint64{}
	for i := range 200_000 {
		x := exchange.Tally{Carrier: "c", Source: fmt.Sprint("s", i%20), Tenant: fmt.Sprint("t", r.IntN(50)), Job: fmt.Sprint("j", i), Domain: fmt.Sprint("d", r.IntN(100_000)), Category: []string{"delivered", "rate", "unknown-user"}[r.IntN(3)], N: 1 + uint32(r.IntN(3))}
		want[[2]string{x.Source, x.Category}] += uint64(x.N)
		b.Count(x)
	}
	ts, _ := b.Take()
	if len(ts) > exchange.MaxTallies {
		t.Fatalf("%d tallies, a report takes %d", len(ts), exchange.MaxTallies)
	}
	got := sums(ts)
	for k, n := range want {
		if got[k] != n {
			t.Errorf("%v: %d, want %d", k, got[k], n)
		}
	}
	if again, _ := b.Take(); len(again) != 0 {
		t.Errorf("%d tallies are still there", len(again))
	}
}

// TestEndlessNames: whatever comes in, memory is bounded.
func TestEndlessNames(t *testing.T) {
	b := replies.New(reputation.Shipped())
	for i := range 300_000 {
		b.Count(exchange.Tally{Carrier: fmt.Sprint("c", i), Site: fmt.Sprint("x", i), Source: fmt.Sprint("s", i), Tenant: fmt.Sprint("t", i), Category: "rate", N: 1})
	}
	ts, _ := b.Take()
	var n uint64
	for _, x := range ts {
		n += uint64(x.N)
	}
	if len(ts) > exchange.MaxTallies || n != 300_000 {
		t.Errorf("%d tallies of %d replies", len(ts), n)
	}
}

func TestCountsOfManyAtOnce(t *testing.T) {
	b := replies.New(reputation.Shipped())
	var wg sync.WaitGroup
	var mu sync.Mutex
	var taken uint64
	take := func() {
		ts, _ := b.Take()
		mu.Lock()
		defer mu.Unlock()
		for _, x := range ts {
			taken += uint64(x.N)
		}
	}
	for g := range 8 {
		wg.Go(func() {
			for i := range 5000 {
				b.Count(exchange.Tally{Carrier: "c", Source: "s", Tenant: fmt.Sprint(i % 7), Category: "delivered", N: 1})
				if g == 0 && i%100 == 0 {
					take()
				}
			}
		})
	}
	wg.Wait()
	take()
	if taken != 8*5000 {
		t.Errorf("%d taken of %d", taken, 8*5000)
	}
}

func TestSamplesAreGrouped(t *testing.T) {
	b := replies.New(reputation.Shipped())
	lane := replies.Lane{Carrier: "c", Source: "s"}
	strange := reputation.Verdict{Category: reputation.Unknown}
	rate := reputation.Verdict{Category: reputation.Rate}
	for i := range 50 {
		b.Sample(noon, lane, "", &message.Reply{Code: 451, Text: fmt.Sprintf("go away user%d@example.com, ticket %d", i, 7_000_000+i), Phase: message.PhaseRcpt}, &strange)
	}
	b.Sample(noon.Add(time.Minute), lane, "", &message.Reply{Code: 451, Text: "too fast", Phase: message.PhaseMail}, &rate)
	b.Sample(noon, lane, "", &message.Reply{Code: 250, Phase: message.PhaseDot}, &reputation.Verdict{Category: reputation.Delivered})
	_, samples := b.Take()
	if len(samples) != 2 {
		t.Fatalf("%d groups: %+v", len(samples), samples)
	}
	i := slices.IndexFunc(samples, func(s exchange.Sample) bool { return s.Category == string(reputation.Unknown) })
	if i < 0 || samples[i].N != 50 || samples[i].Code != 451 || samples[i].Phase != "rcpt" {
		t.Errorf("%+v", samples)
	}
	groups, lost := b.Unclassified()
	if len(groups) != 1 || groups[0].N != 50 || lost != 0 || !groups[0].First.Equal(noon) {
		t.Errorf("%+v, %d lost", groups, lost)
	}
	for i := range 10_000 { // what differs in words is a group of its own, up to a bound
		b.Sample(noon, replies.Lane{Carrier: fmt.Sprint("c", i), Source: "s"}, "", &message.Reply{Code: 451, Text: "what", Phase: message.PhaseRcpt}, &strange)
	}
	if groups, lost := b.Unclassified(); len(groups)+int(lost) != 10_001 || len(groups) > 2000 {
		t.Errorf("%d groups, %d lost", len(groups), lost)
	}
	if _, samples := b.Take(); len(samples) > exchange.MaxSamples {
		t.Errorf("%d samples in a report", len(samples))
	}
}

// TestTooFastInARow: what is only too fast stops for seconds, never for a minute;
// a refusal for good among those stops for longer.
func TestTooFastInARow(t *testing.T) {
	b := replies.New(reputation.Shipped())
	now := noon
	lane := replies.Lane{Carrier: "c", Source: "s"}
	const s = time.Second
	for i, step := range []struct {
		after    time.Duration
		forSpeed bool
		want     time.Duration
	}{
		{0, true, 0}, {1, true, 0}, {1, true, 2 * s}, {3 * s, true, 4 * s}, {5 * s, true, 8 * s}, {9 * s, true, 10 * s}, {11 * s, true, 10 * s},
		{11 * s, false, 20 * s},
	} {
		now = now.Add(step.after)
		got := time.Duration(0)
		if until := b.Refused(now, lane, step.forSpeed); !until.IsZero() {
			got = until.Sub(now)
		}
		if got != step.want {
			t.Errorf("step %d: stopped for %s, want %s", i, got, step.want)
		}
	}
}

// TestRefusedInARow: three refusals with nothing taken in between are more than
// bad luck; old ones and those of other lanes do not count.
func TestRefusedInARow(t *testing.T) {
	b := replies.New(reputation.Shipped())
	now := noon
	lane, other := replies.Lane{Carrier: "c", Source: "s"}, replies.Lane{Carrier: "c", Source: "o"}
	const s = time.Second
	for i, step := range []struct {
		after time.Duration
		lane  replies.Lane
		taken bool
		want  time.Duration // of the stop, from then on
	}{
		{0, lane, false, 0}, {1, lane, false, 0}, {1, other, false, 0}, {1, lane, false, 5 * s},
		{s, lane, false, 4 * s}, {s, lane, false, 3 * s}, // they were under way
		{1, lane, true, 0}, {1, lane, false, 0}, {1, lane, false, 0},
		{2 * time.Minute, lane, false, 0}, {1, lane, false, 0}, {1, lane, false, 5 * s},
		// Nobody decides, and each time that it is used again it is refused again.
		{5 * s, lane, false, 10 * s}, {11 * s, lane, false, 20 * s}, {20 * s, lane, false, 40 * s}, {40 * s, lane, false, 60 * s},
		{100 * s, lane, false, 60 * s}, {60 * s, lane, false, 60 * s},
		{121 * s, lane, false, 0},
	} {
		now = now.Add(step.after)
		if step.taken {
			b.Taken(step.lane)
			continue
		}
		got := time.Duration(0)
		if until := b.Refused(now, step.lane, false); !until.IsZero() {
			got = until.Sub(now)
		}
		if got != step.want {
			t.Errorf("step %d: stopped for %s, want %s", i, got, step.want)
		}
	}
}

// BenchmarkDelivered is what a delivery costs on the way out: the verdict and
// the count.
func BenchmarkDelivered(b *testing.B) {
	book := replies.New(reputation.Shipped())
	ok := message.Reply{Code: 250, Enhanced: message.Enhanced{Class: 2}, Text: "queued as 4B1F2C0001", Phase: message.PhaseDot}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		i := 0
		for p.Next() {
			v := book.Judge("gmail", &ok)
			book.Taken(replies.Lane{Carrier: "gmail", Source: "s1"})
			book.Count(exchange.Tally{Carrier: "gmail", Source: "s1", Tenant: "acme", Stream: "bulk", Job: "j-1", Domain: "acme.example", Category: string(v.Category), N: 1})
			i++
		}
	})
}

// BenchmarkDeferred is the same for a reply that is a sign of throttling.
func BenchmarkDeferred(b *testing.B) {
	book := replies.New(reputation.Shipped())
	slow := message.Reply{Code: 421, Enhanced: message.Enhanced{Class: 4, Subject: 7, Detail: 28}, Text: "Our system has detected an unusual rate of unsolicited mail originating from your IP address. 1-2021.5 - gsmtp", Phase: message.PhaseDot}
	b.ReportAllocs()
	for b.Loop() {
		v := book.Judge("gmail", &slow)
		book.Sample(noon, replies.Lane{Carrier: "gmail", Source: "s1"}, "", &slow, &v)
		book.Count(exchange.Tally{Carrier: "gmail", Source: "s1", Tenant: "acme", Stream: "bulk", Job: "j-1", Domain: "acme.example", Category: string(v.Category), N: 1})
	}
}

// TestOldRefusalsMakeRoom: lanes that were refused once and then left alone must
// not take the room of those that are refused now.
func TestOldRefusalsMakeRoom(t *testing.T) {
	b := replies.New(reputation.Shipped())
	for i := range 30_000 {
		b.Refused(noon, replies.Lane{Carrier: fmt.Sprint("c", i), Source: "s"}, false)
	}
	fresh := replies.Lane{Carrier: "new", Source: "s"}
	refuse := func(now time.Time) (stopped bool) {
		for range 3 {
			stopped = !b.Refused(now, fresh, false).IsZero()
		}
		return stopped
	}
	if refuse(noon) {
		t.Error("the control: there is room beyond the bound")
	}
	if !refuse(noon.Add(5 * time.Minute)) {
		t.Error("a lane is not stopped for old refusals of others")
	}
}

// TestWhatIsFrequentIsShown: texts that are said once each do not keep away one
// that is said often.
func TestWhatIsFrequentIsShown(t *testing.T) {
	b := replies.New(reputation.Shipped())
	strange := reputation.Verdict{Category: reputation.Unknown}
	say := func(carrier string) {
		b.Sample(noon, replies.Lane{Carrier: carrier, Source: "s"}, "", &message.Reply{Code: 451, Text: "what", Phase: message.PhaseRcpt}, &strange)
	}
	for i := range 5000 {
		say(fmt.Sprint("once", i))
	}
	for i := range 1000 {
		say("often")
		say(fmt.Sprint("again", i))
	}
	groups, lost := b.Unclassified()
	if groups[0].Carrier != "often" || groups[0].N < 900 {
		t.Errorf("the first group is %+v", groups[0])
	}
	sum := lost
	for _, g := range groups {
		sum += g.N
	}
	if sum != 7000 || len(groups) > 2000 {
		t.Errorf("%d replies in %d groups", sum, len(groups))
	}
}

// TestCarriersThatChangeTheirWords: a carrier whose replies no rule knows is named
// within the hour, and no longer when the hour is over or a rule has been written.
func TestCarriersThatChangeTheirWords(t *testing.T) {
	b := replies.New(reputation.Shipped())
	say := func(at time.Time, carrier string, category reputation.Category, n int) {
		for range n {
			b.Sample(at, replies.Lane{Carrier: carrier, Source: "s"}, "", &message.Reply{Code: 451, Text: "hm", Phase: message.PhaseRcpt}, &reputation.Verdict{Category: category})
		}
	}
	names := func(at time.Time) (out []string) {
		for _, s := range b.Strangers(at) {
			out = append(out, fmt.Sprintf("%s %d/%d", s.Carrier, s.Unclassified, s.Bad))
		}
		return out
	}
	say(noon, "few", reputation.Unknown, 19)
	say(noon, "rare", reputation.Unknown, 30)
	say(noon, "rare", reputation.UnknownUser, 271)
	say(noon, "changed", reputation.Unknown, 20)
	say(noon, "changed", reputation.UnknownUser, 180)
	say(noon, "changed", reputation.Delivered, 5000)
	say(noon, "changed", reputation.Local, 500)
	say(noon, policy.DefaultName, reputation.Unknown, 1000)
	if got := names(noon); !slices.Equal(got, []string{"changed 20/200"}) {
		t.Errorf("%q", got)
	}
	say(noon.Add(30*time.Minute), "few", reputation.Unknown, 30)
	say(noon.Add(-time.Hour), "changed", reputation.Unknown, 1) // the clock was set back
	if got := names(noon.Add(50 * time.Minute)); !slices.Equal(got, []string{"few 49/49", "changed 21/201"}) {
		t.Errorf("%q", got)
	}
	if got := names(noon.Add(65 * time.Minute)); !slices.Equal(got, []string{"few 30/30"}) {
		t.Errorf("after an hour %q", got)
	}
	say(noon.Add(70*time.Minute), "few", reputation.Rate, 300) // a rule has been written
	if got := names(noon.Add(70 * time.Minute)); len(got) != 0 {
		t.Errorf("with the rule %q", got)
	}
	if got := names(noon.Add(100 * 24 * time.Hour)); len(got) != 0 {
		t.Errorf("at last %q", got)
	}
}
