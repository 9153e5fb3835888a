package carriers_test

import (
	"testing"
	"time"

	"hikyaku/bench/carriers"
	"hikyaku/controlplane/policy"
)

const tuned = "name: tuned\ndescription: a model for tests\nbased_on: [tests]\ndomains: [tuned.test]\nmx: [{name: mx.tuned.test}]\n" +
	"per_source: {rate: \"60/m,burst=2\", connections: 2}\n" +
	"punish: {forgive: 1m, block: {strikes: 4, for: 10m, at_most: 1h, forget: 1h, reply: \"421 no\"}}\n"

// paced sends one message each interval and counts what is refused.
func paced(c *carriers.Carrier, source string, from time.Time, every time.Duration, n int) (refused int, end time.Time) {
	s, a := c.Connect(from, source, "mx.tuned.test")
	if !a.OK() {
		return n, from
	}
	defer s.Closed(from)
	for range n {
		if a := s.Mail(from, "a@b.test"); !a.OK() {
			refused++
		}
		from = from.Add(every)
	}
	return refused, from
}

// TestRetune: a limit that changes holds from then on, for one source alone, and
// who keeps to the new one is not accused for what was before.
func TestRetune(t *testing.T) {
	c := carriers.New(custom(t, tuned)[0], carriers.Options{})
	now := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	refused, now := paced(c, "a", now, time.Second, 30)
	if refused != 0 {
		t.Fatalf("%d of 30 refused at the limit", refused)
	}
	c.Retune(now, "a", policy.Limits{Rate: &policy.Rate{N: 600, Per: time.Minute, Burst: 2}, Connections: 1})
	if refused, now = paced(c, "a", now, 100*time.Millisecond, 100); refused != 0 {
		t.Errorf("%d of 100 refused at the higher limit", refused)
	}
	if refused, _ := paced(c, "b", now, 100*time.Millisecond, 30); refused == 0 {
		t.Error("another source has the higher limit too")
	}
	c.Retune(now, "a", policy.Limits{Rate: &policy.Rate{N: 6, Per: time.Minute, Burst: 2}, Connections: 1})
	if refused, now = paced(c, "a", now.Add(10*time.Second), 10*time.Second, 12); refused != 0 {
		t.Errorf("%d of 12 refused at the lower limit", refused)
	}
	one, _ := c.Connect(now, "a", "mx.tuned.test")
	if !c.AtLimit("a") || c.AtLimit("b") {
		t.Error("the bound of connections is not the source's own")
	}
	one.Closed(now)
	if refused, _ = paced(c, "a", now, 5*time.Second, 12); refused == 0 {
		t.Error("twice the lower limit is not refused")
	}
}

// TestAllowedOverChanges: what limits would have let pass is the sum over the times
// of each, so that a limit that rises lets nothing pass in the past.
func TestAllowedOverChanges(t *testing.T) {
	c := carriers.New(custom(t, tuned)[0], carriers.Options{})
	now := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	_, now = paced(c, "a", now, time.Second, 30)
	before, _ := c.Allowed(now)
	for _, step := range []struct {
		n    int64 // a minute, from now on
		span time.Duration
		want int64 // more than before
	}{{600, 0, 0}, {600, 10 * time.Second, 100}, {6, 0, 0}, {6, time.Minute, 6}, {6000, 0, 0}} {
		c.Retune(now, "a", policy.Limits{Rate: &policy.Rate{N: step.n, Per: time.Minute, Burst: 2}})
		now = now.Add(step.span)
		after, _ := c.Allowed(now)
		if more := after - before; more < step.want-2 || more > step.want+2 { // bursts differ
			t.Errorf("%d a minute for %s let %d more pass, want %d", step.n, step.span, more, step.want)
		}
		before = after
	}
}

// TestStanding: from a clean sheet through strikes to a block, and back.
func TestStanding(t *testing.T) {
	var blocks []carriers.Blocked
	c := carriers.New(custom(t, tuned)[0], carriers.Options{OnBlock: func(b carriers.Blocked) { blocks = append(blocks, b) }})
	now := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	if s := c.Standing(now, "a"); s.Score != 100 {
		t.Errorf("a stranger stands at %+v", s)
	}
	s, _ := c.Connect(now, "a", "mx.tuned.test")
	last := 100.0
	for i := 0; len(blocks) == 0 && i < 20; i++ {
		s.Mail(now, "a@b.test")
		if got := c.Standing(now, "a").Score; got > last {
			t.Errorf("a message too many takes the score from %v to %v", last, got)
		} else {
			last = got
		}
	}
	s.Closed(now)
	if len(blocks) != 1 || blocks[0].Source != "a" || blocks[0].Carrier != "tuned" || !blocks[0].Until.Equal(now.Add(10*time.Minute)) || last != 0 {
		t.Fatalf("blocks %+v, score %v", blocks, last)
	}
	if st := c.Standing(now.Add(11*time.Minute), "a"); st.Blocks != 1 || st.Score <= 0 || st.Score >= 100 {
		t.Errorf("just after the block: %+v", st)
	}
	if st := c.Standing(now.Add(3*time.Hour), "a"); st.Blocks != 0 || st.Score != 100 {
		t.Errorf("hours after the block: %+v", st)
	}
}
