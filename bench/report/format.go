package report

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// number writes a value with about four digits and groups of thousands.
func number(v float64) string {
	a := math.Abs(v)
	decimals := 0
	switch {
	case a == 0 || a >= 1000 || a == math.Trunc(a) && a < 1e15:
	case a >= 100:
		decimals = 1
	case a >= 10:
		decimals = 2
	default:
		decimals = min(2-int(math.Floor(math.Log10(a))), 9)
	}
	s := strconv.FormatFloat(v, 'f', decimals, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return group(s)
}

// group puts commas between thousands.
func group(s string) string {
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	whole, rest, dot := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if dot {
		rest = "." + rest
	}
	return sign + whole + rest
}

// scale is how a unit is written: value divided by div, then label.
type scale struct {
	div   float64
	label string
}

// scaleOf picks the multiple of the unit in which top is a handy number.
func scaleOf(unit string, top float64) scale {
	top = math.Abs(top)
	switch base, per, _ := strings.Cut(unit, "/"); base {
	case "bytes":
		if per != "" {
			per = "/" + per
		}
		for _, s := range []scale{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
			if top >= s.div {
				return scale{s.div, s.label + per}
			}
		}
		return scale{1, "bytes" + per}
	case "s":
		switch {
		case per != "":
		case top < 1e-3 && top > 0:
			return scale{1e-6, "µs"}
		case top < 1 && top > 0:
			return scale{1e-3, "ms"}
		case top >= 600:
			return scale{60, "min"}
		}
	default:
		if top >= 1e6 && unit != "%" && unit != "×" {
			return scale{1e6, strings.TrimSpace("million " + unit)}
		}
	}
	return scale{1, unit}
}

// withUnit writes a value and its unit: "8,512 msg/s", "1.5 GiB", "2.25 ms", "0.45 ×".
func withUnit(v float64, unit string) string {
	s := scale{1, unit}
	if strings.HasPrefix(unit, "bytes") || unit == "s" {
		s = scaleOf(unit, v)
	}
	if s.label == "" {
		return number(v / s.div)
	}
	return number(v/s.div) + " " + s.label
}

func duration(d time.Duration) string { return withUnit(d.Seconds(), "s") }

// clock writes a point of a run: "12.5 s", "4:05", "1:04:05".
func clock(seconds float64) string {
	if seconds < 120 {
		return number(math.Round(seconds*10)/10) + " s"
	}
	s := int(math.Round(seconds))
	two := func(n int) string { return strconv.Itoa(100 + n)[1:] }
	if s < 3600 {
		return strconv.Itoa(s/60) + ":" + two(s%60)
	}
	return strconv.Itoa(s/3600) + ":" + two(s/60%60) + ":" + two(s%60)
}
