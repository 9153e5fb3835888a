package scheduler

import (
	"fmt"
	"slices"
	"time"

	"hikyaku/controlplane/policy"
)

const (
	secondsOfDay = 24 * 60 * 60

	// windowHorizon is how far ahead open looks for a change. A week has them
	// all, but a change of clocks can swallow a window, and then it is two.
	windowHorizon = 15 * 24 * time.Hour
)

// windows are the hours in which a stream may send. None is always.
//
// A window is about what the local clock shows, not about how long it has been
// open: at an instant it is open if the clock in its zone then reads a time
// between start and end, on its days. So no mail ever leaves at a local time
// that policy does not name. Where clocks go back in the middle of a window,
// the part that is shown twice is open twice; where they skip its start, it
// opens with the first time shown that is in it; where they skip all of it, it
// does not open that day.
type windows []window

// window is one policy.Window, in seconds of the local day.
type window struct {
	zone       *time.Location
	days       [7]bool // by time.Weekday; that of the start
	start, end int64   // end ≤ start runs past midnight; never equal
}

var weekdays = [...]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// compileWindows makes windows of their written form. A valid policy gives no
// error, but for a machine that lacks the zone.
func compileWindows(in []policy.Window) (windows, error) {
	var ws windows
	for i := range in {
		w, err := compileWindow(&in[i])
		if err != nil {
			return nil, fmt.Errorf("window %d: %w", i+1, err)
		}
		ws = append(ws, w)
	}
	return ws, nil
}

func compileWindow(in *policy.Window) (window, error) {
	var w window
	start, okStart := policy.ClockMinutes(in.Start)
	end, okEnd := policy.ClockMinutes(in.End)
	if !okStart || !okEnd || start == end || start == 24*60 {
		return w, fmt.Errorf("%q to %q is no span of hours", in.Start, in.End)
	}
	if in.TZ == "Local" {
		return w, fmt.Errorf("time zone %q is another on each machine", in.TZ)
	}
	zone, err := time.LoadLocation(in.TZ) // "" is UTC
	if err != nil {
		return w, fmt.Errorf("load time zone %q: %w", in.TZ, err)
	}
	w = window{zone: zone, start: int64(start) * 60, end: int64(end) * 60}
	for _, name := range in.Days {
		day := slices.Index(weekdays[:], name)
		if day < 0 {
			return w, fmt.Errorf("%q is no day of the week", name)
		}
		w.days[day] = true
	}
	if len(in.Days) == 0 {
		w.days = [7]bool{true, true, true, true, true, true, true}
	}
	return w, nil
}

// open reports whether sending is allowed now, and until when that stays so.
// Until is the exact instant of the change. Where there is none in the next
// windowHorizon, it is the end of that, and the caller asks again then.
// Without windows it is never.
func (ws windows) open(now instant) (bool, instant) {
	if len(ws) == 0 {
		return true, never
	}
	sec := int64(now) / int64(time.Second)
	end := sec + int64(windowHorizon/time.Second)
	isOpen, next := ws.look(sec)
	for next < end {
		t := next
		var o bool
		if o, next = ws.look(t); o != isOpen {
			end = t
			break
		}
	}
	if end > int64(never)/int64(time.Second) {
		return isOpen, never
	}
	return isOpen, instant(end) * instant(time.Second)
}

// look reports whether any window is open at a second of Unix time, and the
// next second at which one of them may change.
func (ws windows) look(sec int64) (isOpen bool, next int64) {
	for i := range ws {
		o, n := ws[i].look(sec)
		isOpen = isOpen || o
		if i == 0 || n < next {
			next = n
		}
	}
	return isOpen, next
}

// look is windows.look for one of them. Up to the zone's next change of clocks
// the offset to UTC stands still, and the window changes only when the clock
// shows its start or end.
func (w *window) look(sec int64) (isOpen bool, next int64) {
	t := time.Unix(sec, 0).In(w.zone)
	_, offset := t.Zone()
	local := sec + int64(offset)
	clock := ((local % secondsOfDay) + secondsOfDay) % secondsOfDay
	today := t.Weekday()
	yesterday := (today + 6) % 7

	if w.start < w.end {
		isOpen = w.days[today] && clock >= w.start && clock < w.end
	} else {
		isOpen = w.days[today] && clock >= w.start || w.days[yesterday] && clock < w.end
	}
	next = sec + min(untilClock(clock, w.start), untilClock(clock, w.end))
	if _, change := t.ZoneBounds(); !change.IsZero() {
		next = min(next, change.Unix())
	}
	return isOpen, next
}

// untilClock is how many seconds pass until the clock, after it has moved on,
// shows the wanted second of the day.
func untilClock(clock, wanted int64) int64 {
	return (wanted-clock+2*secondsOfDay-1)%secondsOfDay + 1
}
