package scheduler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hikyaku/spool/message"
)

// tale is one scenario: what it is about, its policy, what happens, and for
// how long.
type tale struct {
	name   string
	about  string
	cfg    Config
	policy []string
	tell   func(st *story)
	until  time.Duration
}

const sec = time.Second

var tales = []tale{
	{
		name:   "rate",
		about:  "A rate of 10/s with a burst of 20. The bucket begins empty; a pause of 5 s lets it fill.",
		policy: []string{`Carrier default {"limits":{"rate":"10/s,burst=20"}}`},
		tell: func(st *story) {
			st.at(0, func() { st.accept(key("a.example", "red"), 60) })
			st.at(12*sec, func() { st.accept(key("a.example", "red"), 60) })
		},
		until: 18 * sec,
	},
	{
		name:  "carrier",
		about: "A carrier that takes 30/s in all and 10/s from each source; the fourth source brings nothing more.",
		policy: []string{"Source s1 {}", "Source s2 {}", "Source s3 {}", "Source s4 {}",
			`Pool default {"sources":[{"name":"s1"},{"name":"s2"},{"name":"s3"},{"name":"s4"}]}`,
			`Carrier big {"mx":["mx.big.example"],"limits":{"rate":"30/s,burst=1"},"per_source":{"rate":"10/s,burst=1"}}`},
		tell: func(st *story) {
			st.label = func(_ *message.Delivery, l Lane) string { return l.Source[1:] }
			st.at(0, func() { st.accept(key("x.big.example", "red"), 400) })
		},
		until: 16 * sec,
	},
	{
		name:   "fair",
		about:  "Tenants with weights 30, 20 and 10 at 60/s; red's giant job is there first, blue and green come later and leave earlier.",
		policy: []string{`Tenant red {"weight":30}`, `Tenant blue {"weight":20}`, `Tenant green {"weight":10}`, `Carrier default {"limits":{"rate":"60/s"}}`},
		tell: func(st *story) {
			st.at(0, func() { st.accept(key("a.example", "red", "job=giant"), 5000) })
			st.at(5*sec, func() { st.accept(key("a.example", "blue"), 200) })
			st.at(8*sec, func() { st.accept(key("a.example", "green"), 100) })
		},
		until: 25 * sec,
	},
	{
		name:   "streams",
		about:  "One tenant at 60/s: stream news with weight 20, two jobs of stream bulk with weight 5 each. Jobs are flows of their own.",
		policy: []string{`Stream news {"weight":20}`, `Stream bulk {"weight":5}`, `Carrier default {"limits":{"rate":"60/s"}}`},
		tell: func(st *story) {
			st.label = func(d *message.Delivery, _ Lane) string { return d.Queue.Job + d.Queue.Stream }
			st.at(0, func() {
				st.accept(key("a.example", "red", "stream=bulk", "job=1"), 1000)
				st.accept(key("b.a.example", "red", "stream=bulk", "job=2"), 1000)
			})
			st.at(3*sec, func() { st.accept(key("a.example", "red", "stream=news"), 200) })
		},
		until: 12 * sec,
	},
	{
		name:   "priority",
		about:  "A million low ones at 20/s. One high message a second leaves at once; normal ones come in a heap at 10 s. Low keeps 1 of 16.",
		policy: []string{`Carrier default {"limits":{"rate":"20/s"}}`},
		tell: func(st *story) {
			st.label = func(d *message.Delivery, _ Lane) string { return d.Queue.Priority.String() }
			st.at(0, func() { st.accept(key("a.example", "red", "priority=low"), 2000) })
			st.stream(key("a.example", "red", "priority=high"), 2*sec, 28*sec, sec)
			st.at(10*sec, func() { st.accept(key("a.example", "blue", "priority=normal"), 150) })
		},
		until: 30 * sec,
	},
	{
		name:   "tenant_rate",
		about:  "A tenant's 12/s over three sites: they take turns, and high mail of it goes first.",
		policy: []string{`Tenant red {"rate":"12/s"}`},
		tell: func(st *story) {
			st.label = func(d *message.Delivery, _ Lane) string {
				if d.Queue.Priority == message.High {
					return "high"
				}
				return strings.TrimSuffix(d.Queue.Destination, ".example")
			}
			st.at(0, func() { st.accept(key("1.example", "red"), 300) })
			st.at(3*sec, func() { st.accept(key("2.example", "red"), 300); st.accept(key("3.example", "red"), 300) })
			st.at(6*sec, func() { st.accept(key("3.example", "red", "priority=high"), 24) })
		},
		until: 12 * sec,
	},
	{
		name:   "per_day",
		about:  "500 a day: what was sent comes back 24 hours later, to ten minutes.",
		policy: []string{`Tenant red {"per_day":500,"rate":"1000/h,burst=1"}`},
		tell: func(st *story) {
			st.step = time.Hour
			st.at(0, func() { st.accept(key("a.example", "red"), 1200) })
		},
		until: 60 * time.Hour,
	},
	{
		name:   "window",
		about:  "A stream that sends from 09:02 to 09:04 UTC, and again from 09:06 to 09:07; the clock begins at 09:00.",
		policy: []string{`Stream default {"windows":[{"start":"09:02","end":"09:04"},{"start":"09:06","end":"09:07"}]}`, `Carrier default {"limits":{"rate":"1/s"}}`},
		tell: func(st *story) {
			st.step = 15 * sec
			st.at(0, func() { st.accept(key("a.example", "red"), 500) })
		},
		until: 8 * time.Minute,
	},
}

func TestStories(t *testing.T) {
	for _, tl := range append(tales, moreTales...) {
		t.Run(tl.name, func(t *testing.T) {
			st := newStory(t, tl.cfg, append([]string{"Source default {}"}, tl.policy...)...)
			tl.tell(st)
			st.play(tl.until)
			if err := st.s.check(at(st.now)); err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			fmt.Fprintf(&b, "# %s\n# policy: %s\n", tl.about, strings.Join(tl.policy, "\n#         "))
			st.draw(&b, tl.until)
			golden(t, tl.name, b.String())
		})
	}
}
