package gossip

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"sync"
	"time"
)

// Metrics is a snapshot of counters since the start.
type Metrics struct {
	Members  int // alive now, this node among them
	Lost     int // being looked for
	Warnings int // in force
	Health   int // of this node's own part: 0 is well, more is slow to answer

	Joined, Gone     uint64 // members, this node among them
	Refused          uint64 // members not taken in: too many, or a bad name
	Conflicts        uint64 // words of a second node with a name that is taken
	JoinsFailed      uint64
	StatesHeard      uint64
	WarningsSent     uint64
	WarningsHeard    uint64
	WarningsRepeated uint64 // heard before, or sent again too soon
	WarningsDropped  uint64 // for want of room
	Unreadable       uint64 // texts that were not understood
	Foreign          uint64 // texts that speak for nobody who is a member
	// Complaints are the warnings and errors of memberlist: packets with
	// another key, connections that fail, and the like.
	Complaints uint64
}

// Metrics is the state of the counters now.
func (g *Gossip) Metrics() Metrics {
	health := g.list.GetHealthScore()
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.mu.metrics
	m.Members, m.Lost, m.Health = len(g.mu.peers), len(g.mu.lost), health
	now := time.Now()
	for _, w := range g.mu.warnings {
		if now.Before(w.until) {
			m.Warnings++
		}
	}
	m.Complaints = g.complaints.count()
	return m
}

// complaints turns memberlist's log into ours. A stranger can make it speak with
// every packet, so lines are counted, and few are written.
type complaints struct {
	log *slog.Logger
	mu  struct {
		sync.Mutex
		n        uint64
		left     int
		since    time.Time
		withheld int
	}
}

const complaintsPerMinute = 20

func (c *complaints) logger() *log.Logger { return log.New(c, "", 0) }

func (c *complaints) count() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.n
}

// Write takes one line: "[ERR] memberlist: …".
func (c *complaints) Write(b []byte) (int, error) {
	level, line := slog.LevelWarn, bytes.TrimSpace(b)
	for word, l := range map[string]slog.Level{"[DEBUG] ": slog.LevelDebug, "[INFO] ": slog.LevelInfo, "[WARN] ": slog.LevelWarn, "[ERR] ": slog.LevelWarn, "[ERROR] ": slog.LevelWarn} {
		if rest, ok := bytes.CutPrefix(line, []byte(word)); ok {
			level, line = l, rest
			break
		}
	}
	line = bytes.TrimPrefix(line, []byte("memberlist: "))
	if level < slog.LevelWarn {
		c.log.Log(context.Background(), slog.LevelDebug, "gossip: "+string(line))
		return len(b), nil
	}
	if withheld, ok := c.allowed(time.Now()); ok {
		c.log.Warn("gossip: "+string(line[:min(len(line), 500)]), "withheld", withheld)
	}
	return len(b), nil
}

// allowed counts a complaint and says whether to write it, and how many were not
// written before it.
func (c *complaints) allowed(now time.Time) (withheld int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.n++
	if now.Sub(c.mu.since) > time.Minute {
		c.mu.since, c.mu.left = now, complaintsPerMinute
	}
	if c.mu.left == 0 {
		c.mu.withheld++
		return 0, false
	}
	c.mu.left--
	withheld, c.mu.withheld = c.mu.withheld, 0
	return withheld, true
}
