package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the machine that runs the tests may have no zone files

	"hikyaku/controlplane/policy"
)

func mustWindows(t testing.TB, in ...policy.Window) windows {
	t.Helper()
	ws, err := compileWindows(in)
	if err != nil {
		t.Fatal(err)
	}
	return ws
}

func TestWindowsOpen(t *testing.T) {
	office := policy.Window{Start: "09:00", End: "18:00", Days: []string{"mon", "tue", "wed", "thu", "fri"}, TZ: "Asia/Tokyo"}
	night := policy.Window{Start: "22:00", End: "06:00", Days: []string{"fri"}, TZ: "Asia/Tokyo"}
	berlin := func(start, end string, days ...string) policy.Window {
		return policy.Window{Start: start, End: end, Days: days, TZ: "Europe/Berlin"}
	}
	// In Berlin the clocks of 2026 go from 02:00 to 03:00 on Sunday 29 March
	// and from 03:00 to 02:00 on Sunday 25 October.
	tests := []struct {
		name  string
		ws    []policy.Window
		now   string // with offset
		open  bool
		until string
	}{
		{"before office hours", []policy.Window{office}, "2026-03-02T08:59:59+09:00", false, "2026-03-02T09:00:00+09:00"},
		{"office opens", []policy.Window{office}, "2026-03-02T09:00:00+09:00", true, "2026-03-02T18:00:00+09:00"},
		{"seen from UTC", []policy.Window{office}, "2026-03-02T00:00:00Z", true, "2026-03-02T09:00:00Z"},
		{"office closes", []policy.Window{office}, "2026-03-02T18:00:00+09:00", false, "2026-03-03T09:00:00+09:00"},
		{"over the weekend", []policy.Window{office}, "2026-03-06T18:00:00+09:00", false, "2026-03-09T09:00:00+09:00"},
		{"Monday in UTC is not yet Monday in Tokyo", []policy.Window{{Start: "00:00", End: "24:00", Days: []string{"mon"}, TZ: "Asia/Tokyo"}}, "2026-03-01T15:00:00Z", true, "2026-03-02T15:00:00Z"},
		{"past midnight belongs to Friday", []policy.Window{night}, "2026-03-07T05:59:59+09:00", true, "2026-03-07T06:00:00+09:00"},
		{"past midnight of Thursday", []policy.Window{night}, "2026-03-06T05:00:00+09:00", false, "2026-03-06T22:00:00+09:00"},
		{"Friday night", []policy.Window{night}, "2026-03-06T23:00:00+09:00", true, "2026-03-07T06:00:00+09:00"},
		{"Saturday night", []policy.Window{night}, "2026-03-07T23:00:00+09:00", false, "2026-03-13T22:00:00+09:00"},
		{"to midnight as 00:00", []policy.Window{{Start: "22:00", End: "00:00"}}, "2026-03-06T22:00:00Z", true, "2026-03-07T00:00:00Z"},
		{"to midnight as 24:00", []policy.Window{{Start: "22:00", End: "24:00"}}, "2026-03-06T22:00:00Z", true, "2026-03-07T00:00:00Z"},
		{"two that touch are one", []policy.Window{{Start: "22:00", End: "24:00"}, {Start: "00:00", End: "02:00"}}, "2026-03-06T22:30:00Z", true, "2026-03-07T02:00:00Z"},
		{"two that overlap in two zones", []policy.Window{{Start: "09:00", End: "12:00"}, {Start: "09:00", End: "12:00", TZ: "Europe/Berlin"}}, "2026-01-05T08:00:00Z", true, "2026-01-05T12:00:00Z"},
		{"always is asked again", []policy.Window{{Start: "00:00", End: "24:00"}}, "2026-03-02T12:00:00Z", true, "2026-03-17T12:00:00Z"},

		{"shorter by the hour that is skipped", []policy.Window{berlin("01:00", "05:00")}, "2026-03-29T01:00:00+01:00", true, "2026-03-29T05:00:00+02:00"},
		{"start is skipped", []policy.Window{berlin("02:30", "05:00")}, "2026-03-29T01:59:59+01:00", false, "2026-03-29T03:00:00+02:00"},
		{"end is skipped", []policy.Window{berlin("01:00", "02:30")}, "2026-03-29T01:00:00+01:00", true, "2026-03-29T03:00:00+02:00"},
		{"skipped as a whole", []policy.Window{berlin("02:00", "03:00", "sun")}, "2026-03-28T12:00:00+01:00", false, "2026-04-05T02:00:00+02:00"},
		{"longer by the hour that is repeated", []policy.Window{berlin("01:00", "05:00")}, "2026-10-25T01:00:00+02:00", true, "2026-10-25T05:00:00+01:00"},
		{"end is shown twice, first time", []policy.Window{berlin("01:00", "02:30")}, "2026-10-25T01:00:00+02:00", true, "2026-10-25T02:30:00+02:00"},
		{"end is shown twice, clocks go back", []policy.Window{berlin("01:00", "02:30")}, "2026-10-25T02:30:00+02:00", false, "2026-10-25T02:00:00+01:00"},
		{"end is shown twice, second time", []policy.Window{berlin("01:00", "02:30")}, "2026-10-25T02:00:00+01:00", true, "2026-10-25T02:30:00+01:00"},
		{"whole Sunday of 25 hours", []policy.Window{berlin("00:00", "24:00", "sun")}, "2026-10-25T00:00:00+02:00", true, "2026-10-26T00:00:00+01:00"},
		{"past midnight over the change", []policy.Window{berlin("23:00", "06:00", "sat")}, "2026-03-28T23:00:00+01:00", true, "2026-03-29T06:00:00+02:00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ws := mustWindows(t, tt.ws...)
			open, until := ws.open(mustInstant(t, tt.now))
			if open != tt.open || until != mustInstant(t, tt.until) {
				t.Errorf("open %v until %s, want %v until %s", open, until.time(), tt.open, mustInstant(t, tt.until).time())
			}
		})
	}
}

