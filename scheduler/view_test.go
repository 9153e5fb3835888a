package scheduler

import (
	"cmp"
	"encoding/json"
	"slices"
	"testing"
	"time"

	diff "github.com/google/go-cmp/cmp"

	"hikyaku/spool/message"
)

func TestViews(t *testing.T) {
	st := newStory(t, Config{}, "Source default {}", `Tenant red {"rate":"100/s","per_day":10}`, `Carrier big {"domains":["a.example"],"limits":{"connections":3}}`)
	st.latency = func(Lane) time.Duration { return time.Minute }
	k := key("a.example", "red")
	st.accept(k, 20)
	st.play(2 * sec)

	got, ok := st.s.QueueViewOf(st.now, k)
	want := QueueView{Key: k, State: StateReady, Site: "mx.a.example", Carrier: "big", Loaded: 17, InFlight: 3, NextDue: worldStart}
	if !ok || !diff.Equal(got, want) {
		t.Errorf("queue: %s", diff.Diff(want, got))
	}
	var all []QueueView
	st.s.EachQueue(st.now, func(v QueueView) bool { all = append(all, v); return true })
	if !diff.Equal(all, []QueueView{want}) {
		t.Errorf("all queues: %+v", all)
	}
	lanes := []LaneView{{Lane: Lane{"default", "mx.a.example"}, Carrier: "big", Open: 3}}
	if got := st.s.Lanes(st.now); !diff.Equal(got, lanes) {
		t.Errorf("lanes: %s", diff.Diff(lanes, got))
	}
	sites := []SiteView{{Name: "mx.a.example", Carrier: "big", Destinations: 1, Backlog: 17, Open: 3}}
	if got := st.s.Sites(st.now); !diff.Equal(got, sites) {
		t.Errorf("sites: %s", diff.Diff(sites, got))
	}
	budgets := st.s.Budgets(st.now)
	slices.SortFunc(budgets, func(a, b BudgetView) int { return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Kind, b.Kind)) })
	if want := []BudgetView{
		{Scope: "carrier big", Kind: "connections", Limit: "3", Used: 3},
		{Scope: "carrier big, source default", Kind: "connections", Limit: "20", Used: 3, Available: 17},
		{Scope: "tenant red", Kind: "per_day", Limit: "10", Used: 3, Available: 7},
		{Scope: "tenant red", Kind: "rate", Limit: "100/s", Available: 10},
	}; !diff.Equal(budgets, want) {
		t.Errorf("budgets: %s", diff.Diff(want, budgets))
	}
	flying := 0
	for id := range st.disk.byID {
		if st.s.InFlight(id) {
			flying++
		}
	}
	if flying != 3 {
		t.Errorf("%d in flight, want 3", flying)
	}
}

// Daily counts survive a restart, also of scopes that come back later, and
// count until they are a day old.
func TestDayCountsOverRestart(t *testing.T) {
	lines := []string{"Source default {}", `Tenant red {"per_day":5}`, `Stream default {"per_day":6}`, `Carrier default {"limits":{"per_day":7},"per_source":{"per_day":8}}`}
	k := key("a.example", "red")
	first := newStory(t, Config{}, lines...)
	first.accept(k, 4)
	first.play(time.Hour)

	text, err := json.Marshal(first.s.DayCounts(first.now))
	if err != nil {
		t.Fatal(err)
	}
	var counts DayCounts
	if err := json.Unmarshal(text, &counts); err != nil {
		t.Fatal(err)
	}
	if len(counts.Scopes) != 4 {
		t.Fatalf("four scopes have counts, got %s", text)
	}

	second := newStory(t, Config{}, lines...)
	second.now = first.now
	second.s.LoadDayCounts(second.now, counts)
	if again := second.s.DayCounts(second.now); !diff.Equal(again, counts) {
		t.Errorf("counts of what has not come back are lost: %s", diff.Diff(counts, again))
	}
	second.accept(k, 20)
	second.play(23 * time.Hour)
	if n := second.sentIn("red"); n != 1 {
		t.Errorf("%d sent after the restart, want the one that is left of five", n)
	}
	for _, s := range second.s.DayCounts(second.now).Scopes {
		if n := s.Slots[0].N; n != 4 {
			t.Errorf("%+v: %d in the first slot, want 4", s, n)
		}
	}
	second.play(25 * time.Hour)
	if n := second.sentIn("red"); n != 5 {
		t.Errorf("%d sent a day after the first, want 5", n)
	}
	second.play(200 * time.Hour)
	if got := second.s.DayCounts(second.now.Add(48 * time.Hour)); len(got.Scopes) != 0 {
		t.Errorf("old counts are kept: %+v", got.Scopes)
	}
}

