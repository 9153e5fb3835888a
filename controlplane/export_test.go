package controlplane

import (
	"context"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/lease"
)

// Errors of writes, for tests.
var (
	ErrDeposed  = errDeposed
	ErrConflict = errConflict
)

// WriteAs writes a record as a leader of the given term does that believes in
// its lease, whatever etcd says.
func WriteAs(ctx context.Context, c *Control, term int64, key string, mod int64, value string) error {
	keeper, err := lease.New(time.Now(), time.Minute, time.Second)
	if err != nil {
		return err
	}
	o := newOffice(c, keyspace.Leader{}, term, 0, keeper)
	_, err = o.commit(ctx, []write{{key: key, mod: mod, value: []byte(value)}})
	return err
}

// EncodeSteering makes a record of what was decided, and Patience is how long a
// change of it may wait for others.
var (
	EncodeSteering = encodeSteering
	Patience       = patience
)
