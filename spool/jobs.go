package spool

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// JobState is what was ordered for a job.
type JobState string

// The job states.
const (
	JobActive    JobState = "active"
	JobPaused    JobState = "paused"
	JobCancelled JobState = "cancelled"
)

// JobOrder is what an operator or the tenant ordered for a job.
type JobOrder struct {
	State   JobState     `json:"state"`
	Rate    *policy.Rate `json:"rate,omitempty"`
	Reason  string       `json:"reason,omitempty"`
	Author  string       `json:"author,omitempty"`
	Updated time.Time    `json:"updated,omitzero"`
}

// JobRecord is a job with its counters, which count recipients and are exact:
// accepted = delivered + bounced + expired + cancelled + still queued.
type JobRecord struct {
	Tenant string `json:"tenant"`
	Job    string `json:"job"`
	JobOrder
	Accepted  int64     `json:"accepted"`
	Delivered int64     `json:"delivered"`
	Bounced   int64     `json:"bounced"`
	Expired   int64     `json:"expired"`
	Cancelled int64     `json:"cancelled"`
	Created   time.Time `json:"created"`
	Activity  time.Time `json:"activity"` // last change of a counter
}

// Queued is how many recipients are still queued.
func (j *JobRecord) Queued() int64 {
	return j.Accepted - j.Delivered - j.Bounced - j.Expired - j.Cancelled
}

// jobCounts is the value under 'c', and what is merged into it.
type jobCounts struct {
	Accepted, Delivered, Bounced, Expired, Cancelled int64

	first, last int64 // microseconds
}

func (c *jobCounts) add(o *jobCounts) {
	c.Accepted += o.Accepted
	c.Delivered += o.Delivered
	c.Bounced += o.Bounced
	c.Expired += o.Expired
	c.Cancelled += o.Cancelled
	if o.first != 0 && (c.first == 0 || o.first < c.first) {
		c.first = o.first
	}
	c.last = max(c.last, o.last)
}

func (c *jobCounts) append(b []byte) []byte {
	b = append(b, recordVersion)
	for _, v := range [...]int64{c.Accepted, c.Delivered, c.Bounced, c.Expired, c.Cancelled, c.first, c.last} {
		b = binary.AppendVarint(b, v)
	}
	return b
}

// decodeCounts has no sum to check: a merge must be able to combine operands,
// whose key it knows but which are not records. Pebble's block sums cover it.
func decodeCounts(b []byte) (c jobCounts, err error) {
	if len(b) == 0 || b[0] != recordVersion {
		return c, fmt.Errorf("%w: job counters", errDamaged)
	}
	b = b[1:]
	for _, p := range [...]*int64{&c.Accepted, &c.Delivered, &c.Bounced, &c.Expired, &c.Cancelled, &c.first, &c.last} {
		v, n := binary.Varint(b)
		if n <= 0 {
			return c, fmt.Errorf("%w: job counters", errDamaged)
		}
		*p, b = v, b[n:]
	}
	if len(b) != 0 {
		return c, fmt.Errorf("%w: job counters", errDamaged)
	}
	return c, nil
}

func countFinals(fs []Final) (c jobCounts) {
	for i := range fs {
		switch fs[i].State {
		case message.Delivered:
			c.Delivered++
		case message.Bounced:
			c.Bounced++
		case message.Expired:
			c.Expired++
		case message.Cancelled:
			c.Cancelled++
		}
	}
	return c
}

// jobDelta is a change of one job's counters; the key lies in request.names.
type jobDelta struct {
	from, to int
	counts   jobCounts
}

func (r *request) addCount(q *message.QueueKey, c jobCounts) {
	if q.Job == "" {
		return
	}
	from := len(r.names)
	r.names = appendPairKey(r.names, kindCounters, q.Tenant, q.Job)
	// The deliveries of one submission are of one job.
	if n := len(r.jobs); n > 0 && bytes.Equal(r.names[from:], r.names[r.jobs[n-1].from:r.jobs[n-1].to]) {
		r.names = r.names[:from]
		r.jobs[n-1].counts.add(&c)
		return
	}
	r.jobs = append(r.jobs, jobDelta{from, len(r.names), c})
}

// addJobs writes one merge operand for each job that the batch touches.
func (c *committer) addJobs(b *pebble.Batch) {
	if len(c.jobs) == 0 {
		return
	}
	now := c.s.now().UnixMicro()
	for key, counts := range c.jobs {
		counts.first, counts.last = now, now
		c.value = counts.append(c.value[:0])
		must(b.Merge([]byte(key), c.value, nil))
	}
}

// countsMerger adds counters up. An operand that it cannot read is left out
// and counted: an error here would stop compaction for good.
type countsMerger struct {
	s   *Store
	sum jobCounts
}

// The name is stored on disk and must never change.
func (s *Store) merger() *pebble.Merger {
	return &pebble.Merger{
		Name: "hikyaku.counters.v1",
		Merge: func(_, value []byte) (pebble.ValueMerger, error) {
			m := &countsMerger{s: s}
			return m, m.MergeNewer(value)
		},
	}
}

// MergeNewer adds an operand. The order does not matter.
func (m *countsMerger) MergeNewer(value []byte) error {
	c, err := decodeCounts(value)
	if err != nil {
		m.s.stats.unreadable.Add(1)
		m.s.log.Error("job counters hold an operand that cannot be read", "operand", fmt.Sprintf("%x", value))
		return nil //nolint:nilerr // counted and shown; an error here would stop every compaction
	}
	m.sum.add(&c)
	return nil
}