func (st *story) sentIn(label string) (n int) {
	for _, sent := range st.sent[label] {
		n += sent
	}
	return n
}

// What is durable can be read, sent and ended before the goroutine that
// accepted it comes to hand it over.
func TestLateHandoverIsNotSentAgain(t *testing.T) {
	st := newStory(t, Config{}, "Source default {}")
	k := key("a.example", "red")
	late := st.disk.newDelivery(k, st.now, st.now, time.Hour)
	st.disk.put(late)
	st.s.AddQueue(st.now, k, st.now) // another's hand-over came first
	st.play(sec)
	if n := st.sentIn("red"); n != 1 || len(st.disk.byID) != 0 {
		t.Fatalf("%d sent, %d left", n, len(st.disk.byID))
	}
	if st.s.Add(st.now, late) {
		t.Error("a delivery that has ended was taken")
	}
	st.play(2 * sec)
	if n := st.sentIn("red"); n != 1 {
		t.Errorf("sent %d times", n)
	}
	// The same of one that is not late.
	st.s.Add(st.now, st.disk.newDelivery(k, st.now, st.now, time.Hour))
	if v, _ := st.s.QueueViewOf(st.now, k); v.Loaded != 1 {
		t.Errorf("a new delivery is not loaded: %+v", v)
	}
}

// A failing destination's deliveries are given out to be bounced without
// filling memory: page by page, no further page before those have ended.
func TestFailingDestinationIsBounded(t *testing.T) {
	s := New(worldStart, Config{Page: 10}, policyOf(t))
	d := newDisk()
	k := key("none.example", "red")
	for range 1000 {
		d.put(d.newDelivery(k, worldStart, worldStart, time.Hour))
	}
	s.AddQueue(worldStart, k, worldStart)
	var ends []*message.Delivery
	for range 100 {
		for _, a := range s.Actions(worldStart, 1000) {
			switch a.Kind {
			case Resolve:
				s.ResolveFailed(worldStart, a.Destination, message.Reply{Code: 550, Text: "no such domain"}, worldStart.Add(time.Hour))
			case Page:
				ds, more := d.page(&a)
				next, _ := d.nextDue(&a, ds)
				s.Paged(worldStart, a.Queue, ds, more, next)
			case Fail:
				ends = append(ends, a.Delivery)
			default:
				t.Fatalf("action %+v", a)
			}
		}
	}
	if n := len(ends); n < 40 || n > 60 {
		t.Errorf("%d are out at once with pages of 10", n)
	}
	bounced := 0
	for len(ends) > 0 {
		s.Done(worldStart, ends[0], nil)
		d.move(ends[0], nil)
		ends = ends[1:]
		bounced++
		for _, a := range s.Actions(worldStart, 1000) {
			if a.Kind == Page {
				ds, more := d.page(&a)
				next, _ := d.nextDue(&a, ds)
				s.Paged(worldStart, a.Queue, ds, more, next)
			} else if a.Kind == Fail {
				ends = append(ends, a.Delivery)
			}
		}
	}
	if bounced != 1000 || s.Counts().Queues != 0 {
		t.Errorf("%d bounced; %+v", bounced, s.Counts())
	}
}
