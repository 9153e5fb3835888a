package gossip

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"
)

// The first byte of every text is the version of its form, the second its kind.
// A new field is simply added to the JSON that follows: readers skip what they do
// not know. A change that old nodes must not read gets a new version.
const wireVersion = 1

const (
	kindState   = 'S'
	kindWarning = 'W'
	kindSync    = 'A'
)

// Bounds of what is sent and heard.
const (
	maxMessage = 1000     // bytes of a state or warning: it must fit a datagram with others
	maxSync    = 16 << 20 // bytes; memberlist's own bound is 20 MiB
	maxQueues  = 16       // of a state
	maxText    = 128      // bytes of a carrier, source or pattern
)

// meta is what alive messages carry.
type meta struct {
	Version string `json:"v,omitempty"`
	Boot    int64  `json:"b"` // when the process started, Unix nanoseconds
}

// stateText is a State on its way.
type stateText struct {
	From   string      `json:"f"`
	Boot   int64       `json:"b"`
	Seq    uint64      `json:"n"`
	Load   float64     `json:"l,omitempty"`
	Queued int64       `json:"q,omitempty"`
	Drain  string      `json:"d,omitempty"`
	Queues []queueText `json:"c,omitempty"`
}

type queueText struct {
	Carrier string `json:"c"`
	Queued  int64  `json:"n"`
}

// warningText is a Warning on its way.
type warningText struct {
	From    string `json:"f"`
	Boot    int64  `json:"b"`
	Seq     uint64 `json:"n"`
	Carrier string `json:"c"`
	Source  string `json:"s,omitempty"`
	Pattern string `json:"p,omitempty"`
	Left    int64  `json:"l"` // milliseconds
}

// syncText is all that a node knows.
type syncText struct {
	States   []stateText   `json:"s,omitempty"`
	Warnings []warningText `json:"w,omitempty"`
}

func encode(kind byte, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("BUG: gossip: " + err.Error()) // plain structs of numbers and text
	}
	return append([]byte{wireVersion, kind}, b...)
}

var (
	errVersion = errors.New("a form that this version does not know")
	errLong    = errors.New("it is too long")
)

// decode reads a text of one of the kinds into v.
func decode(b []byte, kind byte, most int, v any) error {
	switch {
	case len(b) > most:
		return errLong
	case len(b) < 2 || b[0] != wireVersion || b[1] != kind:
		return errVersion
	}
	return json.Unmarshal(b[2:], v)
}

func decodeMeta(b []byte) (meta, error) {
	var m meta
	if err := json.Unmarshal(b, &m); err != nil {
		return meta{}, fmt.Errorf("meta: %w", err)
	}
	if len(m.Version) > maxVersion || !plain(m.Version) || m.Boot <= 0 {
		return meta{}, errors.New("meta: it is out of range")
	}
	return m, nil
}

func decodeState(b []byte) (stateText, error) {
	var s stateText
	if err := decode(b, kindState, maxMessage, &s); err != nil {
		return s, fmt.Errorf("state: %w", err)
	}
	return s, s.check()
}

func decodeWarning(b []byte) (warningText, error) {
	var w warningText
	if err := decode(b, kindWarning, maxMessage, &w); err != nil {
		return w, fmt.Errorf("warning: %w", err)
	}
	return w, w.check()
}

func decodeSync(b []byte) (syncText, error) {
	var s syncText
	if err := decode(b, kindSync, maxSync, &s); err != nil {
		return s, fmt.Errorf("synchronisation: %w", err)
	}
	if len(s.States) > MaxMembers || len(s.Warnings) > MaxWarnings {
		return s, fmt.Errorf("synchronisation: %w", errLong)
	}
	return s, nil // its parts are checked one by one: a bad one spoils no other
}

func (s *stateText) check() error {
	switch {
	case s.From == "" || !text(s.From) || s.Seq == 0:
		return errors.New("state: of nobody")
	case math.IsNaN(s.Load) || s.Load < 0 || s.Load > maxLoad || s.Queued < 0 || !text(s.Drain) || len(s.Queues) > maxQueues:
		return errors.New("state: it is out of range")
	}
	for _, q := range s.Queues {
		if q.Carrier == "" || !text(q.Carrier) || q.Queued < 0 {
			return errors.New("state: a queue is out of range")
		}
	}
	return nil
}

func (w *warningText) check() error {
	switch {
	case w.From == "" || !text(w.From) || w.Seq == 0:
		return errors.New("warning: of nobody")
	case w.Carrier == "" || !text(w.Carrier) || !text(w.Source) || !text(w.Pattern):
		return errors.New("warning: of nothing")
	case w.Left <= 0 || w.Left > MaxWarning.Milliseconds():
		return fmt.Errorf("warning: %s is out of range", time.Duration(w.Left)*time.Millisecond)
	}
	return nil
}

func text(s string) bool { return len(s) <= maxText && utf8.ValidString(s) && plain(s) }
