package reputation_test

import (
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

// TestQuick: in the world of the real minutes, where carriers change their minds
// faster than steps can follow, steering delivers more than sending at what is
// written does, and with fewer blocks.
func TestQuick(t *testing.T) {
	var ours, fixed, blocks, fixedBlocks int64
	for seed := range uint64(2) {
		r := compare(t, reputation.Options{
			Seed: 1 + seed, Quick: true, Sources: 2, Messages: 3 * 60 * 240, Begin: 14*time.Hour + 10*time.Minute, Span: 3 * time.Minute,
			Minds: []string{reputation.Ours, reputation.Fixed, reputation.Oracle},
		})
		balanced(t, r)
		a, b := r.Of(reputation.Ours).Total, r.Of(reputation.Fixed).Total
		ours, fixed, blocks, fixedBlocks = ours+a.Delivered, fixed+b.Delivered, blocks+a.Blocks, fixedBlocks+b.Blocks
		if a.Wrong > 0 {
			t.Errorf("seed %d: %d wrongly suppressed", seed, a.Wrong)
		}
	}
	t.Logf("ours %d with %d blocks, fixed %d with %d", ours, blocks, fixed, fixedBlocks)
	if ours <= fixed || 2*blocks >= fixedBlocks {
		t.Errorf("ours %d with %d blocks, fixed limits %d with %d", ours, blocks, fixed, fixedBlocks)
	}
}
