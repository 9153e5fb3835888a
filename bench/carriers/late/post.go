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
	// Pause is the time between tries of one notice. Default 5 s.
	Pause time.Duration
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
	if o.Pause <= 0 {
		o.Pause = 5 * time.Second
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

// link is the connection to the server that takes the notices.
type link struct {
	c    *smtp.Client
	conn net.Conn
	stop func() bool // it is closed when the run ends
}

func (l *link) close() {
	if l != nil {
		l.stop()
		l.c.Close()
	}
}

// Run sends until ctx ends; what waits then stays.
func (p *Post) Run(ctx context.Context) {
	var l *link
	defer func() { l.close() }()
	for ctx.Err() == nil {
		n, wait := p.next(time.Now())
		if n == nil {
			if wait > time.Second {
				l.close() // nobody waits on it
				l = nil
			}
			t := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-p.wake:
			case <-t.C:
			}
			t.Stop()
			continue
		}
		var err error
		if l == nil {
			l, err = p.connect(ctx, n.Host)
		}
		if err == nil {
			err = p.transact(l, n)
		}
		if err != nil {
			l.close()
			l = nil
			p.again(n)
			continue
		}
		p.mu.Lock()
		p.mu.count.Sent++
		p.mu.Unlock()
	}
}

// again puts a notice back for later, or gives it up.
func (p *Post) again(n *pending) {
	const tries = 3
	p.mu.Lock()
	defer p.mu.Unlock()
	if n.tries++; n.tries >= tries {
		p.mu.count.Failed++
		return
	}
	n.Due = time.Now().Add(p.o.Pause)
	heap.Push(&p.mu.due, n)
}

// patience bounds the connect and each notice: a server that hangs must not
// hang the run.
const patience = 30 * time.Second

func (p *Post) connect(ctx context.Context, name string) (*link, error) {
	d := net.Dialer{Timeout: patience}
	conn, err := d.DialContext(ctx, "tcp", p.o.SMTP)
	if err != nil {
		return nil, err
	}
	l := &link{conn: conn, stop: context.AfterFunc(ctx, func() { conn.Close() })}
	if err = conn.SetDeadline(time.Now().Add(patience)); err == nil {
		if l.c, err = smtp.NewClient(conn, name); err == nil {
			if err = l.c.Hello(name); err == nil {
				return l, nil
			}
		}
	}
	l.stop()
	conn.Close()
	return nil, err
}

func (p *Post) transact(l *link, n *pending) error {
	if err := l.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	to := p.recipient(&n.Notice)
	if err := l.c.Mail(""); err != nil {
		return err
	}
	if err := l.c.Rcpt(to); err != nil {
		return err
	}
	w, err := l.c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(n.Append(nil, to, time.Now(), fmt.Sprintf("%s-%d-%d", n.Carrier, n.Arrived.UnixNano(), n.number))); err != nil {
		return err
	}
	return w.Close()
}
