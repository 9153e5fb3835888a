package node

import (
	"math/rand/v2"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/ingest"
	"hikyaku/spool/message"
)

// TestJobsKeepOffTheHour submits a job each minute of a day: nothing of it sets
// out in the first minutes of an hour, and what would have is spread after them.
func TestJobsKeepOffTheHour(t *testing.T) {
	const off, jitter = 5 * time.Minute, 9 * time.Minute
	set, problems := policy.New([]policy.Resource{
		resource("docomo", &policy.Carrier{Domains: []string{"docomo.test"}, StartJitter: policy.Duration(jitter), OffHour: policy.Duration(off)}),
		resource("other", &policy.Carrier{Domains: []string{"other.test"}}),
		resource("r", &policy.Route{Domains: []string{"routed.test"}, Carrier: "docomo"}),
	})
	if problems != nil {
		t.Fatal(problems)
	}
	due := func(job, to string, now time.Time) time.Time {
		s := &ingest.Submission{Message: &message.Message{Tenant: "default", Job: job}, Recipients: []message.Recipient{{Address: to}}}
		ds, err := (&Node{}).plan(s, set, now)
		if err != nil {
			t.Fatal(err)
		}
		return ds[0].Due
	}
	midnight := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	onTheHour, after := 0, map[time.Duration]int{}
	for minute := range 24 * 60 {
		now := midnight.Add(time.Duration(minute) * time.Minute)
		for _, to := range []string{"a@docomo.test", "a@routed.test"} {
			d := due("news", to, now)
			into := d.Sub(d.Truncate(time.Hour))
			if into < off || d.Before(now) || d.After(now.Add(jitter+2*off)) {
				t.Fatalf("submitted at %s, %s sets out at %s", now.Format("15:04"), to, d.Format("15:04:05"))
			}
			if into < 2*off {
				after[into.Truncate(time.Minute)]++
			}
		}
		if now.Equal(now.Truncate(time.Hour)) && due("", "a@docomo.test", now).Equal(now) && due("news", "a@other.test", now).Equal(now) {
			onTheHour++
		}
	}
	if onTheHour != 24 {
		t.Errorf("mail without a job, or to others, went on the hour %d times of 24", onTheHour)
	}
	if len(after) != 5 {
		t.Errorf("what was moved is not spread over the minutes after: %v", after)
	}
}

func TestSpreadStart(t *testing.T) {
	at := func(clock string) time.Time {
		d, err := time.Parse("15:04:05", clock)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	c := func(jitter, off time.Duration) *policy.Carrier {
		return &policy.Carrier{StartJitter: policy.Duration(jitter), OffHour: policy.Duration(off)}
	}
	least := func(int64) int64 { return 0 }
	most := func(n int64) int64 { return n - 1 }
	for _, tt := range []struct {
		c      *policy.Carrier
		due    string
		random func(int64) int64
		want   string
	}{
		{c(0, 0), "10:00:00", most, "10:00:00"},
		{c(0, 5*time.Minute), "10:00:00", least, "10:05:00"},
		{c(0, 5*time.Minute), "10:04:59", least, "10:05:00"},
		{c(0, 5*time.Minute), "10:05:00", most, "10:05:00"},
		{c(0, 5*time.Minute), "09:59:59", most, "09:59:59"},
		{c(0, 5*time.Minute), "10:00:00", most, "10:09:59"},
		{c(2*time.Minute, 5*time.Minute), "09:58:30", most, "10:09:59"}, // jitter leads into the hour
		{c(2*time.Minute, 0), "09:58:30", most, "10:00:29"},
		{c(0, 20*time.Minute), "10:00:00", most, "10:39:59"},
	} {
		if got := spreadStart(tt.c, at(tt.due), tt.random).Format("15:04:05"); got != tt.want {
			t.Errorf("%s, jitter %s, off %s: %s, want %s", tt.due, tt.c.StartJitter, tt.c.OffHour, got, tt.want)
		}
	}
	for range 1000 {
		if d := spreadStart(c(time.Hour, 20*time.Minute), at("10:00:00"), rand.Int64N); d.Minute() < 20 {
			t.Fatalf("%s", d)
		}
	}
}
