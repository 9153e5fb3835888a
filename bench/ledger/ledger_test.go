package ledger

import (
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hikyaku/spool/message"
)

const at = 5 * time.Second

// promise is the source's side of a message that went well.
func promise(l *Ledger, n int) {
	l.Offered(n)
	l.Accepted(n, at)
}

// story is the whole of it: promised, logged, received, logged.
func story(l *Ledger, n int) {
	promise(l, n)
	l.Logged(n)
	l.Received(n, at)
	l.Ended(n, message.Delivered)
}

func TestBalanceFindsEachFault(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*Ledger)
		want string // part of the error; "" when it balances
	}{
		"delivered":         {func(l *Ledger) { promise(l, 1); l.Received(1, at) }, ""},
		"delivered, logged": {func(l *Ledger) { story(l, 1); l.LogRead() }, ""},
		"bounced":           {func(l *Ledger) { promise(l, 1); l.Ended(1, message.Bounced) }, ""},
		"expired":           {func(l *Ledger) { promise(l, 1); l.Ended(1, message.Expired) }, ""},
		"cancelled":         {func(l *Ledger) { promise(l, 1); l.Ended(1, message.Cancelled) }, ""},
		"queued":            {func(l *Ledger) { promise(l, 1); l.Queued(1) }, ""},
		"received, queued":  {func(l *Ledger) { promise(l, 1); l.Logged(1); l.Received(1, at); l.Queued(1); l.LogRead() }, ""},
		"refused":           {func(l *Ledger) { l.Offered(1); l.Refused(1) }, ""},
		"refused, retried":  {func(l *Ledger) { l.Offered(1); l.Refused(1); promise(l, 1); l.Received(1, at) }, ""},
		"unanswered":        {func(l *Ledger) { l.Offered(1); l.Received(1, at) }, ""},
		"unanswered, gone":  {func(l *Ledger) { l.Offered(1) }, ""},
		"queued is no end":  {func(l *Ledger) { story(l, 1); l.Ended(1, message.Queued); l.LogRead() }, ""},

		"lost":                     {func(l *Ledger) { promise(l, 2) }, "1 of 1 accepted were lost: [2]"},
		"lost, answer unknown":     {func(l *Ledger) { l.Offered(2); l.Logged(2) }, "1 of 1 accepted were lost: [2]"},
		"doubled":                  {func(l *Ledger) { story(l, 1); l.Received(1, at) }, "1 duplicates, 0 allowed: [1]"},
		"tripled":                  {func(l *Ledger) { story(l, 1); l.Received(1, at); l.Received(1, at) }, "2 duplicates, 0 allowed: [1]"},
		"phantom":                  {func(l *Ledger) { l.Received(1, at) }, "1 were received that nobody offered: [1]"},
		"no such number":           {func(l *Ledger) { l.Received(99, at) }, "1 events are about numbers that do not exist: [99]"},
		"no such number, negative": {func(l *Ledger) { l.Ended(-1, message.Bounced) }, "numbers that do not exist: [-1]"},
		"received and bounced":     {func(l *Ledger) { promise(l, 1); l.Received(1, at); l.Ended(1, message.Bounced) }, "received and reported as bounced"},
		"received and expired":     {func(l *Ledger) { promise(l, 1); l.Received(1, at); l.Ended(1, message.Expired) }, "received and reported as bounced"},
		"received and cancelled":   {func(l *Ledger) { promise(l, 1); l.Received(1, at); l.Ended(1, message.Cancelled) }, "received and reported as bounced"},
		"altered":                  {func(l *Ledger) { story(l, 1); l.Altered(1) }, "1 arrived with other content than was sent: [1]"},
		"unseen":                   {func(l *Ledger) { promise(l, 1); l.Ended(1, message.Delivered) }, "1 are delivered by the event log and were received by nobody: [1]"},
		"refused and received":     {func(l *Ledger) { l.Offered(1); l.Refused(1); l.Received(1, at) }, "1 were refused and were received"},
		"refused and logged":       {func(l *Ledger) { l.Offered(1); l.Refused(1); l.Logged(1); l.Queued(1) }, "1 were refused and were received"},
		"two ends":                 {func(l *Ledger) { story(l, 1); l.Ended(1, message.Expired) }, "1 have two ends in the event log: [1]"},
		"the same end again":       {func(l *Ledger) { story(l, 1); l.Ended(1, message.Delivered) }, "1 have two ends in the event log: [1]"},
		"log without delivered":    {func(l *Ledger) { promise(l, 1); l.Logged(1); l.Received(1, at); l.LogRead() }, "1 were received and are not delivered by the event log: [1]"},
		"log without accepted": {func(l *Ledger) { promise(l, 1); l.Received(1, at); l.Ended(1, message.Delivered); l.LogRead() },
			"1 were accepted and are not accepted by the event log: [1]; 1 have an end in the event log and are not accepted by it: [1]"},
	} {
		t.Run(name, func(t *testing.T) {
			l := New(3)
			c.do(l)
			err := l.Balance().Err(0)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q in it", err, c.want)
			}
		})
	}
}

