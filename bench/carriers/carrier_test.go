package carriers

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// world drives one carrier in virtual time.
type world struct {
	t     *testing.T
	c     *Carrier
	now   time.Time
	found []Violation
}

// newWorld makes a carrier of a profile's lines; name, description and the
// like are added.
func newWorld(t *testing.T, rules string) *world {
	t.Helper()
	w := &world{t: t, now: dayOne.Add(20 * time.Minute)}
	w.c = New(profile(t, rules), Options{Seed: 7, Tolerance: -1, OnViolation: func(v Violation) { w.found = append(w.found, v) }})
	return w
}

const head = `name: try
description: a model for tests
based_on: [tests]
domains: [try.test]
mx: [{name: mx.try.test}]
`

func profile(t *testing.T, rules string) *Profile {
	t.Helper()
	ps, err := Parse("try.yaml", []byte(head+rules))
	if err != nil {
		t.Fatal(err)
	}
	return ps[0]
}

func (w *world) pass(d time.Duration) { w.now = w.now.Add(d) }

func (w *world) connect(source string) (*Session, Answer) {
	return w.c.Connect(w.now, source, "mx.try.test")
}

// open connects and says hello; it must be welcome.
func (w *world) open(source string) *Session {
	w.t.Helper()
	s, a := w.connect(source)
	if !a.OK() {
		w.t.Fatalf("%s is turned away: %+v", source, a)
	}
	if a := s.Hello(w.now, false); !a.OK() {
		w.t.Fatalf("hello: %+v", a)
	}
	return s
}

// send carries one message as far as it gets, and says what ended it.
func (w *world) send(s *Session, to ...string) Outcome {
	if a := s.Mail(w.now, "news@shop.test"); !a.OK() {
		return Outcome{Answer: a}
	}
	taken := false
	var last Answer
	for _, r := range to {
		a := s.Rcpt(w.now, r)
		taken = taken || a.OK()
		if !a.OK() {
			last = a
		}
		if a.Close || a.Reset || a.Drop {
			return Outcome{Answer: a}
		}
	}
	if !taken {
		return Outcome{Answer: last}
	}
	if a := s.Data(w.now); !a.OK() {
		return Outcome{Answer: a}
	}
	return s.Content(w.now)
}

func (w *world) violations() string {
	var lines []string
	for _, v := range w.found {
		lines = append(lines, fmt.Sprintf("%s %s %d/%d", v.Source, v.Limit, v.Seen, v.Allowed))
	}
	return strings.Join(lines, "; ")
}

