package reputation_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"hikyaku/bench/reputation"
)

// TestWeather: days that are harder than any draw of moods, against the same
// bounds. Nobody is blocked also where all limits halve within one second, and
// where a carrier shuts for an hour.
func TestWeather(t *testing.T) {
	for _, weather := range []string{reputation.Halving, reputation.Shrinking, reputation.Shut} {
		o := short(2, reputation.Ours, reputation.Oracle)
		o.Weather = weather
		r := compare(t, o)
		a, best := r.Of(reputation.Ours).Total, r.Of(reputation.Oracle).Total
		part := float64(a.Delivered) / float64(best.Delivered)
		t.Logf("%s: %.1f %%", weather, 100*part)
		if part < reputation.LeastDelivered || a.Wrong > 0 || a.Blocks > 0 {
			t.Errorf("%s: %.1f %% of what the oracle delivers, %d blocks, %d wrongly suppressed", weather, 100*part, a.Blocks, a.Wrong)
		}
		if best.Violations > 0 {
			t.Errorf("%s: who knows all limits has %d violations", weather, best.Violations)
		}
	}
}

func TestUnknownWeather(t *testing.T) {
	o := short(1, reputation.Oracle)
	o.Weather = "hail"
	if _, err := reputation.Compare(t.Context(), o); err == nil || !strings.Contains(err.Error(), "hail") {
		t.Errorf("got %v", err)
	}
}

// TestQuick: the day's bounds hold over all of three times ten minutes of the world
// of the real minutes, in which the control loop is sixty times as slow beside all
// else. With HIKYAKU_LONG it is 24 times.
func TestQuick(t *testing.T) {
	seeds := uint64(3)
	if os.Getenv("HIKYAKU_LONG") != "" {
		seeds = 24
	}
	var ours, best, blocks, textBlocks int64
	least := 1.0
	for seed := uint64(1); seed <= seeds; seed++ {
		r := compare(t, reputation.Options{
			Seed: seed, Quick: true, Messages: 10 * 60 * 240, Begin: 14*time.Hour + 10*time.Minute, Span: 10 * time.Minute,
			Minds: []string{reputation.Ours, reputation.TextRules, reputation.Oracle},
		})
		balanced(t, r)
		a, text, oracle := r.Of(reputation.Ours).Total, r.Of(reputation.TextRules).Total, r.Of(reputation.Oracle).Total
		ours, best, blocks, textBlocks = ours+a.Delivered, best+oracle.Delivered, blocks+a.Blocks, textBlocks+text.Blocks
		least = min(least, float64(a.Delivered)/float64(oracle.Delivered))
		if a.Wrong > 0 {
			t.Errorf("seed %d: %d wrongly suppressed", seed, a.Wrong)
		}
		if oracle.Violations > 0 {
			t.Errorf("seed %d: who knows all limits has %d violations", seed, oracle.Violations)
		}
	}
	part := float64(ours) / float64(best)
	t.Logf("%d seeds: %.1f %% of what the oracle delivers, %.1f %% at least; %d blocks, the text rules have %d", seeds, 100*part, 100*least, blocks, textBlocks)
	if part < reputation.LeastDelivered {
		t.Errorf("%.1f %% of what the oracle delivers", 100*part)
	}
	if float64(blocks) > reputation.MostBlocks*float64(textBlocks) || textBlocks == 0 {
		t.Errorf("%d blocks, the text rules have %d", blocks, textBlocks)
	}
}
