package node

import (
	"sync"

	"hikyaku/node/compose"
	"hikyaku/spool/message"
)

// content is a message's content in memory, on its way from acceptance to its
// first attempt, or shared by the many deliveries of one template.
type content struct {
	msg  *message.Message
	once sync.Once
	tmpl *compose.Compiled
	err  error

	// In the cache, under its lock: the neighbours in the order of use.
	older, newer *content
}

// compiled is the template, compiled once however many sessions ask.
func (c *content) compiled() (*compose.Compiled, error) {
	c.once.Do(func() { c.tmpl, c.err = compose.Compile(c.msg.Template) })
	return c.tmpl, c.err
}

// size is about what it costs in memory.
func (c *content) size() int { return c.msg.Size() + contentOverhead }

// contentCache is the bounded hand-off of design.md 7: the first attempt never
// re-reads the spool. It is a cache and nothing more: what falls out is read
// back from the spool, so its bound costs time, never mail.
type contentCache struct {
	maxBytes int
	mu       struct {
		sync.Mutex
		byID  map[message.ID]*content
		ring  content // ring.newer is the least recently used, ring.older the most
		bytes int
		stats cacheStats
	}
}

type cacheStats struct {
	Hits, Misses, Evicted uint64
	Bytes, Messages       int
}

// contentOverhead is about what a message costs in memory beside its content.
const contentOverhead = 512

func newContentCache(maxBytes int) *contentCache {
	cc := &contentCache{maxBytes: maxBytes}
	cc.mu.byID = map[message.ID]*content{}
	cc.mu.ring.older, cc.mu.ring.newer = &cc.mu.ring, &cc.mu.ring
	return cc
}

// put adds a message; the oldest fall out while there is no room. A message
// larger than a quarter of the cache is not kept: it would push out all others.
func (cc *contentCache) put(m *message.Message) *content {
	c := &content{msg: m}
	size := c.size()
	if size > cc.maxBytes/4 {
		return c
	}
	cc.mu.Lock()
	defer cc.mu.Unlock()
	if known := cc.mu.byID[m.ID]; known != nil {
		return known
	}
	for cc.mu.bytes+size > cc.maxBytes && len(cc.mu.byID) > 0 {
		cc.dropLocked(cc.mu.ring.newer)
		cc.mu.stats.Evicted++
	}
	cc.mu.byID[m.ID] = c
	cc.linkLocked(c)
	cc.mu.bytes += size
	return c
}

// get returns the content, or nil when it must be read from the spool.
func (cc *contentCache) get(id message.ID) *content {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	c := cc.mu.byID[id]
	if c == nil {
		cc.mu.stats.Misses++
		return nil
	}
	cc.mu.stats.Hits++
	cc.unlinkLocked(c)
	cc.linkLocked(c)
	return c
}

// peek is get without counting or moving it up.
func (cc *contentCache) peek(id message.ID) *content {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	return cc.mu.byID[id]
}

// drop forgets a message whose last delivery in memory is done.
func (cc *contentCache) drop(id message.ID) {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	if c := cc.mu.byID[id]; c != nil {
		cc.dropLocked(c)
	}
}

func (cc *contentCache) dropLocked(c *content) {
	cc.unlinkLocked(c)
	delete(cc.mu.byID, c.msg.ID)
	cc.mu.bytes -= c.size()
}

// linkLocked makes c the most recently used.
func (cc *contentCache) linkLocked(c *content) {
	ring := &cc.mu.ring
	c.older, c.newer = ring.older, ring
	c.older.newer, ring.older = c, c
}

func (cc *contentCache) unlinkLocked(c *content) {
	c.older.newer, c.newer.older = c.newer, c.older
	c.older, c.newer = nil, nil
}

func (cc *contentCache) stats() cacheStats {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	s := cc.mu.stats
	s.Bytes, s.Messages = cc.mu.bytes, len(cc.mu.byID)
	return s
}
