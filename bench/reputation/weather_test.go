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

// quickly is ten minutes of the world of the real minutes, with so many messages
// more than they have.
func quickly(t *testing.T, seed uint64, more int, minds ...string) *reputation.Result {
	return compare(t, reputation.Options{
		Seed: seed, Quick: true, Messages: 10*60*240 + more, Begin: 14*time.Hour + 10*time.Minute, Span: 10 * time.Minute, Minds: minds,
	})
}

// TestQuick: the day's bounds hold over all of three times ten minutes of the world
// of the real minutes, in which the way to the leader and back is sixty times as long
// beside all else. With HIKYAKU_LONG it is 24 times.
func TestQuick(t *testing.T) {
	seeds := uint64(3)
	if os.Getenv("HIKYAKU_LONG") != "" {
		seeds = 24
	}
	var ours, best, blocks, textBlocks int64
	least := 1.0
	for seed := uint64(1); seed <= seeds; seed++ {
		r := quickly(t, seed, 0, reputation.Ours, reputation.TextRules, reputation.Oracle)
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

// TestQuickByDraws: how the mail of one world happens to fall is worth a point or
// two, so one run of the real minutes says little. The first world is a hard one.
// With HIKYAKU_LONG it is drawn twelve times.
func TestQuickByDraws(t *testing.T) {
	draws := 2
	if os.Getenv("HIKYAKU_LONG") != "" {
		draws = 12
	}
	sum, least, most := 0.0, 1.0, 0.0
	for i := range draws {
		r := quickly(t, 1, 97*i, reputation.Ours, reputation.Oracle)
		a := r.Of(reputation.Ours).Total
		part := float64(a.Delivered) / float64(r.Of(reputation.Oracle).Total.Delivered)
		sum, least, most = sum+part, min(least, part), max(most, part)
		if a.Blocks > 0 || a.Wrong > 0 {
			t.Errorf("draw %d: %d blocks, %d wrongly suppressed", i, a.Blocks, a.Wrong)
		}
	}
	mean := sum / float64(draws)
	t.Logf("%d draws: %.1f %% of what the oracle delivers, from %.1f to %.1f %%", draws, 100*mean, 100*least, 100*most)
	if mean < reputation.LeastDelivered {
		t.Errorf("%.1f %% of what the oracle delivers", 100*mean)
	}
}
