package node

import (
	"container/list"
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
}

// compiled is the template, compiled once however many sessions ask.
func (c *content) compiled() (*compose.Compiled, error) {
	c.once.Do(func() { c.tmpl, c.err = compose.Compile(c.msg.Template) })
	return c.tmpl, c.err
}

// contentCache is the bounded hand-off of design.md 7: the first attempt never
// re-reads the spool. It is a cache and nothing more: what falls out is read
// back from the spool, so its bound costs time, never mail.
type contentCache struct {
	maxBytes int
	mu       struct {
		sync.Mutex
		byID  map[message.ID]*list.Element
		order *list.List // of *cached, least recently used first
		bytes int
		stats cacheStats
	}
}

type cached struct {
	id   message.ID
	c    *content
	size int
}

type cacheStats struct {
	Hits, Misses, Evicted uint64
	Bytes, Messages       int
}

// contentOverhead is about what a message costs in memory beside its content.
const contentOverhead = 512

func newContentCache(maxBytes int) *contentCache {
	cc := &contentCache{maxBytes: maxBytes}
	cc.mu.byID = map[message.ID]*list.Element{}
	cc.mu.order = list.New()
	return cc
}

// put adds a message; the oldest fall out while there is no room. A message
// larger than a quarter of the cache is not kept: it would push out all others.
func (cc *contentCache) put(m *message.Message) *content {
	c := &content{msg: m}
	size := m.Size() + contentOverhead
	if size > cc.maxBytes/4 {
		return c
	}
	cc.mu.Lock()
	defer cc.mu.Unlock()
	if e, ok := cc.mu.byID[m.ID]; ok {
		return e.Value.(*cached).c
	}
	for cc.mu.bytes+size > cc.maxBytes && cc.mu.order.Len() > 0 {
		cc.dropLocked(cc.mu.order.Front())
		cc.mu.stats.Evicted++
	}
	cc.mu.byID[m.ID] = cc.mu.order.PushBack(&cached{m.ID, c, size})
	cc.mu.bytes += size
	return c
}

// get returns the content, or nil when it must be read from the spool.
func (cc *contentCache) get(id message.ID) *content {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	e, ok := cc.mu.byID[id]
	if !ok {
		cc.mu.stats.Misses++
		return nil
	}
	cc.mu.stats.Hits++
	cc.mu.order.MoveToBack(e)
	return e.Value.(*cached).c
}

// peek is get without counting or moving it up.
func (cc *contentCache) peek(id message.ID) *content {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	if e, ok := cc.mu.byID[id]; ok {
		return e.Value.(*cached).c
	}
	return nil
}

// drop forgets a message whose last delivery in memory is done.
func (cc *contentCache) drop(id message.ID) {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	if e, ok := cc.mu.byID[id]; ok {
		cc.dropLocked(e)
	}
}

func (cc *contentCache) dropLocked(e *list.Element) {
	c := cc.mu.order.Remove(e).(*cached)
	delete(cc.mu.byID, c.id)
	cc.mu.bytes -= c.size
}

func (cc *contentCache) stats() cacheStats {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	s := cc.mu.stats
	s.Bytes, s.Messages = cc.mu.bytes, cc.mu.order.Len()
	return s
}