// MergeOlder adds an operand.
func (m *countsMerger) MergeOlder(value []byte) error { return m.MergeNewer(value) }

// Finish returns the sum.
func (m *countsMerger) Finish(bool) ([]byte, io.Closer, error) { return m.sum.append(nil), nil, nil }

// Job finds a job. The error is ErrNotFound when nothing was ever accepted or
// ordered for it.
func (s *Store) Job(tenant, job string) (JobRecord, error) {
	if err := s.enter(); err != nil {
		return JobRecord{}, err
	}
	defer s.leave()
	key := appendPairKey(nil, kindCounters, tenant, job)
	v, err := s.get(key)
	if err == nil && v == nil {
		err = ErrNotFound
	}
	if err != nil {
		return JobRecord{}, fmt.Errorf("job %s of %s: %w", job, tenant, err)
	}
	return s.jobRecord(key, v)
}

// jobRecord joins the counters with what was ordered.
func (s *Store) jobRecord(key, value []byte) (JobRecord, error) {
	c, err := decodeCounts(value)
	if err != nil {
		s.quarantine(key, value, err)
		return JobRecord{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	j := JobRecord{
		JobOrder: JobOrder{State: JobActive},
		Accepted: c.Accepted, Delivered: c.Delivered, Bounced: c.Bounced, Expired: c.Expired, Cancelled: c.Cancelled,
		Created: time.UnixMicro(c.first).UTC(), Activity: time.UnixMicro(c.last).UTC(),
	}
	j.Tenant, j.Job, _ = parsePair(key)
	order := append([]byte{kindJob}, key[1:]...)
	v, err := s.get(order)
	if v == nil || err != nil {
		return j, err
	}
	if err := decodeJSON(order, v, &j.JobOrder); err != nil {
		s.quarantine(order, v, err)
		j.JobOrder = JobOrder{State: JobActive}
	}
	return j, nil
}

// PutJob orders something for a job and returns when that is durable.
func (s *Store) PutJob(ctx context.Context, tenant, job string, o JobOrder) error {
	if err := checkName(tenant, job); err != nil {
		return err
	}
	if o.State != JobActive && o.State != JobPaused && o.State != JobCancelled {
		return fmt.Errorf("%w: job state %q", ErrInvalid, o.State)
	}
	return s.write(ctx, func(b *pebble.Batch) error {
		key := appendPairKey(nil, kindJob, tenant, job)
		v, err := encodeJSON(key, &o)
		if err != nil {
			return err
		}
		must(b.Set(key, v, nil))
		now := s.now().UnixMicro()
		key[0] = kindCounters // a job is listed by its counters
		must(b.Merge(key, (&jobCounts{first: now, last: now}).append(nil), nil))
		return nil
	})
}

// Jobs lists jobs behind the one named, of one tenant or ("") of all, in the
// order of tenant and name.
func (s *Store) Jobs(tenant, afterTenant, afterJob string, limit int) (js []JobRecord, more bool, err error) {
	err = s.eachJob(tenant, afterTenant, afterJob, func(key, value []byte) (bool, error) {
		if len(js) >= limit {
			more = true
			return false, nil
		}
		j, err := s.jobRecord(key, value)
		if err == nil {
			js = append(js, j)
		} else if errors.Is(err, ErrUnreadable) {
			err = nil
		}
		return true, err
	})
	return js, more, err
}

func (s *Store) eachJob(tenant, afterTenant, afterJob string, fn func(key, value []byte) (bool, error)) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	lower := []byte{kindCounters}
	if tenant != "" {
		lower = appendName(lower, tenant)
	}
	upper := keyEnd(lower)
	if afterJob != "" {
		lower = append(appendPairKey(nil, kindCounters, afterTenant, afterJob), 0)
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return fmt.Errorf("list jobs: %w", err)
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var goOn bool
		if goOn, err = fn(append([]byte(nil), it.Key()...), append([]byte(nil), it.Value()...)); !goOn {
			break
		}
	}
	return errors.Join(err, it.Error(), it.Close())
}

// expireJobs forgets jobs of which nothing is queued and nothing has happened
// for the retention.
func (s *Store) expireJobs(now time.Time) error {
	limit := now.Add(-s.opt.JobRetention).UnixMicro()
	var dead [][]byte
	err := s.eachJob("", "", "", func(key, value []byte) (bool, error) {
		if c, err := decodeCounts(value); err == nil && jobEnded(&c, limit) {
			dead = append(dead, key)
		}
		return len(dead) < 10_000, nil
	})
	if err != nil || len(dead) == 0 {
		return err
	}
	return s.housekeepingWrite(func(b *pebble.Batch) error {
		for _, key := range dead {
			v, err := s.get(key) // it may have come to life again
			if err != nil {
				return err
			}
			if c, err := decodeCounts(v); err == nil && jobEnded(&c, limit) {
				must(b.Delete(key, nil))
				must(b.Delete(append([]byte{kindJob}, key[1:]...), nil))
			}
		}
		return nil
	})
}

func jobEnded(c *jobCounts, limit int64) bool {
	return c.last < limit && c.Accepted == c.Delivered+c.Bounced+c.Expired+c.Cancelled
}

// encodeJSON makes a record of a value that is rare and grows new fields more
// often than the mail does.
func encodeJSON(key []byte, v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return seal(append([]byte{recordVersion}, text...), 0, key), nil
}

func decodeJSON(key, value []byte, v any) error {
	f, err := unseal(key, value)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(f.rest(), v); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return nil
}
