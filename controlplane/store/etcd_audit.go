package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
)

// Bounds of the audit log.
const (
	maxAuditText = 1000   // bytes of each text of an entry
	auditPage    = 100    // records read at once
	auditScan    = 20_000 // records that one question looks at
)

// Entry is one line of the audit log: what was ordered, by whom, and what came
// of it. Policy revisions are entries too.
type Entry struct {
	// ID is "audit/<number>" or "policy/<revision>".
	ID     string    `json:"id"`
	Time   time.Time `json:"time"`
	Author string    `json:"author"`
	Role   string    `json:"role,omitempty"`
	Action string    `json:"action"` // "hold", "cancel", "drain", "apply", …
	Scope  string    `json:"scope,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Result string    `json:"result,omitempty"`
}

// auditRecord is an entry as it is chained: its sum is the SHA-256 sum of the
// previous one's and of these bytes.
type auditRecord struct {
	Seq      int64     `json:"seq"`
	Previous string    `json:"previous"`
	Time     time.Time `json:"time"`
	Author   string    `json:"author"`
	Role     string    `json:"role,omitempty"`
	Action   string    `json:"action"`
	Scope    string    `json:"scope,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Result   string    `json:"result,omitempty"`
	Nonce    string    `json:"nonce"` // tells a writer its own
}

type auditValue struct {
	Sum   string          `json:"sum"`
	Entry json.RawMessage `json:"entry"`
}

// auditTail is the last record as it was last seen. It belongs to whoever has
// the audit's turn.
type auditTail struct {
	seq, mod int64
	sum      string
}

func decodeAudit(b []byte) (*auditRecord, string, error) {
	var v auditValue
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, "", fmt.Errorf("read an audit record: %w", err)
	}
	var r auditRecord
	if err := json.Unmarshal(v.Entry, &r); err != nil {
		return nil, "", fmt.Errorf("read an audit record: %w", err)
	}
	if v.Sum != auditSum(r.Previous, v.Entry) {
		return nil, "", fmt.Errorf("audit record %d does not match its SHA-256 sum", r.Seq)
	}
	return &r, v.Sum, nil
}

func auditSum(previous string, entry []byte) string {
	h := sha256.New()
	h.Write([]byte(previous))
	h.Write(entry)
	return hex.EncodeToString(h.Sum(nil))
}

// AppendAudit adds an entry at the end of the log. ID is set here, and Time
// where it is zero. There is no way to change or remove one.
func (e *Etcd) AppendAudit(ctx context.Context, x Entry) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	select {
	case <-e.auditTurn:
		defer func() { e.auditTurn <- struct{}{} }()
	case <-ctx.Done():
		return fmt.Errorf("wait for another audit record: %w", ctx.Err())
	}
	if x.Time.IsZero() {
		x.Time = e.o.Now()
	}
	err := e.append(ctx, auditRecord{
		Time: x.Time.UTC().Truncate(time.Millisecond), Author: cut(x.Author), Role: cut(x.Role), Action: cut(x.Action),
		Scope: cut(x.Scope), Reason: cut(x.Reason), Result: cut(x.Result), Nonce: keyspace.NewID(),
	})
	if err != nil {
		return fmt.Errorf("write to the audit log: %w", err)
	}
	return nil
}

// append needs the audit's turn. A record whose answer was lost is looked for
// before it is written again.
func (e *Etcd) append(ctx context.Context, rec auditRecord) error {
	known := e.tail.seq > 0
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := errAuditMoved
		if known {
			if err = e.tryAppend(ctx, rec); err == nil {
				return nil
			}
		}
		if !errors.Is(err, errAuditMoved) {
			if !mayPass(err) && ctx.Err() == nil {
				return err
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return fmt.Errorf("it is not known whether that was done: %w", err)
			}
		}
		mine := false
		switch mine, err = e.readTail(ctx, known, rec.Nonce); {
		case mine:
			return nil
		case err == nil:
			known = true
		case !mayPass(err):
			return err
		}
	}
}

// cut keeps an entry short, and valid as UTF-8.
func cut(s string) string {
	if len(s) > maxAuditText {
		s = s[:maxAuditText]
	}
	return strings.ToValidUTF8(s, "?")
}

var errAuditMoved = errors.New("somebody else has written meanwhile")

// tryAppend writes a record after the last one known.
func (e *Etcd) tryAppend(ctx context.Context, rec auditRecord) error {
	tail := e.tail
	rec.Seq, rec.Previous = tail.seq+1, tail.sum
	body, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	sum := auditSum(rec.Previous, body)
	value, err := json.Marshal(auditValue{sum, body})
	if err != nil {
		return err
	}
	key := e.o.Keys.Audit(rec.Seq)
	guard := []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)}
	if tail.seq > 0 {
		guard = append(guard, clientv3.Compare(clientv3.ModRevision(e.o.Keys.Audit(tail.seq)), "=", tail.mod))
	}
	resp, err := e.client.Txn(ctx).If(guard...).Then(clientv3.OpPut(key, string(value))).Commit()
	if err != nil {
		return err
	}
	if !resp.Succeeded {
		return errAuditMoved
	}
	e.tail = auditTail{rec.Seq, resp.Header.Revision, sum}
	return nil
}

