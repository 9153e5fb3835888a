package reputation_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"hikyaku/bench/reputation"
)

// short is the part of a day that make test compares, past midnight: as many
// messages to a source as in the whole.
func short(seed uint64, minds ...string) reputation.Options {
	return reputation.Options{Seed: seed, Messages: 150_000, Sources: 2, Begin: 14 * time.Hour, Span: 12 * time.Hour, Minds: minds}
}

func compare(t *testing.T, o reputation.Options) *reputation.Result {
	t.Helper()
	r, err := reputation.Compare(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + b.String())
	return r
}

// TestOursIsNearTheOracle holds the targets of the issue. The control reads
// replies as ours does and does not steer: it must fail, or the day would ask
// for nothing.
func TestOursIsNearTheOracle(t *testing.T) {
	var ours, control, text int64
	for _, seed := range []uint64{1, 2} {
		r := compare(t, short(seed, reputation.Ours, reputation.TextRules, reputation.Oracle, reputation.Unsteered))
		v, _ := r.Judge(reputation.Ours)
		if v.Delivered < reputation.LeastDelivered || v.Wrong != 0 {
			t.Errorf("seed %d: ours delivers %.1f %% of what the oracle does, with %d wrongly suppressed", seed, 100*v.Delivered, v.Wrong)
		}
		if c, _ := r.Judge(reputation.Unsteered); c.Delivered >= reputation.LeastDelivered || c.Wrong != 0 {
			t.Errorf("seed %d: without steering %.1f %% is delivered and %d are wrongly suppressed: steering was not put to the test", seed, 100*c.Delivered, c.Wrong)
		}
		o, rules := r.Of(reputation.Oracle).Total, r.Of(reputation.TextRules).Total
		if o.Violations != 0 || o.Blocks != 0 {
			t.Errorf("seed %d: who knows all limits has %d violations and %d blocks", seed, o.Violations, o.Blocks)
		}
		if rules.Wrong == 0 || rules.Delivered >= o.Delivered {
			t.Errorf("seed %d: text rules suppress nobody wrongly, or deliver as much as the oracle", seed)
		}
		ours, control, text = ours+r.Of(reputation.Ours).Total.Blocks, control+r.Of(reputation.Unsteered).Total.Blocks, text+rules.Blocks
		balanced(t, r)
	}
	if float64(ours) >= reputation.MostBlocks*float64(text) {
		t.Errorf("ours suffers %d blocks, text rules %d", ours, text)
	}
	if float64(control) < reputation.MostBlocks*float64(text) {
		t.Errorf("without steering there are only %d blocks, with text rules %d: steering was not put to the test", control, text)
	}
}

// balanced: every recipient ends once or is queued.
func balanced(t *testing.T, r *reputation.Result) {
	t.Helper()
	first := r.Runs[0].Total
	for _, run := range r.Runs {
		for _, a := range append(run.Carriers, run.Total) {
			if ended := a.Delivered + a.Returned + a.Refused + a.Expired + a.Withheld + a.Queued; ended != a.Accepted {
				t.Errorf("%s, %s: %d accepted, %d ended or queued", run.Mind, a.Carrier, a.Accepted, ended)
			}
		}
		if run.Total.Accepted != first.Accepted || run.Total.Deliverable != first.Deliverable {
			t.Errorf("%s met another day: %d of %d messages", run.Mind, run.Total.Accepted, first.Accepted)
		}
	}
}

// TestOneSeedIsOneDay: the same in every number, also when minds run at once.
func TestOneSeedIsOneDay(t *testing.T) {
	o := short(5, reputation.Ours, reputation.TextRules)
	o.Span, o.Messages = 3*time.Hour, 60_000
	var all [2]*reputation.Result
	for i := range all {
		o.Parallel = 1 + i
		all[i] = compare(t, o)
		for _, run := range all[i].Runs {
			run.Took = 0
		}
		all[i].Options.Parallel = 0
	}
	if !reflect.DeepEqual(all[0], all[1]) {
		t.Error("two runs of one seed differ")
	}
	o.Seed++
	if other := compare(t, o); other.Runs[0].Total.Accepted == all[0].Runs[0].Total.Accepted {
		t.Error("another seed is the same day")
	}
}

func TestUnknownMind(t *testing.T) {
	if _, err := reputation.Compare(t.Context(), short(1, "hope")); err == nil || !strings.Contains(err.Error(), "hope") {
		t.Errorf("got %v", err)
	}
}
