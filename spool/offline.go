package spool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hikyaku/spool/message"
)

// DumpedDelivery is one line of Dump.
type DumpedDelivery struct {
	ID         message.DeliveryID   `json:"id"`
	Queue      message.QueueKey     `json:"queue"`
	Due        time.Time            `json:"due"`
	Accepted   time.Time            `json:"accepted"`
	Expires    time.Time            `json:"expires"`
	Attempts   uint16               `json:"attempts"`
	Size       uint32               `json:"size"`
	Sender     *string              `json:"sender,omitempty"` // absent when the message cannot be read
	Recipients []string             `json:"recipients"`
	Last       *message.LastAttempt `json:"last,omitempty"`
	MovingTo   *Peer                `json:"moving_to,omitempty"` // offered to that node
	Problem    string               `json:"problem,omitempty"`
}

// Dump writes the deliveries in a scope of the spool in dir, which no process
// has open, as lines of JSON, in the order of their queues.
func Dump(dir string, w io.Writer, scope message.Scope) error {
	s, err := openOffline(dir)
	if err != nil {
		return err
	}
	return errors.Join(s.Dump(context.Background(), w, scope), s.Close())
}

// Dump writes the deliveries in a scope as lines of JSON.
func (s *Store) Dump(ctx context.Context, w io.Writer, scope message.Scope) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	var next Position
	for {
		ds, at, err := s.List(ctx, scope, next, 1000)
		if err != nil {
			return err
		}
		for _, d := range ds {
			line := DumpedDelivery{
				ID: d.ID, Queue: d.Queue, Due: d.Due, Accepted: d.Accepted, Expires: d.Expires,
				Attempts: d.Attempts, Size: d.Size, Last: d.Last,
			}
			if t, ok := s.transfers.moving(d.ID); ok {
				line.MovingTo = &t.To
			}
			for i := range d.Recipients {
				line.Recipients = append(line.Recipients, d.Recipients[i].Address)
			}
			if m, err := s.MessageMeta(d.ID.Message); err != nil {
				line.Problem = err.Error()
			} else {
				line.Sender = &m.Sender
			}
			if err := enc.Encode(&line); err != nil {
				return fmt.Errorf("write dump: %w", err)
			}
		}
		if next = at; next == "" {
			return nil
		}
	}
}

// Summary is what OfflineStats tells.
type Summary struct {
	Node         string             `json:"node"`
	Deliveries   int64              `json:"deliveries"`
	Queues       int64              `json:"queues"`
	Destinations int64              `json:"destinations"`
	Quarantined  int64              `json:"quarantined"`
	Outbox       int64              `json:"outbox"`
	Transfers    []Transfer         `json:"transfers,omitempty"` // open ones, to other nodes
	DiskBytes    uint64             `json:"disk_bytes"`
	FirstDue     time.Time          `json:"first_due,omitzero"`
	Top          []DestinationCount `json:"top"` // the longest, at most 50
	Tenants      []TenantCount      `json:"tenants"`
}

// DestinationCount is how many deliveries are queued for a destination.
type DestinationCount struct {
	Destination string `json:"destination"`
	Deliveries  int64  `json:"deliveries"`
}

// TenantCount is how many deliveries of a tenant are queued.
type TenantCount struct {
	Tenant     string `json:"tenant"`
	Deliveries int64  `json:"deliveries"`
}

const topDestinations = 50

// OfflineStats counts what is queued in dir, which no process has open.
func OfflineStats(dir string) (Summary, error) {
	s, err := openOffline(dir)
	if err != nil {
		return Summary{}, err
	}
	sum, err := s.summary()
	return sum, errors.Join(err, s.Close())
}

func (s *Store) summary() (Summary, error) {
	st := s.Stats()
	sum := Summary{Node: s.nodeID, Quarantined: st.Quarantined, Outbox: st.Outbox, Transfers: s.Transfers(), DiskBytes: s.Metrics().DiskBytes}
	tenants := map[string]int64{}
	prefix := []byte{kindQueue}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: keyEnd(prefix)})
	if err != nil {
		return sum, fmt.Errorf("count deliveries: %w", err)
	}
	var queue []byte
	var dest DestinationCount
	for ok := it.First(); ok; ok = it.Next() {
		p, due, _, good := queueTail(it.Key())
		if !good {
			continue
		}
		if !bytes.Equal(p, queue) {
			queue = append(queue[:0], p...)
			sum.Queues++
			if q, ok := parseQueuePrefix(p); ok && q.Destination != dest.Destination {
				sum.top(dest)
				dest = DestinationCount{Destination: q.Destination}
				sum.Destinations++
			}
		}
		if sum.FirstDue.IsZero() || due.Before(sum.FirstDue) {
			sum.FirstDue = due
		}
		sum.Deliveries++
		dest.Deliveries++
		tenants[string(tenantOfPrefix(p))]++
	}
	sum.top(dest)
	for t, n := range tenants {
		sum.Tenants = append(sum.Tenants, TenantCount{t, n})
	}
	slices.SortFunc(sum.Tenants, func(a, b TenantCount) int { return strings.Compare(a.Tenant, b.Tenant) })
	return sum, errors.Join(it.Error(), it.Close())
}

// top keeps the longest destinations, longest first.
func (sum *Summary) top(d DestinationCount) {
	if d.Deliveries == 0 {
		return
	}
	i, _ := slices.BinarySearchFunc(sum.Top, d, func(a, b DestinationCount) int { return int(b.Deliveries - a.Deliveries) })
	sum.Top = slices.Insert(sum.Top, i, d)
	sum.Top = sum.Top[:min(len(sum.Top), topDestinations)]
}
