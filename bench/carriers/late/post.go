package late

import (
	"container/heap"
	"context"
	"fmt"
	"net"
	"net/smtp"
	"sync"
	"time"
)

// Options say whether and where late bounces and complaints are mailed.
type Options struct {
	// SMTP is the server that takes them, "host:port". "" mails none: they are
	// counted and forgotten.
	SMTP string
	// Complaints is where ARF reports go; default the envelope sender.
	Complaints string
	// Most bounds how many wait; what comes then is counted as lost. Default 10,000.
	Most int
}

// Counters say what became of the notices.
type Counters struct {
	Waiting int   `json:"waiting"`
	Sent    int64 `json:"sent"`
	Failed  int64 `json:"failed"` // the server did not take them, three times
	Lost    int64 `json:"lost"`   // the queue was full, or there was nobody to write to
}

// Post mails notices when they are due. The goroutine of Run sends them in turn
// over one connection.
type Post struct {
	o    Options
	wake chan struct{} // capacity 1
	mu   struct {
		sync.Mutex
		due   dueHeap
		count Counters
		last  int64
	}
}

type pending struct {
	Notice
	number int64 // in the order of arrival, so that equals stay in order
	tries  int
}

type dueHeap []*pending

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(i, j int) bool {
	if h[i].Due.Equal(h[j].Due) {
		return h[i].number < h[j].number
	}
	return h[i].Due.Before(h[j].Due)
}
func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)   { *h = append(*h, x.(*pending)) }
func (h *dueHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// New makes a Post, whose Run must follow.
func New(o Options) *Post {
	if o.Most <= 0 {
		o.Most = 10_000
	}
	return &Post{o: o, wake: make(chan struct{}, 1)}
}

// Add takes a notice, if there is somebody to send it to and room for it.
// RFC 5321 4.5.5: nothing is returned to the null sender.
func (p *Post) Add(n Notice) {
	if p.o.SMTP == "" {
		return
	}
	p.mu.Lock()
	switch {
	case p.recipient(&n) == "", len(p.mu.due) >= p.o.Most:
		p.mu.count.Lost++
	default:
		p.mu.last++
		heap.Push(&p.mu.due, &pending{Notice: n, number: p.mu.last})
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *Post) recipient(n *Notice) string {
	if n.Kind == Complaint && p.o.Complaints != "" {
		return p.o.Complaints
	}
	return n.From
}

// Counters are what happened so far.
func (p *Post) Counters() Counters {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.mu.count
	c.Waiting = len(p.mu.due)
	return c
}

// next takes out what is due, or says when something will be.
func (p *Post) next(now time.Time) (n *pending, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.mu.due) == 0 {
		return nil, time.Hour
	}
	if d := p.mu.due[0].Due.Sub(now); d > 0 {
		return nil, d
	}
	return heap.Pop(&p.mu.due).(*pending), 0
}

// Run sends until ctx ends; what waits then stays.
func (p *Post) Run(ctx context.Context) {
	var c *smtp.Client
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for {
		n, wait := p.next(time.Now())
		if n == nil {
			if c != nil && wait > time.Second {
				_ = c.Quit() // nobody waits on it
				c = nil
			}
			t := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				t.Stop()
				return
			case <-p.wake:
			case <-t.C:
			}
			t.Stop()
			continue
		}
		var err error
		if c, err = p.send(ctx, c, n); err != nil {
			p.again(n)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// again puts a notice back for later, or gives it up.
func (p *Post) again(n *pending) {
	const tries, pause = 3, 5 * time.Second
	p.mu.Lock()
	defer p.mu.Unlock()
	if n.tries++; n.tries >= tries {
		p.mu.count.Failed++
		return
	}
	n.Due = time.Now().Add(pause)
	heap.Push(&p.mu.due, n)
}

// send mails one notice over the connection, which it opens if there is none
// and closes if it failed.
func (p *Post) send(ctx context.Context, c *smtp.Client, n *pending) (*smtp.Client, error) {
	var err error
	if c == nil {
		d := net.Dialer{Timeout: 10 * time.Second}
		conn, err := d.DialContext(ctx, "tcp", p.o.SMTP)
		if err != nil {
			return nil, fmt.Errorf("send a notice: %w", err)
		}
		// The end of the farm ends what hangs.
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		if c, err = smtp.NewClient(conn, n.Host); err != nil {
			conn.Close()
			return nil, fmt.Errorf("send a notice: %w", err)
		}
		if err = c.Hello(n.Host); err != nil {
			c.Close()
			return nil, fmt.Errorf("send a notice: %w", err)
		}
	}
	if err = p.transact(c, n); err != nil {
		c.Close()
		return nil, fmt.Errorf("send a notice: %w", err)
	}
	p.mu.Lock()
	p.mu.count.Sent++
	p.mu.Unlock()
	return c, nil
}

func (p *Post) transact(c *smtp.Client, n *pending) error {
	to := p.recipient(&n.Notice)
	if err := c.Mail(""); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(n.Append(nil, to, time.Now(), fmt.Sprintf("%s-%d-%d", n.Carrier, n.Arrived.UnixNano(), n.number))); err != nil {
		return err
	}
	return w.Close()
}
