package keyspace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Entry is a key of etcd with its value.
type Entry struct {
	Key         string
	Value       []byte
	ModRevision int64
}

// Reader reads etcd as it was at one of its revisions. Both sides have one on
// their client; tests have one in memory.
type Reader interface {
	// Range gives the keys from, up to but not including end, in order, at most
	// limit. An empty end is from alone.
	Range(ctx context.Context, from, end string, limit int) ([]Entry, error)
}

// ErrDamaged says that what lies in etcd is not a policy.
var ErrDamaged = errors.New("policy in etcd is damaged")

// deltaPage is how many deltas are asked for at once: with MaxInline, a page
// has 16 MiB at most.
const deltaPage = 16

// LoadHead reads the head; a zero Head where there is no policy yet. mod is the
// mod revision of its key, 0 without.
func (k Keys) LoadHead(ctx context.Context, r Reader) (head Head, mod int64, err error) {
	kvs, err := r.Range(ctx, k.PolicyHead(), "", 1)
	if err != nil || len(kvs) == 0 {
		return Head{}, 0, err
	}
	head, err = DecodeHead(kvs[0].Value)
	return head, kvs[0].ModRevision, err
}

// DecodeHead reads the value of policy/head.
func DecodeHead(b []byte) (Head, error) {
	var h Head
	if err := json.Unmarshal(b, &h); err != nil {
		return Head{}, fmt.Errorf("%w: head: %w", ErrDamaged, err)
	}
	if h.Revision < 1 || h.Base < 0 || h.Base > h.Revision || h.Sum == "" {
		return Head{}, fmt.Errorf("%w: head is at revision %d with base %d", ErrDamaged, h.Revision, h.Base)
	}
	return h, nil
}

// LoadSnapshot reads the whole policy that head names.
func (k Keys) LoadSnapshot(ctx context.Context, r Reader, head Head) (*Snapshot, error) {
	s := &Snapshot{}
	if head.Base > 0 {
		var err error
		if s, err = k.LoadBase(ctx, r, head.Base); err != nil {
			return nil, err
		}
	}
	return k.follow(ctx, r, s, head)
}

// CatchUp brings a snapshot up to head by the revisions between alone, which
// costs little after a short absence. It fails with ErrGap where they do not
// follow from it; then LoadSnapshot may still work.
func (k Keys) CatchUp(ctx context.Context, r Reader, s *Snapshot, head Head) (*Snapshot, error) {
	if s.Revision > head.Revision {
		return nil, fmt.Errorf("policy revision %d upon %d: %w", head.Revision, s.Revision, ErrGap)
	}
	return k.follow(ctx, r, s, head)
}

// follow walks the deltas from s to head.
func (k Keys) follow(ctx context.Context, r Reader, s *Snapshot, head Head) (*Snapshot, error) {
	for s.Revision < head.Revision {
		kvs, err := r.Range(ctx, k.PolicyDelta(s.Revision+1), k.PolicyDelta(head.Revision+1), deltaPage)
		if err != nil {
			return nil, err
		}
		if len(kvs) == 0 {
			return nil, fmt.Errorf("policy revision %d is not there: %w", s.Revision+1, ErrGap)
		}
		for _, kv := range kvs {
			d, err := DecodeDelta(kv.Value)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
			}
			if s, err = k.Follow(ctx, r, s, d); err != nil {
				return nil, err
			}
		}
	}
	if s.Sum != head.Sum {
		return nil, fmt.Errorf("policy revision %d is not the one that head names: %w", s.Revision, ErrGap)
	}
	return s, nil
}

// Follow is Snapshot.Next for a delta that may have its resources in a base.
func (k Keys) Follow(ctx context.Context, r Reader, s *Snapshot, d *Delta) (*Snapshot, error) {
	next, err := s.Next(d)
	if !errors.Is(err, ErrNotInline) || d.Base == nil {
		return next, err
	}
	records, err := k.loadRecords(ctx, r, d.Revision, *d.Base)
	if err != nil {
		return nil, err
	}
	return NewSnapshot(d.Revision, d.Sum, records), nil
}

// LoadBase reads the base of a revision.
func (k Keys) LoadBase(ctx context.Context, r Reader, revision int64) (*Snapshot, error) {
	b, err := k.LoadBaseMeta(ctx, r, revision)
	if err != nil {
		return nil, err
	}
	records, err := k.loadRecords(ctx, r, revision, b.BaseRef)
	if err != nil {
		return nil, err
	}
	return NewSnapshot(revision, b.Sum, records), nil
}

// LoadBaseMeta reads what a base says of itself.
func (k Keys) LoadBaseMeta(ctx context.Context, r Reader, revision int64) (*Base, error) {
	kvs, err := r.Range(ctx, k.PolicyBase(revision), "", 1)
	if err != nil {
		return nil, err
	}
	if len(kvs) == 0 {
		return nil, fmt.Errorf("%w: base %d is not there", ErrDamaged, revision)
	}
	var b Base
	if err := json.Unmarshal(kvs[0].Value, &b); err != nil {
		return nil, fmt.Errorf("%w: base %d: %w", ErrDamaged, revision, err)
	}
	if b.Revision != revision {
		return nil, fmt.Errorf("%w: base %d says that it is %d", ErrDamaged, revision, b.Revision)
	}
	return &b, nil
}

func (k Keys) loadRecords(ctx context.Context, r Reader, revision int64, ref BaseRef) ([]Record, error) {
	if ref.Parts < 1 || ref.Parts > MaxBaseParts {
		return nil, fmt.Errorf("%w: base %d has %d parts", ErrDamaged, revision, ref.Parts)
	}
	var packed []byte
	for i := range ref.Parts {
		kvs, err := r.Range(ctx, k.PolicyBasePart(revision, ref.ID, i), "", 1)
		if err != nil {
			return nil, err
		}
		if len(kvs) == 0 {
			return nil, fmt.Errorf("%w: base %d lacks part %d of %d: %w", ErrDamaged, revision, i+1, ref.Parts, ErrNotInline)
		}
		packed = append(packed, kvs[0].Value...)
	}
	records, err := DecodeRecords(packed, ref)
	if err != nil {
		return nil, fmt.Errorf("%w: base %d: %w", ErrDamaged, revision, err)
	}
	return records, nil
}
