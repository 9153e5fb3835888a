package scheduler

import (
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// TestWhatIsOneTooMany: a connection that is refused for now while others of the
// lane are open leaves the lane at work; alone, for good, or without an answer, it
// is a failure of the site.
func TestWhatIsOneTooMany(t *testing.T) {
	soon := &message.Reply{Code: 421, Phase: message.PhaseBanner, Text: "too many connections"}
	for _, tt := range []struct {
		name   string
		others int // open sessions
		opened bool
		failed *message.Reply
		rests  bool
		most   int
	}{
		{"beside others", 2, false, soon, false, 2},
		{"alone", 0, false, soon, true, 0},
		{"for good", 2, false, &message.Reply{Code: 554, Phase: message.PhaseBanner}, true, 0},
		{"reset beside others", 1, false, &message.Reply{Code: 421, Fault: message.FaultReset}, false, 1},
		{"silence beside others", 1, false, &message.Reply{Code: 421, Fault: message.FaultTimeout}, true, 0},
		{"let in, then refused, beside others", 2, true, soon, false, 0},
		{"let in, then refused, alone", 0, true, soon, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, now, lane := laneWith(t, tt.others)
			s.lanes[lane].opening++
			s.countSession(s.lanes[lane], 1)
			if tt.opened {
				s.SessionOpened(now, lane)
			}
			s.SessionClosed(now, lane, tt.opened, tt.failed)
			v := s.Lanes(now)[0]
			if rests := !v.RestUntil.IsZero(); rests != tt.rests || v.Most != tt.most {
				t.Fatalf("it rests: %t, and takes %d at once; want %t and %d", rests, v.Most, tt.rests, tt.most)
			}
		})
	}
}

// TestStraysEndInARest: a peer that lets everybody in and takes nothing is left
// alone after the third, whatever is still open there; one that takes something
// in between is not.
func TestStraysEndInARest(t *testing.T) {
	refused := &message.Reply{Code: 421, Phase: message.PhaseMail, Text: "try later"}
	for _, tt := range []struct {
		name  string
		ends  []*message.Reply
		rests bool
	}{
		{"two", []*message.Reply{refused, refused}, false},
		{"three", []*message.Reply{refused, refused, refused}, true},
		{"one that carried mail between", []*message.Reply{refused, refused, nil, refused, refused}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, now, lane := laneWith(t, 1)
			for _, failed := range tt.ends {
				s.lanes[lane].opening++
				s.countSession(s.lanes[lane], 1)
				s.SessionOpened(now, lane)
				s.SessionClosed(now, lane, true, failed)
			}
			if rests := !s.Lanes(now)[0].RestUntil.IsZero(); rests != tt.rests {
				t.Fatalf("the lane rests: %t, want %t", rests, tt.rests)
			}
		})
	}
}

// TestRefusedTogetherIsOneFailure: ten sessions that a carrier turns away in the
// same second are not ten failures in a row; the next ones are.
func TestRefusedTogetherIsOneFailure(t *testing.T) {
	s, now, lane := laneWith(t, 10)
	down := &message.Reply{Code: 554, Phase: message.PhaseMail, Text: "no"}
	for i := range 10 {
		s.SessionClosed(now.Add(time.Duration(i)*10*time.Millisecond), lane, true, down)
	}
	if v := s.Lanes(now)[0]; v.Fails != 1 || v.RestUntil.Sub(now) != policy.DefaultBackoff {
		t.Fatalf("%d failures, rests %s; want 1 and %s", v.Fails, v.RestUntil.Sub(now), policy.DefaultBackoff)
	}
	again := now.Add(policy.DefaultBackoff)
	s.lanes[lane].opening++
	s.countSession(s.lanes[lane], 1)
	s.SessionClosed(again, lane, false, down)
	if v := s.Lanes(again)[0]; v.Fails != 2 || v.RestUntil.Sub(again) != 2*policy.DefaultBackoff {
		t.Fatalf("%d failures, rests %s; want 2 and %s", v.Fails, v.RestUntil.Sub(again), 2*policy.DefaultBackoff)
	}
}

// laneWith is a scheduler with one lane that has n sessions open.
func laneWith(t *testing.T, n int) (*Scheduler, time.Time, Lane) {
	t.Helper()
	st := newStory(t, Config{})
	st.latency = func(Lane) time.Duration { return time.Hour }
	st.accept(key("a.example", "red"), 1)
	st.play(time.Second)
	lanes := st.s.Lanes(st.now)
	if len(lanes) != 1 || lanes[0].Open != 1 {
		t.Fatalf("lanes: %+v, want one with a session", lanes)
	}
	l := st.s.lanes[lanes[0].Lane]
	for range n {
		l.opening++
		st.s.countSession(l, 1)
		st.s.SessionOpened(st.now, lanes[0].Lane)
	}
	st.s.SessionClosed(st.now, lanes[0].Lane, true, nil)
	return st.s, st.now, lanes[0].Lane
}
