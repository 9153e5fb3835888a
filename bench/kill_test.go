package bench

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hikyaku/bench/ledger"
	"hikyaku/bench/peers"
	"hikyaku/bench/sink"
)

// killRun is one run of kill -9 under load.
type killRun struct {
	rounds  int
	clients int
	args    []string // of serve, for the negative control
}

// syncWindow is how long a delivery may be known to the receiver and not yet
// be durable here (design.md 5.3, safety.md I5): what was received in this
// time before a kill may be sent again.
const syncWindow = 20 * time.Millisecond

// receiver counts what arrives and what a kill at this moment may double.
type receiver struct {
	ledger *ledger.Ledger
	began  time.Time
	mu     struct {
		sync.Mutex
		recent []time.Time // receipts in the last seconds
	}
}

func (r *receiver) message(m *sink.Received) string {
	for _, to := range m.To {
		if n, ok := ledger.Number(to); ok {
			r.ledger.Received(n, m.At.Sub(r.began))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.recent = append(r.mu.recent, m.At)
	if len(r.mu.recent) > 100_000 {
		r.mu.recent = append(r.mu.recent[:0], r.mu.recent[50_000:]...)
	}
	return ""
}

// since counts receipts after t.
func (r *receiver) since(t time.Time) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.mu.recent) - 1; i >= 0 && r.mu.recent[i].After(t); i-- {
		n++
	}
	return n
}

// maxNumbers bounds a run's messages.
const maxNumbers = 4_000_000

// run kills the node in each round and returns the balance and how many
// duplicates the kills may have made.
func (k killRun) run(tb testing.TB) (ledger.Balance, int) {
	tb.Helper()
	r := &receiver{ledger: ledger.New(maxNumbers), began: time.Now()}
	s := startSink(tb, sink.Options{Message: r.message})
	h := peers.StartHikyaku(tb, peers.HikyakuOptions{Policy: route(s.Addr), Args: k.args})
	var next atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range k.clients {
		wg.Go(func() { r.inject(h.SMTP, &next, stop) })
	}
	rnd := rand.New(rand.NewPCG(1, uint64(k.rounds)))
	allowed := 0
	for round := range k.rounds {
		<-time.After(time.Duration(150+rnd.IntN(350)) * time.Millisecond)
		at := time.Now()
		_ = h.Kill()
		// One more per connection: the receipt may still be in its buffers.
		allowed += r.since(at.Add(-syncWindow)) + 20
		h.Restart(tb)
		if round%10 == 9 {
			tb.Logf("round %d: offered %d", round+1, next.Load())
		}
	}
	close(stop)
	wg.Wait()
	drained(tb, h, 2*time.Minute)
	return r.ledger.Balance(), allowed
}

// drained waits until nothing is queued.
func drained(tb testing.TB, h *peers.Hikyaku, within time.Duration) {
	tb.Helper()
	peers.Until(tb, within, "the queue to be empty", func() bool {
		status, v := h.Get(tb, "http://"+h.Admin+"/v1/overview")
		if status != 200 {
			return false
		}
		queue, _ := v["queue"].(map[string]any)
		queued, ok := queue["queued"].(float64)
		counted, _ := queue["counted"].(bool)
		return ok && counted && queued == 0
	})
}

// inject sends messages over its own connections until stopped, noting what
// was offered and what was promised. A lost connection is made again.
func (r *receiver) inject(addr string, next *atomic.Int64, stop chan struct{}) {
	body := strings.Repeat("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n", 30)
	for {
		select {
		case <-stop:
			return
		default:
		}
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			<-time.After(5 * time.Millisecond)
			continue
		}
		r.injectOn(c, next, stop, body)
		c.Close()
	}
}

func (r *receiver) injectOn(c net.Conn, next *atomic.Int64, stop chan struct{}, body string) {
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	in := bufio.NewReader(c)
	expect := func(code string) bool {
		for {
			line, err := in.ReadString('\n')
			if err != nil || len(line) < 4 {
				return false
			}
			if line[3] == ' ' {
				return strings.HasPrefix(line, code)
			}
		}
	}
	if !expect("220") {
		return
	}
	if _, err := fmt.Fprintf(c, "EHLO load.test\r\n"); err != nil || !expect("250") {
		return
	}
	for {
		select {
		case <-stop:
			return
		default:
		}
		n := int(next.Add(1)) - 1
		if n >= maxNumbers {
			return
		}
		r.ledger.Offered(n)
		fmt.Fprintf(c, "MAIL FROM:<load@source.test>\r\nRCPT TO:<%s>\r\nDATA\r\n", ledger.Address("r", n, fmt.Sprintf("d%d.test", n%50)))
		for _, code := range []string{"250", "250", "354"} {
			if !expect(code) {
				return
			}
		}
		fmt.Fprintf(c, "Subject: %d\r\n\r\n%s.\r\n", n, body)
		if !expect("250") {
			return
		}
		r.ledger.Accepted(n, time.Since(r.began))
	}
}

// long picks the size of a test: the full form is make test-long's.
func long(short, full int) int {
	if os.Getenv("HIKYAKU_LONG") == "1" {
		return full
	}
	return short
}

// TestKillNothingIsLost is the node's promise: kill -9 under load, again and
// again, loses nothing and doubles no more than was in flight.
func TestKillNothingIsLost(t *testing.T) {
	k := killRun{rounds: long(5, 100), clients: 10}
	b, allowed := k.run(t)
	t.Logf("%d rounds: %v (at most %d duplicates allowed)", k.rounds, b, allowed)
	if err := b.Err(allowed); err != nil {
		t.Error(err)
	}
	if b.Accepted < 100*k.rounds {
		t.Errorf("only %d accepted in %d rounds: the load was too thin to prove anything", b.Accepted, k.rounds)
	}
}

// TestNegativeKillWithoutSyncLosesMail switches the protection off: the same
// run must find losses, or it could not find them at all.
func TestNegativeKillWithoutSyncLosesMail(t *testing.T) {
	k := killRun{rounds: long(5, 30), clients: 10, args: []string{"--unsafe-no-sync"}}
	b, _ := k.run(t)
	t.Logf("%d rounds without sync: %v", k.rounds, b)
	if b.Lost.Count == 0 {
		t.Errorf("nothing was lost although 250 was said before the write: the test proves nothing")
	}
}