func mustInstant(t testing.TB, s string) instant {
	t.Helper()
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at(v)
}

func TestWindowsEdges(t *testing.T) {
	if open, until := windows(nil).open(bucketStart); !open || until != never {
		t.Errorf("no windows: open %v until %d", open, until)
	}
	ws := mustWindows(t, policy.Window{Start: "09:00", End: "10:00"})
	start := mustInstant(t, "2026-03-02T09:00:00Z")
	if open, until := ws.open(start - 1); open || until != start {
		t.Errorf("a nanosecond early: open %v until %s", open, until.time())
	}
	if open, until := ws.open(start + 1); !open || until != start+instant(time.Hour) {
		t.Errorf("a nanosecond late: open %v until %s", open, until.time())
	}
	if _, until := ws.open(0); until != instant(9*time.Hour) {
		t.Errorf("at the epoch: until %s", until.time())
	}
	if _, until := ws.open(never); until != never {
		t.Errorf("at the end of time: until %s", until.time())
	}
}

func TestCompileWindowsRefuses(t *testing.T) {
	for _, tt := range []struct {
		w    policy.Window
		want string
	}{
		{policy.Window{Start: "9:00", End: "10:00"}, "no span of hours"},
		{policy.Window{Start: "09:00", End: "25:00"}, "no span of hours"},
		{policy.Window{Start: "09:00", End: "09:00"}, "no span of hours"},
		{policy.Window{Start: "24:00", End: "09:00"}, "no span of hours"},
		{policy.Window{Start: "09:00", End: "10:00", TZ: "Local"}, "another on each machine"},
		{policy.Window{Start: "09:00", End: "10:00", TZ: "Mars/Base"}, "load time zone"},
		{policy.Window{Start: "09:00", End: "10:00", Days: []string{"monday"}}, "no day of the week"},
	} {
		good := policy.Window{Start: "00:00", End: "24:00"}
		_, err := compileWindows([]policy.Window{good, tt.w})
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "window 2: ") {
			t.Errorf("%+v: %v, want window 2 and %q", tt.w, err, tt.want)
		}
	}
}

