package plan

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"hikyaku/controlplane/policy"
)

// ParseTarget reads "30M/h", "8500/s", "720M/d" as messages an hour.
func ParseTarget(s string) (float64, error) {
	bad := fmt.Errorf("target %q: want messages in a time, as in 30M/h, 8500/s or 500M/d", s)
	num, unit, ok := strings.Cut(s, "/")
	hours := map[string]float64{"s": 1.0 / 3600, "m": 1.0 / 60, "h": 1, "d": 24}[strings.TrimSpace(unit)]
	if !ok || hours == 0 {
		return 0, bad
	}
	n, err := parseNumber(num, 1000)
	if err != nil || n <= 0 {
		return 0, bad
	}
	return n / hours, nil
}

// ParseMix reads "gmail=40%,docomo=10%,…".
func ParseMix(s string) ([]Share, error) {
	var mix []Share
	var errs []error
	for part := range strings.SplitSeq(s, ",") {
		name, share, ok := strings.Cut(strings.TrimSpace(part), "=")
		digits, percent := strings.CutSuffix(strings.TrimSpace(share), "%")
		v, err := strconv.ParseFloat(digits, 64)
		if !ok || !percent || err != nil || name == "" || math.IsNaN(v) || math.IsInf(v, 0) {
			errs = append(errs, fmt.Errorf("mix %q: want carrier=percent, as in gmail=40%%", part))
			continue
		}
		mix = append(mix, Share{strings.TrimSpace(name), v / 100})
	}
	return mix, errors.Join(errs...)
}

// ParseBytes reads an amount of bytes: "4096", "4k", "1.5G". Powers of ten.
func ParseBytes(s string) (float64, error) {
	n, err := parseNumber(strings.TrimSuffix(s, "B"), 1000)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("amount %q: want bytes, as in 4096, 20k, 500M or 1.5G", s)
	}
	return n, nil
}

// parseNumber reads digits with k, M, G or T behind them.
func parseNumber(s string, k float64) (float64, error) {
	s = strings.TrimSpace(s)
	factor := 1.0
	if s != "" {
		if i := strings.IndexByte("kMGT", s[len(s)-1]); i >= 0 {
			factor, s = math.Pow(k, float64(i+1)), s[:len(s)-1]
		}
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return v * factor, nil
}

// Override changes a carrier's limits by what a person typed:
// "rate=100/s,connections=20,transaction=300ms,setup=1s,messages_per_connection=50,
// per_day=100000,total_rate=none". "none" takes a limit away.
func (c *Carrier) Override(s string) error {
	for part := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return fmt.Errorf("carrier %s: %q: want key=value", c.Name, part)
		}
		if err := c.set(key, value); err != nil {
			return fmt.Errorf("carrier %s: %s: %w", c.Name, key, err)
		}
	}
	c.From += ", changed by hand: " + s
	return nil
}

func (c *Carrier) set(key, value string) (err error) {
	count := func() (n int64) {
		if value != "none" {
			if n, err = strconv.ParseInt(value, 10, 64); err == nil && n < 0 {
				err = errors.New("less than nothing")
			}
		}
		return n
	}
	rate := func() (perSec float64) {
		if value != "none" {
			var r policy.Rate
			if r, err = policy.ParseRate(value); err == nil {
				perSec = perSecond(&r)
			}
		}
		return perSec
	}
	span := func() (d time.Duration) {
		if d, err = time.ParseDuration(value); err == nil && d < 0 {
			err = errors.New("less than nothing")
		}
		return d
	}
	switch key {
	case "rate":
		c.PerSecond = rate()
	case "connections":
		c.Connections = int(count())
	case "connection_rate":
		c.ConnectionsPerSecond = rate()
	case "messages_per_connection":
		c.MessagesPerConnection = int(count())
	case "per_day":
		c.PerDay = count()
	case "total_rate":
		c.TotalPerSecond = rate()
	case "total_connections":
		c.TotalConnections = int(count())
	case "total_per_day":
		c.TotalPerDay = count()
	case "transaction":
		c.Transaction = span()
	case "setup":
		c.Setup = span()
	default:
		return errors.New("not a limit: there are rate, connections, connection_rate, messages_per_connection, per_day, total_rate, total_connections, total_per_day, transaction, setup")
	}
	return err
}