func (w *world) want(what, got, want string) {
	w.t.Helper()
	if got != want {
		w.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestConnectionsAreCounted(t *testing.T) {
	w := newWorld(t, "per_source: {connections: 2}\nlimits: {connections: 3}\nover: {connections: {reply: \"421 too many from {source}\"}}")
	a1, a2 := w.open("a"), w.open("a")
	third, a := w.connect("a")
	w.want("third", a.Reply, "421 too many from a")
	if !a.Close {
		t.Error("a refused connection stays open")
	}
	third.Closed(w.now)
	if w.c.Counters().Connections != 2 {
		t.Error("a refused connection counts as open, or its end as one of the others'")
	}
	w.open("b")
	if _, a := w.connect("b"); a.OK() {
		t.Error("a fourth connection over all was taken")
	}
	w.want("violations", w.violations(), "a per_source.connections 3/2; b limits.connections 4/3")
	a1.Gone() // its FIN is here
	a1.Closed(w.now)
	if w.c.AtLimit("c") {
		t.Error("one is gone, but the carrier is full")
	}
	w.open("c")
	a2.Closed(w.now)
	a2.Closed(w.now)
	if n := w.c.Counters().Connections; n != 2 {
		t.Errorf("%d connections are open, want 2", n)
	}
}

func TestMessagesOnAConnection(t *testing.T) {
	w := newWorld(t, "messages_per_connection: 2\nover: {messages_per_connection: {reply: \"421 Max message per connection reached\"}}")
	s := w.open("a")
	for range 2 {
		if o := w.send(s, "x@try.test"); !o.OK() {
			t.Fatalf("refused: %+v", o)
		}
	}
	o := w.send(s, "x@try.test")
	w.want("third", o.Reply, "421 Max message per connection reached")
	if !o.Close {
		t.Error("421 does not close")
	}
	w.want("violations", w.violations(), "a messages_per_connection 3/2")
}

// TestDocomoLosesTheWholeSession: the 101st recipient is refused, the session
// ends, and what it had delivered is lost although it was answered with 250.
func TestDocomoLosesTheWholeSession(t *testing.T) {
	ps, err := Named("docomo")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, now: dayOne.Add(20 * time.Minute)}
	p := *ps[0]
	p.PerSource.Rate, p.Punish, p.Recipients, p.TopOfHour = nil, nil, nil, nil
	w.c = New(&p, Options{OnViolation: func(v Violation) { w.found = append(w.found, v) }})
	s := w.open("a")
	for i := range 100 {
		if o := w.send(s, fmt.Sprintf("r%d@docomo.test", i)); !o.OK() {
			t.Fatalf("recipient %d: %+v", i, o)
		}
	}
	o := w.send(s, "r100@docomo.test")
	w.want("the 101st", o.Reply, "554 Transaction failed")
	if c := w.c.Counters(); !o.Close || c.Voided != 100 || c.Delivered != 100 {
		t.Errorf("close %v, voided %d of %d delivered", o.Close, c.Voided, c.Delivered)
	}
	w.want("violations", w.violations(), "a recipients_per_connection 101/100")
	// 100 in one session, of which some are named in one message, are fine.
	s = w.open("a")
	to := make([]string, 100)
	for i := range to {
		to[i] = fmt.Sprintf("r%d@docomo.test", i)
	}
	if o := w.send(s, to...); !o.OK() || len(w.found) != 1 {
		t.Errorf("100 recipients in a session: %+v, violations %s", o, w.violations())
	}
}

func TestRecipientsOfATransaction(t *testing.T) {
	w := newWorld(t, "recipients_per_transaction: 2")
	s := w.open("a")
	w.send(s, "a@try.test", "b@try.test")
	w.send(s, "a@try.test", "b@try.test", "c@try.test")
	w.want("violations", w.violations(), "a recipients_per_transaction 3/2")
	if c := w.c.Counters(); c.Delivered != 4 || c.Messages != 2 {
		t.Errorf("delivered %d recipients of %d messages, want 4 of 2", c.Delivered, c.Messages)
	}
}

// TestAPusherIsAccusedOfWhatItPushed: twice the rate for ten seconds is half
// too much, less the burst.
func TestAPusherIsAccusedOfWhatItPushed(t *testing.T) {
	w := newWorld(t, "per_source: {rate: \"100/s,burst=10\"}\nover: {rate: {reply: \"451 slow down\"}}")
	s := w.open("a")
	refused := 0
	for range 2000 {
		if o := w.send(s, "x@try.test"); !o.OK() {
			refused++
		}
		w.pass(5 * time.Millisecond)
	}
	if refused < 985 || refused > 991 || refused != len(w.found) {
		t.Errorf("%d refused and %d violations of 2000, want about 990", refused, len(w.found))
	}
	last := w.found[len(w.found)-1]
	if last.Limit != "per_source.rate" || last.By() < 985 || last.By() > 995 {
		t.Errorf("at the end the excess is %d (%+v), want about 990", last.By(), last)
	}
	allowed, unlimited := w.c.Allowed(w.now)
	if unlimited || allowed != 1010 {
		t.Errorf("allowed %d, unlimited %v; want 10 s at 100/s and the burst", allowed, unlimited)
	}
	// What was refused is not held against it: at the limit, all is well.
	w.found = nil
	for range 500 {
		w.pass(10 * time.Millisecond)
		w.send(s, "x@try.test")
	}
	if len(w.found) > 0 {
		t.Errorf("still accused after slowing down: %d", len(w.found))
	}
}

func TestTheRateOverAllSources(t *testing.T) {
	w := newWorld(t, "limits: {rate: \"10/s,burst=4\"}")
	for i := range 6 {
		w.send(w.open(fmt.Sprintf("s%d", i)), "x@try.test")
	}
	w.want("violations", w.violations(), "s4 limits.rate 5/4; s5 limits.rate 6/4")
}

func TestConnectionRate(t *testing.T) {
	w := newWorld(t, "per_source: {connection_rate: \"60/m,burst=2\"}")
	for range 4 {
		s, _ := w.connect("a")
		s.Closed(w.now)
	}
	w.want("violations", w.violations(), "a per_source.connection_rate 3/2; a per_source.connection_rate 4/2")
	w.pass(time.Second)
	if _, a := w.connect("a"); !a.OK() {
		t.Errorf("a second later: %+v", a)
	}
}

func TestDailyCap(t *testing.T) {
	w := newWorld(t, "per_source: {per_day: 3}\nover: {per_day: {reply: \"452 tomorrow\"}}")
	s := w.open("a")
	for range 3 {
		w.send(s, "x@try.test")
		w.pass(time.Hour)
	}
	o := w.send(s, "x@try.test")
	w.want("fourth", o.Reply, "452 tomorrow")
	w.want("violations", w.violations(), "a per_source.per_day 4/3")
	w.pass(21 * time.Hour)
	if o := w.send(s, "x@try.test"); !o.OK() {
		t.Errorf("a day after the first: %+v", o)
	}
}

// TestAHeldReplyAccusesNobody: ten messages that were sent at the rate and
// come up together, because the carrier was slow, are no violation.
func TestAHeldReplyAccusesNobody(t *testing.T) {
	w := newWorld(t, "per_source: {rate: \"10/s,burst=1\"}")
	s := w.open("a")
	begin := w.now
	w.pass(5 * time.Second)
	for i := range 10 {
		s.Heard(begin.Add(time.Duration(i)*100*time.Millisecond), begin.Add(time.Duration(i)*100*time.Millisecond+time.Millisecond))
		w.send(s, "x@try.test")
	}
	w.want("violations", w.violations(), "")
	s.Heard(begin.Add(900*time.Millisecond), begin.Add(901*time.Millisecond))
	w.send(s, "x@try.test")
	if len(w.found) != 1 {
		t.Errorf("two at once on a burst of one: %d violations", len(w.found))
	}
}

func TestFatesByAddress(t *testing.T) {
	w := newWorld(t, `recipients:
  - {kind: unknown, share: 0.1, reply: "550 Unknown user {rcpt}"}
  - {kind: filtered, share: 0.1, phase: dot, reply: "550 Unknown user {rcpt}"}
  - {kind: full, share: 0.1, reply: "452 4.2.2 full"}
  - {kind: dropped, share: 0.1}
  - {kind: bounce, share: 0.1, after: {median: 10s}, status: 5.2.2}
  - {kind: complaint, share: 0.1, after: {quantiles: [1m, 2m]}}
`)
	const n = 4000
	got := map[string]int{}
	s := w.open("a")
	for i := range n {
		to := fmt.Sprintf("r%d@try.test", i)
		o := w.send(s, to)
		f, ok := w.c.FateOf(strings.ToUpper(to))
		kind := "arrives"
		if ok {
			kind = f.Kind
		}
		got[kind]++
		want := map[string]string{"unknown": "550 Unknown user " + to, "filtered": "550 Unknown user " + to, "full": "452 4.2.2 full"}[kind]
		if o.Reply != want || (kind == "dropped") != (len(o.Dropped) == 1) || (kind == "bounce" || kind == "complaint") != (len(o.Notices) == 1) {
			t.Fatalf("%s is %s: %+v", to, kind, o)
		}
		if len(o.Notices) == 1 && (o.Notices[0].To != to || o.Notices[0].From != "news@shop.test") {
			t.Fatalf("notice of another: %+v", o.Notices[0])
		}
	}
	for _, k := range []string{"unknown", "filtered", "full", "dropped", "bounce", "complaint"} {
		if got[k] < n/10*8/10 || got[k] > n/10*12/10 {
			t.Errorf("%d of %d are %s, want about a tenth", got[k], n, k)
		}
	}
	c := w.c.Counters()
	if c.Delivered != int64(n-got["unknown"]-got["filtered"]-got["full"]) || c.Dropped != int64(got["dropped"]) || c.Refused != int64(got["unknown"]+got["filtered"]) {
		t.Errorf("counters %+v do not match the fates %v", c, got)
	}
	// Another seed, other fates; the same seed, the same.
	same, other := 0, 0
	for i := range n {
		to := fmt.Sprintf("r%d@try.test", i)
		a, _ := w.c.FateOf(to)
		b, _ := New(w.c.profile, Options{Seed: 7}).FateOf(to)
		d, _ := New(w.c.profile, Options{Seed: 8}).FateOf(to)
		if a.Kind == b.Kind {
			same++
		}
		if a.Kind == d.Kind {
			other++
		}
		if i == 100 {
			break
		}
	}
	if same != 101 || other == 101 {
		t.Errorf("the same seed agrees on %d of 101, another on %d", same, other)
	}
}

func TestGreylist(t *testing.T) {
	w := newWorld(t, "greylist: {share: 1, wait: 30s, keep: 1h}")
	s := w.open("a")
	try := func() string { return w.send(s, "x@try.test").Reply }
	const no = "450 4.2.0 <x@try.test>: Recipient address rejected: Greylisted"
	w.want("first", try(), no)
	w.pass(10 * time.Second)
	w.want("too early", try(), no)
	w.pass(20 * time.Second)
	w.want("in time", try(), "")
	w.want("from elsewhere", w.send(w.open("b"), "x@try.test").Reply, no)
	w.pass(2 * time.Hour)
	w.want("forgotten", try(), no)
	if len(w.found) > 0 {
		t.Errorf("greylisting is no violation: %s", w.violations())
	}
}

func TestTheTopOfTheHour(t *testing.T) {
	w := newWorld(t, "top_of_hour: {for: 3m, rate: \"1/s,burst=2\", reply: \"451 not now\"}")
	w.now = time.Date(2026, 11, 22, 10, 0, 1, 0, time.UTC)
	s := w.open("a")
	var replies []string
	for range 4 {
		replies = append(replies, w.send(s, "x@try.test").Reply)
	}
	if diff := cmp.Diff([]string{"", "", "451 not now", "451 not now"}, replies); diff != "" {
		t.Error(diff)
	}
	w.pass(3 * time.Minute)
	for range 50 {
		if o := w.send(s, "x@try.test"); !o.OK() {
			t.Fatalf("at three past: %+v", o)
		}
	}
	if len(w.found) > 0 {
		t.Errorf("the top of the hour is no violation: %s", w.violations())
	}
}

func TestChanceIsOrdinary(t *testing.T) {
	w := newWorld(t, `chance:
  - {phase: connect, share: 0.1, reset: true}
  - {phase: mail, share: 0.1, reply: "451 later"}
  - {phase: data, share: 0.1, reply: "451 later"}
  - {phase: dot, share: 0.1, drop: true}
`)
	reset, later, dropped := 0, 0, 0
	for range 1000 {
		s, a := w.connect("a")
		if a.Reset {
			reset++
			s.Closed(w.now)
			continue
		}
		switch o := w.send(s, "x@try.test"); {
		case o.Drop:
			dropped++
		case o.Reply == "451 later":
			later++
		}
		s.Closed(w.now)
	}
	if reset < 70 || reset > 130 || later < 130 || later > 210 || dropped < 50 || dropped > 100 {
		t.Errorf("of 1000: %d reset, %d put off, %d dropped", reset, later, dropped)
	}
	if len(w.found) > 0 || w.c.Counters().Resets != int64(reset+dropped) {
		t.Errorf("violations %q, counters %+v", w.violations(), w.c.Counters())
	}
}

func TestTLSRequired(t *testing.T) {
	w := newWorld(t, "starttls: required\nover: {tls: {reply: \"421 4.7.0 TLS required\"}}")
	s := w.open("a")
	w.want("in plain", w.send(s, "x@try.test").Reply, "421 4.7.0 TLS required")
	s.Hello(w.now, true)
	w.want("with TLS", w.send(s, "x@try.test").Reply, "")
}

func TestALongSessionIsCut(t *testing.T) {
	w := newWorld(t, "session_time: 1m\nover: {session_time: {reset: true}}")
	s := w.open("a")
	w.want("at once", w.send(s, "x@try.test").Reply, "")
	w.pass(61 * time.Second)
	if o := w.send(s, "x@try.test"); !o.Reset {
		t.Errorf("after a minute: %+v", o)
	}
	w.want("violations", w.violations(), "")
}

const punishing = `per_source: {rate: "10/s,burst=5"}
over: {rate: {reply: "421 4.7.28 too fast"}}
punish:
  forgive: 1s
  slow: {strikes: 10, delay: 500ms}
  defer: {strikes: 20, reply: "421 4.7.0 reputation"}
  block: {strikes: 40, for: 1m, at_most: 4m, forget: 20m, reply: "554 5.7.1 blocked {source}"}
`

// TestPunishment: slow, then 421, then a block, and again for twice as long;
// another source is not touched.
func TestPunishment(t *testing.T) {
	w := newWorld(t, punishing)
	s := w.open("bad")
	good := w.open("good")
	var steps []string
	note := func(step string) {
		if len(steps) == 0 || steps[len(steps)-1] != step {
			steps = append(steps, step)
		}
	}
	for range 60 {
		o := w.send(s, "x@try.test")
		switch {
		case o.OK() && o.Delay == 0:
			note("taken")
		case strings.HasPrefix(o.Reply, "421 4.7.28") && o.Delay == 0:
			note("refused")
		case strings.HasPrefix(o.Reply, "421 4.7.28"):
			note("refused slowly")
		case o.Reply == "421 4.7.0 reputation":
			note("put off")
		case o.Reply == "554 5.7.1 blocked bad":
			note("blocked")
		default:
			t.Fatalf("unexpected %+v", o)
		}
	}
	if diff := cmp.Diff([]string{"taken", "refused", "refused slowly", "put off", "blocked"}, steps); diff != "" {
		t.Error(diff)
	}
	_, a := w.connect("bad")
	w.want("blocked", a.Reply, "554 5.7.1 blocked bad")
	if !a.Close || w.c.Counters().Blocked != 1 || len(w.c.Blocked(w.now)) != 1 {
		t.Errorf("blocked: %+v, %+v", a, w.c.Counters())
	}
	w.want("the other", w.send(good, "x@try.test").Reply, "")
	w.pass(61 * time.Second)
	if _, a := w.connect("bad"); !a.OK() {
		t.Errorf("after the block: %+v", a)
	}
}

func TestPuttingOffAndEscalation(t *testing.T) {
	w := newWorld(t, punishing)
	src := w.c.sourceOf(w.now, "bad")
	w.c.strike(w.now, src, 30)
	s := w.open("bad")
	w.want("with 30 strikes", w.send(s, "x@try.test").Reply, "421 4.7.0 reputation")
	w.pass(5 * time.Second)
	w.want("five forgiven", w.send(s, "x@try.test").Reply, "421 4.7.0 reputation")
	w.pass(15 * time.Second)
	w.want("twenty forgiven", w.send(s, "x@try.test").Reply, "")
	for i, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 4 * time.Minute} {
		w.c.strike(w.now, src, 40)
		if got := src.record.until.Sub(w.now); got != want {
			t.Errorf("block %d lasts %s, want %s", i+1, got, want)
		}
		w.now = src.record.until
	}
	w.pass(20 * time.Minute)
	w.c.strike(w.now, src, 40)
	if got := src.record.until.Sub(w.now); got != time.Minute {
		t.Errorf("after twenty good minutes the block lasts %s, want 1m", got)
	}
}

