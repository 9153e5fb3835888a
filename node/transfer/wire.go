package transfer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"hikyaku/spool"
)

// The paths, all by POST. A parcel goes to Path in its own binary form
// (spool.ParseParcel); the rest is JSON, and so are all answers.
const (
	Path        = "/v1/transfer"
	pathHello   = Path + "/hello"
	pathAsk     = Path + "/ask"
	pathConfirm = Path + "/confirm"
	pathOrder   = Path + "/order"
)

// maxSmall bounds all that is JSON.
const maxSmall = 64 << 10

// question is the body of hello, ask and confirm.
type question struct {
	From    spool.Peer `json:"from"`
	To      string     `json:"to,omitempty"`     // the spool that is meant; hello asks for it
	Number  uint64     `json:"number,omitempty"` // ask
	Floor   uint64     `json:"floor,omitempty"`  // confirm
	Version int        `json:"version"`          // of parcels, the newest that the sender makes
}

// Order is what the sender of a delivery was told about it when it had been
// handed over, or while it was not known who has it.
type Order struct {
	From   spool.Peer `json:"from"`
	To     string     `json:"to"`
	ID     string     `json:"id"`   // of a delivery
	Verb   string     `json:"verb"` // "cancel" or "expire"
	Reason string     `json:"reason,omitempty"`
	Author string     `json:"author,omitempty"`
	At     time.Time  `json:"at"`
}

// reply answers everything.
type reply struct {
	Answer spool.Answer `json:"answer,omitempty"` // what became of a transfer
	Reason string       `json:"reason,omitempty"` // why not, for people

	// hello
	Node    string `json:"node,omitempty"`
	Spool   string `json:"spool,omitempty"`
	Ready   bool   `json:"ready,omitempty"`
	High    uint64 `json:"high,omitempty"`  // the highest number seen of the asker
	Floor   uint64 `json:"floor,omitempty"` // that the asker has told
	Bytes   int64  `json:"bytes,omitempty"` // the largest parcel that is taken
	Version int    `json:"version,omitempty"`
}

var errBody = errors.New("malformed body")

// readJSON reads one JSON value of at most maxSmall bytes. Fields that it does
// not know are for a newer version and left out.
func readJSON(r io.Reader, v any) error {
	b, err := io.ReadAll(io.LimitReader(r, maxSmall+1))
	if err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	if len(b) > maxSmall {
		return fmt.Errorf("%w: over %d bytes", errBody, maxSmall)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", errBody, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: more than one value", errBody)
	}
	return nil
}
