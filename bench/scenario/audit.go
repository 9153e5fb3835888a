package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"hikyaku/node/events"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// audit reads what a stopped node left on disk into the ledgers: the event log,
// and the recipients that are still in its spool.
func (t *trial) audit(ctx context.Context, dataDir string) error {
	ends := events.Query{Type: "accepted,delivered,bounced,expired,cancelled,suppressed"}
	found, err := events.SearchDir(ctx, filepath.Join(dataDir, "events"), ends, func(rec *message.EventRecord, _ []byte) error {
		f, n := t.flowOf(rec.Recipient)
		switch {
		case f == nil: // a notice to a sender, not one of the load's recipients
		case rec.Type == message.EventAccepted:
			f.ledger.Logged(n)
		default:
			f.ledger.Ended(n, endState[rec.Type])
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the event log: %w", err)
	}
	if found.DamagedBytes > 0 {
		return fmt.Errorf("the event log has %d damaged bytes", found.DamagedBytes)
	}
	if err := spool.Dump(filepath.Join(dataDir, "spool"), &queuedReader{trial: t}, message.Scope{}); err != nil {
		return fmt.Errorf("read the spool: %w", err)
	}
	return nil
}

var endState = map[message.EventType]message.State{
	message.EventDelivered: message.Delivered,
	message.EventBounced:   message.Bounced, message.EventSuppressed: message.Bounced,
	message.EventExpired:   message.Expired,
	message.EventCancelled: message.Cancelled,
}

// queuedReader takes Dump's lines and notes their recipients as queued.
type queuedReader struct {
	trial *trial
	rest  []byte // of a line that is not whole yet
}

func (q *queuedReader) Write(p []byte) (int, error) {
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			q.rest = append(q.rest, p...)
			return n, nil
		}
		line := p[:i]
		if len(q.rest) > 0 {
			line = append(q.rest, line...)
			q.rest = q.rest[:0]
		}
		p = p[i+1:]
		var d spool.DumpedDelivery
		if err := json.Unmarshal(line, &d); err != nil {
			return 0, fmt.Errorf("a dumped delivery: %w", err)
		}
		for _, r := range d.Recipients {
			if f, n := q.trial.flowOf(r); f != nil {
				f.ledger.Queued(n)
			}
		}
	}
}
