package measure

import (
	"fmt"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// maxEncodedBytes bounds what is decoded: a full histogram needs less than
// 300 kB. The library bounds the rest by the range that the text says to have;
// the widest one took 170 MB until it was refused.
const maxEncodedBytes = 1 << 20

// Encode is the histogram as text that every HdrHistogram tool reads: its "V2
// compressed" form in base64. The unit is the microsecond.
func (h *Histogram) Encode() string {
	counts := h.counts
	if counts == nil {
		counts = newCounts()
	}
	text, err := counts.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		panic("BUG: encode a histogram into memory: " + err.Error())
	}
	return string(text)
}

// DecodeHistogram reads what Encode wrote, or another HdrHistogram with the same
// range and digits.
func DecodeHistogram(s string) (*Histogram, error) {
	if len(s) > maxEncodedBytes {
		return nil, fmt.Errorf("read HdrHistogram: %d bytes are more than it needs", len(s))
	}
	counts, err := hdrhistogram.Decode([]byte(s))
	if err != nil {
		return nil, fmt.Errorf("read HdrHistogram: %w", err)
	}
	low, high, digits := counts.LowestTrackableValue(), counts.HighestTrackableValue(), counts.SignificantFigures()
	if low != lowestMicros || high != highestMicros || digits != significant {
		return nil, fmt.Errorf("read HdrHistogram: %d to %d in %d digits is another range or precision than 1 µs to 1 h in three", low, high, digits)
	}
	return &Histogram{counts: counts}, nil
}