func TestBalanceAddsUp(t *testing.T) {
	const n = 1000
	l := New(n)
	for i := range n {
		switch i % 10 {
		case 0:
			l.Offered(i)
			l.Refused(i)
		case 1:
			l.Offered(i)
		case 2:
			promise(l, i)
			l.Ended(i, message.Bounced)
		case 3:
			promise(l, i)
			l.Ended(i, message.Expired)
		case 4:
			promise(l, i)
			l.Ended(i, message.Cancelled)
		case 5:
			promise(l, i)
			l.Queued(i)
		case 6: // never offered
		default:
			promise(l, i)
			l.Received(i, at)
		}
	}
	b := l.Balance()
	want := Balance{Offered: 900, Answered: 700, Refused: 100, Unknown: 100, Accepted: 700, Delivered: 300, Bounced: 100, Expired: 100, Cancelled: 100, Queued: 100}
	if d := cmp.Diff(want, b); d != "" {
		t.Error(d)
	}
	if err := b.Err(0); err != nil {
		t.Error(err)
	}
	if s := "accepted 700 = delivered 300 + bounced 100 + expired 100 + cancelled 100 + queued 100 + lost 0; duplicates 0"; b.String() != s {
		t.Errorf("got  %s\nwant %s", b, s)
	}
	for _, r := range b.Rows() {
		if r.Fault && r.Count > 0 || r.Name == "accepted" && r.Count != 700 {
			t.Errorf("row %+v", r)
		}
	}
}

func TestListsAreBoundedAndInOrder(t *testing.T) {
	l := New(5000)
	for n := 4999; n >= 0; n-- {
		promise(l, n)
	}
	b := l.Balance()
	if b.Lost.Count != 5000 || len(b.Lost.IDs) != MaxListed || b.Lost.IDs[0] != 0 || b.Lost.IDs[MaxListed-1] != MaxListed-1 {
		t.Errorf("%d lost, %d listed", b.Lost.Count, len(b.Lost.IDs))
	}
	for n := range 5000 {
		l.Received(5000+n, at)
	}
	if b = l.Balance(); b.Strays.Count != 5000 || len(b.Strays.IDs) != MaxListed {
		t.Errorf("%d strays, %d listed", b.Strays.Count, len(b.Strays.IDs))
	}
}