// readTail reads the last record. With tried it looks whether one of those since
// the last that was known is the writer's own.
func (e *Etcd) readTail(ctx context.Context, tried bool, nonce string) (mine bool, err error) {
	end := clientv3.GetPrefixRangeEnd(e.o.Keys.Audit(0))
	last, err := e.client.Get(ctx, e.o.Keys.Audit(0), clientv3.WithRange(end), clientv3.WithLimit(1), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	if err != nil || len(last.Kvs) == 0 {
		return false, err
	}
	rec, sum, err := decodeAudit(last.Kvs[0].Value)
	if err != nil {
		return false, err
	}
	if after := e.tail.seq; tried {
		err = e.eachAudit(ctx, rec.Seq+1, func(r *auditRecord, _ string) (bool, error) {
			mine = mine || r.Nonce == nonce
			return !mine && r.Seq > after, nil
		})
		if err != nil {
			return false, err
		}
	}
	e.tail = auditTail{rec.Seq, last.Kvs[0].ModRevision, sum}
	return mine, nil
}

// eachAudit calls fn with the records below a number (0: all), newest first,
// until it says false.
func (e *Etcd) eachAudit(ctx context.Context, below int64, fn func(r *auditRecord, sum string) (bool, error)) error {
	end := clientv3.GetPrefixRangeEnd(e.o.Keys.Audit(0))
	if below > 0 {
		end = e.o.Keys.Audit(below)
	}
	for {
		resp, err := e.client.Get(ctx, e.o.Keys.Audit(0), clientv3.WithRange(end), clientv3.WithLimit(auditPage),
			clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
		if err != nil {
			return fmt.Errorf("read the audit log: %w", err)
		}
		for _, kv := range resp.Kvs {
			r, sum, err := decodeAudit(kv.Value)
			if err != nil {
				return err
			}
			if more, err := fn(r, sum); !more || err != nil {
				return err
			}
			end = string(kv.Key)
		}
		if !resp.More {
			return nil
		}
	}
}

// AuditFilter picks entries; empty fields pick all.
type AuditFilter struct {
	Author, Role, Action string
	Scope                string    // a part of it
	Since, Until         time.Time // from, and up to but not including
}

func (f *AuditFilter) takes(x *Entry) bool {
	return (f.Author == "" || f.Author == x.Author) && (f.Role == "" || f.Role == x.Role) &&
		(f.Action == "" || f.Action == x.Action) && strings.Contains(x.Scope, f.Scope) &&
		(f.Since.IsZero() || !x.Time.Before(f.Since)) && (f.Until.IsZero() || x.Time.Before(f.Until))
}

// AuditPage is some entries, newest first. Next asks for those after them; ""
// when there are no more.
type AuditPage struct {
	Entries []Entry
	Next    string
}

// ErrBadCursor says that a cursor is none of AuditPage.Next.
var ErrBadCursor = errors.New("not a place in the audit log")

// Audit lists orders and policy revisions together, newest first. before is ""
// or the Next of the page before. A page may be short, even empty, though there
// is a Next: only so many records are looked at for one question.
func (e *Etcd) Audit(ctx context.Context, f AuditFilter, limit int, before string) (*AuditPage, error) {
	if limit <= 0 || limit > 1000 {
		limit = 100
	}
	a, p, err := parseCursor(before)
	if err != nil {
		return nil, err
	}
	m := &auditMerge{e: e, ctx: ctx, audit: a, policy: p}
	page := &AuditPage{}
	for range auditScan {
		x, err := m.next()
		if err != nil {
			return nil, err
		}
		if x == nil {
			return page, nil
		}
		if f.takes(x) {
			page.Entries = append(page.Entries, *x)
		}
		if len(page.Entries) == limit || !f.Since.IsZero() && x.Time.Before(f.Since.Add(-time.Hour)) {
			// Clocks of control planes may differ by minutes, not by an hour.
			break
		}
	}
	if n := len(page.Entries); n == limit || f.Since.IsZero() {
		page.Next = m.cursor()
	}
	return page, nil
}

func parseCursor(s string) (audit, policy int64, err error) {
	if s == "" {
		return 0, 0, nil
	}
	a, p, ok := strings.Cut(s, ".")
	audit, err1 := strconv.ParseInt(a, 10, 64)
	policy, err2 := strconv.ParseInt(p, 10, 64)
	if !ok || err1 != nil || err2 != nil || audit < -1 || policy < -1 || audit == 0 && policy == 0 {
		return 0, 0, ErrBadCursor
	}
	return audit, policy, nil
}

// auditMerge reads both logs, each a page ahead. audit and policy are the
// numbers below which they go on: 0 from the end, -1 when there is nothing more.
type auditMerge struct {
	e             *Etcd
	ctx           context.Context // of one call of Audit
	audit, policy int64
	as, ps        []numbered
}

type numbered struct {
	n int64
	Entry
}

func (m *auditMerge) next() (*Entry, error) {
	if err := m.fill(); err != nil {
		return nil, err
	}
	switch {
	case len(m.as) == 0 && len(m.ps) == 0:
		return nil, nil
	case len(m.ps) == 0, len(m.as) > 0 && !m.as[0].Time.Before(m.ps[0].Time):
		x := m.as[0]
		m.as, m.audit = m.as[1:], below(x.n)
		return &x.Entry, nil
	}
	x := m.ps[0]
	m.ps, m.policy = m.ps[1:], below(x.n)
	return &x.Entry, nil
}

// below is where a log goes on after a record.
func below(n int64) int64 {
	if n <= 1 {
		return -1
	}
	return n
}

func (m *auditMerge) cursor() string {
	if m.audit < 0 && m.policy < 0 {
		return ""
	}
	return fmt.Sprintf("%d.%d", m.audit, m.policy)
}

func (m *auditMerge) fill() error {
	if len(m.as) == 0 && m.audit >= 0 {
		err := m.e.eachAudit(m.ctx, m.audit, func(r *auditRecord, _ string) (bool, error) {
			m.as = append(m.as, numbered{r.Seq, Entry{"audit/" + strconv.FormatInt(r.Seq, 10), r.Time, r.Author, r.Role, r.Action, r.Scope, r.Reason, r.Result}})
			return len(m.as) < auditPage, nil
		})
		if err != nil {
			return err
		}
		if len(m.as) == 0 {
			m.audit = -1
		}
	}
	if len(m.ps) == 0 && m.policy >= 0 {
		err := m.e.eachDelta(m.ctx, m.policy, func(d *keyspace.Delta) (bool, error) {
			m.ps = append(m.ps, numbered{d.Revision, policyEntry(d)})
			return len(m.ps) < historyPage, nil
		})
		if err != nil {
			return err
		}
		if len(m.ps) == 0 {
			m.policy = -1
		}
	}
	return nil
}

// policyEntry is a policy revision as a line of the audit log.
func policyEntry(d *keyspace.Delta) Entry {
	const named = 5
	var what []string
	for i, x := range d.Effects {
		if i == named {
			what = append(what, fmt.Sprintf("and %d more", len(d.Effects)-named))
			break
		}
		what = append(what, x.Action+" "+x.Kind+"/"+x.Name)
	}
	return Entry{
		ID: "policy/" + strconv.FormatInt(d.Revision, 10), Time: d.Time, Author: d.Author, Role: d.Role, Action: "policy",
		Scope: strings.Join(what, ", "), Reason: d.Reason, Result: "revision " + strconv.FormatInt(d.Revision, 10),
	}
}

// AuditProof is what VerifyAudit has found whole: how many entries, and the
// newest of both logs with its sum. Whoever notes these down elsewhere can tell
// later whether the end was cut off.
type AuditProof struct {
	Orders      int64
	Order       int64
	OrderSum    string
	Revisions   int64
	Revision    int64
	RevisionSum string
}

// VerifyAudit walks both chains from their ends and fails at the first record
// that was changed, or is missing from their middle.
func (e *Etcd) VerifyAudit(ctx context.Context) (*AuditProof, error) {
	p := &AuditProof{}
	previous, want := "", int64(0)
	err := e.eachAudit(ctx, 0, func(r *auditRecord, sum string) (bool, error) {
		if p.Orders == 0 {
			p.Order, p.OrderSum = r.Seq, sum
		} else if r.Seq != want || sum != previous {
			return false, fmt.Errorf("audit record %d is missing, or is not the one that %d follows", want, want+1)
		}
		p.Orders++
		previous, want = r.Previous, r.Seq-1
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	if p.Orders > 0 && want != 0 {
		return nil, fmt.Errorf("audit record %d is missing", want)
	}
	previous = ""
	err = e.eachDelta(ctx, 0, func(d *keyspace.Delta) (bool, error) {
		if p.Revisions == 0 {
			p.Revision, p.RevisionSum = d.Revision, d.Sum
		} else if d.Sum != previous {
			return false, fmt.Errorf("policy revision %d is not the one that the next follows, or one between is missing", d.Revision)
		}
		p.Revisions++
		previous = d.Previous
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	if previous != "" {
		return nil, errors.New("the oldest policy revisions are missing")
	}
	return p, nil
}