// shows says by the calendar alone whether a window is open: what the clock on
// the wall shows at that moment, as text.
func shows(w policy.Window, t time.Time, zone *time.Location) bool {
	local := t.In(zone)
	clock := local.Format("15:04")
	day := func(d time.Weekday) bool {
		return len(w.Days) == 0 || slices.Contains(w.Days, strings.ToLower(d.String()[:3]))
	}
	if w.Start < w.End {
		return day(local.Weekday()) && clock >= w.Start && clock < w.End
	}
	return day(local.Weekday()) && clock >= w.Start || day((local.Weekday()+6)%7) && clock < w.End
}

// Random windows, walked minute by minute over days on which clocks change,
// among them by half an hour, at midnight, and by a whole day.
func TestWindowsAgreeWithTheClockOnTheWall(t *testing.T) {
	for _, walk := range []struct{ zone, from string }{
		{"Asia/Tokyo", "2026-03-01T00:00:00Z"},
		{"Europe/Berlin", "2026-03-28T00:00:00Z"},
		{"Europe/Berlin", "2026-10-24T00:00:00Z"},
		{"America/New_York", "2026-03-07T12:00:00Z"},
		{"America/Santiago", "2026-09-05T00:00:00Z"},
		{"America/Santiago", "2026-04-04T00:00:00Z"},
		{"Australia/Lord_Howe", "2026-04-04T00:00:00Z"},
		{"Pacific/Apia", "2011-12-29T00:00:00Z"},
		{"UTC", "2026-12-30T00:00:00Z"},
	} {
		t.Run(walk.zone+" "+walk.from[:10], func(t *testing.T) {
			zone, err := time.LoadLocation(walk.zone)
			if err != nil {
				t.Fatal(err)
			}
			rnd := rand.New(rand.NewPCG(6, 7))
			for range 8 {
				in := randomWindows(rnd, walk.zone)
				walkWindows(t, in, zone, mustInstant(t, walk.from))
			}
		})
	}
}

func randomWindows(rnd *rand.Rand, zone string) []policy.Window {
	clock := func(most int) string {
		m := rnd.IntN(most/15+1) * 15
		return fmt.Sprintf("%02d:%02d", m/60, m%60)
	}
	var in []policy.Window
	for range 1 + rnd.IntN(3) {
		w := policy.Window{Start: clock(23*60 + 45), End: clock(24 * 60), TZ: zone}
		for w.End == w.Start {
			w.End = clock(24 * 60)
		}
		for _, d := range weekdays {
			if rnd.IntN(3) == 0 {
				w.Days = append(w.Days, d)
			}
		}
		in = append(in, w)
	}
	return in
}

func walkWindows(t *testing.T, in []policy.Window, zone *time.Location, from instant) {
	t.Helper()
	ws := mustWindows(t, in...)
	var last bool
	var until instant // what the last answer said
	for now := from; now < from+instant(72*time.Hour); now += instant(time.Minute) {
		want := false
		for _, w := range in {
			want = want || shows(w, now.time(), zone)
		}
		open, next := ws.open(now)
		if open != want {
			t.Fatalf("%+v: at %s open is %v, want %v", in, now.time().In(zone), open, want)
		}
		if next <= now {
			t.Fatalf("%+v: at %s until is %s", in, now.time(), next.time())
		}
		if now > from && (open != last) != (now == until) && now-from < instant(windowHorizon) {
			t.Fatalf("%+v: at %s open was %v and is %v, the change was foretold for %s", in, now.time().In(zone), last, open, until.time().In(zone))
		}
		last, until = open, next
	}
}

func BenchmarkWindowsOpen(b *testing.B) {
	ws := mustWindows(b, policy.Window{Start: "09:00", End: "18:00", Days: []string{"mon", "wed"}, TZ: "Europe/Berlin"})
	for b.Loop() {
		ws.open(bucketStart)
	}
}
