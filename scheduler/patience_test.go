package scheduler

import (
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// TestUrgentMailDoesNotWaitBehindAHungSession: one session hangs with its
// message; one more message is too little for a further connection at once, but
// not after the patience.
func TestUrgentMailDoesNotWaitBehindAHungSession(t *testing.T) {
	set, problems := policy.New(nil)
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 4, 1, 9, 0, 0, 0, time.UTC)
	s := New(now, Config{}, set)
	var ids message.IDs
	add := func() {
		d := &message.Delivery{ID: message.DeliveryID{Message: ids.New(now)}, Due: now, Accepted: now, Expires: now.Add(time.Hour),
			Queue:      message.QueueKey{Destination: "example.com", Tenant: "default", Stream: "default", Pool: "default"},
			Recipients: []message.Recipient{{Address: "a@example.com"}}}
		if !s.Add(now, d) {
			t.Fatal("not loaded")
		}
	}
	opens := func() (lanes []Lane) {
		for _, a := range s.Actions(now, 100) {
			switch a.Kind {
			case Resolve:
				s.Resolved(now, a.Destination, Resolution{Site: "mx", Hosts: []string{"mx"}, Until: now.Add(time.Hour)})
			case Open:
				lanes = append(lanes, a.Lane)
			}
		}
		return lanes
	}
	add()
	opens()
	lanes := opens()
	if len(lanes) != 1 {
		t.Fatalf("%d connections for the first message, want 1", len(lanes))
	}
	s.SessionOpened(now, lanes[0])
	if _, _, ok := s.Next(now, lanes[0]); !ok {
		t.Fatal("the session got nothing")
	}
	// It hangs from here on. The next message comes a minute later.
	now = now.Add(time.Minute)
	add()
	if l := opens(); len(l) != 0 {
		t.Fatalf("%d connections at once, want the busy session to have its chance", len(l))
	}
	wake := s.Wake(now)
	if wake.IsZero() || wake.After(now.Add(time.Duration(patience))) {
		t.Fatalf("wakes at %v, want within %v", wake, time.Duration(patience))
	}
	now = now.Add(time.Duration(patience))
	lanes = opens()
	if len(lanes) != 1 {
		t.Fatalf("%d further connections after the patience, want 1", len(lanes))
	}
	s.SessionOpened(now, lanes[0])
	if _, _, ok := s.Next(now, lanes[0]); !ok {
		t.Error("the new session got nothing")
	}
}