func TestManyUnknownRecipientsStrike(t *testing.T) {
	w := newWorld(t, `recipients: [{kind: unknown, share: 0.5, reply: "550 Unknown user"}]
punish: {forgive: 1m, block: {strikes: 10, for: 1m, at_most: 1m, forget: 1m, reset: true}, unknown: {share: 0.2, of: 50}}
`)
	s := w.open("a")
	n := 0
	for ; len(w.c.Blocked(w.now)) == 0 && n < 1000; n++ {
		w.send(s, fmt.Sprintf("r%d@try.test", n))
	}
	if n < 50 || n > 120 {
		t.Errorf("blocked after %d recipients of which half are unknown", n)
	}
	if len(w.found) > 0 {
		t.Errorf("unknown recipients are no violation: %s", w.violations())
	}
}

// TestSourcesAreBounded: a thousand strangers cost a thousand records.
func TestSourcesAreBounded(t *testing.T) {
	w := newWorld(t, "")
	for i := range 3 * maxSources {
		w.pass(time.Second)
		w.open(fmt.Sprint(i)).Closed(w.now)
	}
	if n := len(w.c.sources); n > maxSources {
		t.Errorf("%d sources are remembered", n)
	}
	if w.c.sources[fmt.Sprint(3*maxSources-1)] == nil || w.c.sources["0"] != nil {
		t.Error("it is not the oldest that is forgotten")
	}
	w = newWorld(t, "greylist: {share: 1, wait: 1s}")
	s := w.open("a")
	for i := range 2 * maxGrey {
		w.send(s, fmt.Sprintf("r%d@try.test", i))
	}
	if len(w.c.grey.first) != maxGrey {
		t.Errorf("%d pairs are remembered", len(w.c.grey.first))
	}
}

