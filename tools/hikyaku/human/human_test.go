package human

import (
	"testing"
	"time"
)

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0µs", 850 * time.Microsecond: "850µs", 12 * time.Millisecond: "12ms", 3200 * time.Millisecond: "3.2s", 5 * time.Second: "5s",
		59 * time.Second: "59s", 192 * time.Second: "3m12s", 125 * time.Minute: "2h05m", 76 * time.Hour: "3d4h", -time.Minute: "-1m00s",
	} {
		if got := Span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
}