// A duplicate is allowed only where the caller says so, and each is counted.
func TestDuplicatesAreCountedExactlyAndConcurrently(t *testing.T) {
	const n, receipts = 640, 50
	l := New(n)
	var wg sync.WaitGroup
	firsts := make([]int, receipts)
	for i := range receipts {
		wg.Go(func() {
			for k := range n {
				l.Offered(k)
				l.Accepted(k, at)
				if first, _, _ := l.Received(k, at); first {
					firsts[i]++
				}
				l.Ended(k, message.Delivered)
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, f := range firsts {
		sum += f
	}
	b := l.Balance()
	if sum != n || b.Duplicates.Count != n*(receipts-1) || b.EndedAgain.Count != n || b.Delivered != n {
		t.Errorf("%d firsts, %v", sum, b)
	}
	if err := b.Err(n * (receipts - 1)); err == nil || strings.Contains(err.Error(), "duplicates") {
		t.Errorf("allowed duplicates: %v", err)
	}
}

func TestTimes(t *testing.T) {
	l := New(4)
	l.Accepted(0, 1*time.Second)
	if first, since, ok := l.Received(0, 3500*time.Millisecond); !first || !ok || since != 2500*time.Millisecond {
		t.Errorf("received after %v, %v, %v", since, first, ok)
	}
	if first, _, ok := l.Received(0, time.Hour); first || ok {
		t.Error("a second receipt has a latency")
	}
	if _, _, ok := l.Received(1, time.Second); ok { // before the answer was read
		t.Error("a receipt without a promise has a latency")
	}
	l.Accepted(1, 2*time.Second)
	l.Accepted(2, 20*time.Hour) // beyond what 32 bits hold
	l.Received(2, 20*time.Hour)
	got := map[int]time.Duration{}
	for n, d := range l.Latencies {
		got[n] = d
	}
	if d := cmp.Diff(map[int]time.Duration{0: 2500 * time.Millisecond, 1: 0}, got); d != "" {
		t.Error(d)
	}
}

// TestNegativeControls runs the comparison as a run does, with a carrier that
// does one thing wrong. The ledger must say so.
func TestNegativeControls(t *testing.T) {
	const n, victim = 500, 321
	content := func(n int) string { return Address("content of r", n, "x.test") }
	for name, c := range map[string]struct {
		deliver func(n int, take func(string))
		want    string
	}{
		"honest": {func(n int, take func(string)) { take(content(n)) }, ""},
		"drops one": {func(n int, take func(string)) {
			if n != victim {
				take(content(n))
			}
		}, "1 are delivered by the event log and were received by nobody: [321]"},
		"doubles one": {func(n int, take func(string)) {
			take(content(n))
			if n == victim {
				take(content(n))
			}
		}, "1 duplicates, 0 allowed: [321]"},
		"alters one byte": {func(n int, take func(string)) { take(strings.Replace(content(n), "r321@", "r321!", 1)) }, "1 arrived with other content than was sent: [321]"},
	} {
		t.Run(name, func(t *testing.T) {
			l := New(n)
			for i := range n {
				promise(l, i)
				l.Logged(i)
				c.deliver(i, func(got string) {
					l.Received(i, at)
					if got != content(i) {
						l.Altered(i)
					}
				})
				l.Ended(i, message.Delivered) // the product was told 250 by the carrier
			}
			l.LogRead()
			err := l.Balance().Err(0)
			want := strings.Replace(c.want, "1 are delivered by the event log and were received by nobody: [321]", "1 are delivered by the event log and were received by nobody: [321]", 1)
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q in it", err, want)
			}
		})
	}
}

func TestNumber(t *testing.T) {
	for address, want := range map[string]int{Address("bounce-", 42, "x.test"): 42, "r0@y.test": 0, "r7": 7, "12@z": 12, "a1b22@d3.test": 22} {
		if n, ok := Number(address); !ok || n != want {
			t.Errorf("%s: got %d, %v", address, n, ok)
		}
		if n, ok := Number([]byte(address)); !ok || n != want {
			t.Errorf("bytes %s: got %d, %v", address, n, ok)
		}
	}
	for _, address := range []string{"nobody@x.test", "", "@", "r@1", "r1x@y", "r1234567890123456789@y"} {
		if n, ok := Number(address); ok {
			t.Errorf("%q gave %d", address, n)
		}
	}
}

// TestTenMillionFitIn100MB is what the load suite promises.
func TestTenMillionFitIn100MB(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	l := New(10_000_000)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 100_000_000 {
		t.Errorf("%d bytes, want at most 100,000,000", used)
	}
	story(l, 9_999_999)
	if b := l.Balance(); b.Delivered != 1 {
		t.Errorf("%v", b)
	}
}

func TestNotingDoesNotAllocate(t *testing.T) {
	l := New(1000)
	n := 0
	if a := testing.AllocsPerRun(900, func() { story(l, n); n++ }); a != 0 {
		t.Errorf("%v allocations a message", a)
	}
}

// BenchmarkStory is all that is noted of one message: five events.
func BenchmarkStory(b *testing.B) {
	l := New(10_000_000)
	n := 0
	for b.Loop() {
		story(l, n)
		if n++; n == l.Len() {
			n = 0
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/5, "ns/event")
}

// BenchmarkStoryParallel has the receivers and the source on all cores.
func BenchmarkStoryParallel(b *testing.B) {
	l := New(10_000_000)
	b.RunParallel(func(pb *testing.PB) {
		n := 0
		for pb.Next() {
			story(l, n)
			if n++; n == l.Len() {
				n = 0
			}
		}
	})
}

func BenchmarkBalanceTenMillion(b *testing.B) {
	l := New(10_000_000)
	for n := range l.Len() {
		promise(l, n)
		l.Received(n, at)
	}
	for b.Loop() {
		if l.Balance().Delivered != l.Len() {
			b.Fatal("not all delivered")
		}
	}
}

func BenchmarkNumber(b *testing.B) {
	a := []byte("r1234567@d12.test")
	for b.Loop() {
		if n, _ := Number(a); n != 1234567 {
			b.Fatal(n)
		}
	}
}
