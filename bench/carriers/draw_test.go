package carriers

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew; read them before you commit them")

// TestADrawingOfAPunishment draws three minutes of a source that pushes three
// times what it may for a minute, then keeps to the rate and rests for ten
// seconds whenever it is turned away, beside what the carrier allowed: slow,
// 421, blocked, each block longer while it pushes, and forgiven at last.
func TestADrawingOfAPunishment(t *testing.T) {
	w := newWorld(t, `per_source: {rate: "10/s,burst=5"}
over: {rate: {reply: "451 4.7.28 too fast"}}
punish:
  forgive: 500ms
  slow: {strikes: 10, delay: 200ms}
  defer: {strikes: 20, reply: "451 4.7.0 reputation"}
  block: {strikes: 60, for: 10s, at_most: 40s, forget: 2m, reply: "554 5.7.1 blocked"}
`)
	p := &pusher{world: w, begin: w.now}
	var b strings.Builder
	b.WriteString("   time  sent  slow  taken  refused  blocked  allowed  violations   each second: # taken, · allowed and not taken\n")
	for w.now.Sub(p.begin) < 3*time.Minute {
		violations, allowed := len(w.found), int64(0)
		if !w.c.began.IsZero() {
			allowed, _ = w.c.Allowed(w.now)
		}
		row := p.tenSeconds()
		n, _ := w.c.Allowed(w.now)
		rate := (row.taken + 5) / 10
		fmt.Fprintf(&b, "%5.0f s  %4d  %4d  %5d  %7d  %7d  %7d  %10d   %s%s\n", w.now.Sub(p.begin).Seconds(), row.sent, row.slow, row.taken, row.refused, row.blocked,
			n-allowed, len(w.found)-violations, strings.Repeat("#", rate), strings.Repeat("·", max(0, 10-rate)))
	}
	golden(t, "testdata/punishment.txt", b.String())
}

// pusher is the source of the drawing.
type pusher struct {
	*world
	begin, rest time.Time
	s           *Session
}

type row struct{ sent, slow, taken, refused, blocked int }

func (p *pusher) tenSeconds() (r row) {
	for end := p.now.Add(10 * time.Second); p.now.Before(end); {
		pushing := p.now.Sub(p.begin) < time.Minute
		if pushing {
			p.pass(time.Second / 30)
		} else {
			p.pass(time.Second / 10)
		}
		if p.now.Before(p.rest) {
			continue
		}
		r.sent++
		ok := false
		if p.s == nil {
			var a Answer
			if p.s, a = p.connect("a"); !a.OK() {
				p.hangUp()
				r.blocked++
			}
		}
		if p.s != nil {
			o := p.send(p.s, "x@try.test")
			ok = o.OK()
			switch {
			case ok && o.Delay > 0:
				r.slow++
				r.taken++
			case ok:
				r.taken++
			case strings.HasPrefix(o.Reply, "554"):
				p.hangUp()
				r.blocked++
			default:
				r.refused++
			}
		}
		if !ok && !pushing {
			p.rest = p.now.Add(10 * time.Second)
		}
	}
	return r
}

func (p *pusher) hangUp() {
	p.s.Closed(p.now)
	p.s = nil
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got\n%s", name, got)
	}
}