// TestTheSameSeedGivesTheSameDay: everything by chance comes from the seed.
func TestTheSameSeedGivesTheSameDay(t *testing.T) {
	day := func(seed uint64) string {
		ps, err := Named("yahoo")
		if err != nil {
			t.Fatal(err)
		}
		c := New(ps[0], Options{Seed: seed})
		var b strings.Builder
		now := dayOne
		for i := range 300 {
			now = now.Add(time.Second)
			s, a := c.Connect(now, fmt.Sprintf("s%d", i%3), "mx.test")
			fmt.Fprint(&b, a)
			if a.OK() {
				fmt.Fprint(&b, s.Mail(now, "a@b.test"), s.Rcpt(now, fmt.Sprintf("r%d@yahoo.test", i)), s.Data(now), s.Content(now))
			}
			s.Closed(now)
		}
		return b.String()
	}
	first, again := day(1), day(1)
	if first != again {
		t.Error("two days of one seed differ")
	}
	if first == day(2) {
		t.Error("two seeds give the same day")
	}
}

func TestLatencies(t *testing.T) {
	d := &dice{state: 3}
	draw := func(l Latency) (min, median, p99, max time.Duration) {
		q := l.table()
		var all []time.Duration
		for range 20_000 {
			all = append(all, q.draw(d))
		}
		sortDurations(all)
		return all[0], all[len(all)/2], all[len(all)*99/100], all[len(all)-1]
	}
	_, median, p99, most := draw(Latency{Median: span("10ms"), P99: span("100ms")})
	if median < 9*time.Millisecond || median > 11*time.Millisecond || p99 < 80*time.Millisecond || p99 > 120*time.Millisecond || most > 300*time.Millisecond {
		t.Errorf("lognormal: median %s, p99 %s, most %s", median, p99, most)
	}
	least, median, _, most := draw(Latency{Quantiles: spans("10ms", "20ms", "100ms")})
	if least != 10*time.Millisecond || median < 19*time.Millisecond || median > 22*time.Millisecond || most != 100*time.Millisecond {
		t.Errorf("quantiles: %s, %s, %s", least, median, most)
	}
	if least, _, _, most := draw(Latency{Median: span("5ms")}); least != most || least != 5*time.Millisecond {
		t.Errorf("constant: %s to %s", least, most)
	}
	if _, _, _, most := draw(Latency{}); most != 0 {
		t.Errorf("nothing takes %s", most)
	}
}
