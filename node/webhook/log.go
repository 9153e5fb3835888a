package webhook

import (
	"cmp"
	"strings"
)

// Log is the node's event log, as far as it matters here.
type Log interface {
	// Cursor makes a reader of blocks at any place.
	Cursor() Cursor
	// Changed is closed when there is more than when it was asked for.
	Changed() <-chan struct{}
	// End is the place after all that is durable.
	End() Place
	// Hold keeps what follows a place on disk as long as the log can afford it.
	Hold(Place) error
	// Held is what is held, if anything is.
	Held() (Place, bool)
	// Release ends Hold.
	Release() error
}

// Cursor is used by one goroutine at a time.
type Cursor interface {
	// Read returns the first block after a place; io.EOF when there is none yet.
	Read(Place) (Block, error)
	Close()
}

// Block is lines of the log.
type Block struct {
	Lines       []byte // the reader's to keep
	Prev        uint64 // last number of the block that was written before
	First, Last uint64 // numbers, which no other block has
	End         Place
}

// Place is a point between two blocks of the log. Everything up to Seq is before
// it.
type Place struct {
	Segment  string `json:"segment"`
	Position int64  `json:"position"`
	Seq      uint64 `json:"seq"`
}

// before compares places. Names of segments only go up.
func (p Place) before(q Place) bool {
	return cmp.Or(strings.Compare(p.Segment, q.Segment), cmp.Compare(p.Position, q.Position)) < 0
}

// position is a place and so many lines of the block that follows it, which is
// Block: another may follow by the time that it is read.
type position struct {
	Place
	Block uint64 `json:"block,omitempty"`
	Line  int    `json:"line,omitempty"`
}
