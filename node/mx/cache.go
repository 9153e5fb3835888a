package mx

import (
	"container/list"
	"time"
)

// key is one question: a name, lower case without the final dot, and a type.
type key struct {
	name  string
	qtype uint16
}

// cache holds answers until their time to live has passed, and the least
// recently used ones only while there is room. Not safe for concurrent use:
// Resolver.mu guards it.
type cache struct {
	room      int // sum of costs that fit
	used      int
	order     list.List // of *entry, most recently used first
	entries   map[key]*list.Element
	evictions uint64
}

type entry struct {
	key key
	rec *records
}

// cost is what an answer takes of the cache's room. A hostile domain's answer
// of 64 long names counts for nine small ones.
func (r *records) cost() int {
	text := 0
	for _, t := range r.texts {
		text += len(t)
	}
	return 1 + (len(r.mx)+len(r.addrs))/8 + text/400
}

func (c *cache) get(k key, now time.Time) *records {
	el := c.entries[k]
	if el == nil {
		return nil
	}
	e := el.Value.(*entry)
	if !now.Before(e.rec.until) {
		c.remove(el) // never used beyond its time
		return nil
	}
	c.order.MoveToFront(el)
	return e.rec
}

func (c *cache) put(k key, rec *records) {
	if el := c.entries[k]; el != nil {
		c.remove(el)
	}
	c.entries[k] = c.order.PushFront(&entry{k, rec})
	c.used += rec.cost()
	for c.used > c.room && c.order.Len() > 1 {
		c.remove(c.order.Back())
		c.evictions++
	}
}

func (c *cache) remove(el *list.Element) {
	e := c.order.Remove(el).(*entry)
	delete(c.entries, e.key)
	c.used -= e.rec.cost()
}
