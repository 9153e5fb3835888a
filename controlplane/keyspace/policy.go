package keyspace

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"time"

	"hikyaku/controlplane/policy"
)

// How policy lies in etcd. Read on in policy_codec.go for the bytes and the
// chain of sums, policy_load.go for how a reader gets from head to a whole
// state, cluster.go for who may read at all.

// Record is one resource as it lies in etcd and in a node's snapshot: the spec
// without its secrets, and these sealed beside it.
type Record struct {
	Kind     string            `json:"kind"`
	Name     string            `json:"name"`
	Revision int64             `json:"revision"`
	Spec     json.RawMessage   `json:"spec"`
	Secrets  map[string]string `json:"secrets,omitempty"`
}

// ID is "Kind/name".
func (r *Record) ID() string { return r.Kind + "/" + r.Name }

// place is where a sealed text belongs (Key.Seal).
func (r *Record) place(key string) string { return r.ID() + " " + key }

// Compare orders records as policy.Compare does resources.
func (r *Record) Compare(o *Record) int {
	return policy.Compare(policy.Resource{Kind: r.Kind, Name: r.Name}, policy.Resource{Kind: o.Kind, Name: o.Name})
}

// SealResource makes the record of a resource. A secret that is the same in
// before (nil: there is none) keeps its sealed text, so that who cannot open it
// sees whether it changed.
func (k Key) SealResource(r *policy.Resource, before *Record) (Record, error) {
	out := Record{Kind: r.Kind, Name: r.Name, Revision: r.Revision}
	bare := cloneSpec(r.Spec)
	for key, s := range policy.Secrets(bare) {
		if s.IsZero() {
			continue
		}
		sealed, err := k.sealOnce(out.place(key), s.Reveal(), before, key)
		if err != nil {
			return Record{}, err
		}
		if out.Secrets == nil {
			out.Secrets = map[string]string{}
		}
		out.Secrets[key] = sealed
		*s = policy.Secret{}
	}
	var err error
	if out.Spec, err = json.Marshal(bare); err != nil {
		return Record{}, fmt.Errorf("encode %s: %w", r.ID(), err)
	}
	return out, nil
}

func (k Key) sealOnce(place, text string, before *Record, key string) (string, error) {
	if before != nil && before.Secrets[key] != "" {
		if old, err := k.Open(place, before.Secrets[key]); err == nil && old == text {
			return before.Secrets[key], nil
		}
	}
	return k.Seal(place, text)
}

// OpenRecord gives the resource back, with its secrets. later says that the
// record holds fields this version does not know: whoever changed it would
// drop them.
func (k Key) OpenRecord(r *Record) (_ policy.Resource, later bool, err error) {
	return r.resource(func(place, sealed string) (string, error) { return k.Open(place, sealed) })
}

// Listing is the resource for people: each secret it has is there, but shows
// nothing and holds nothing.
func (r *Record) Listing() (policy.Resource, error) {
	res, _, err := r.resource(func(string, string) (string, error) { return "(sealed)", nil })
	return res, err
}

func (r *Record) resource(open func(place, sealed string) (string, error)) (_ policy.Resource, later bool, err error) {
	spec := policy.NewSpec(r.Kind)
	if spec == nil {
		return policy.Resource{}, false, fmt.Errorf("%s: unknown kind", r.ID())
	}
	d := json.NewDecoder(bytes.NewReader(r.Spec))
	d.DisallowUnknownFields()
	if err := d.Decode(spec); err != nil {
		later = true
		spec = policy.NewSpec(r.Kind)
		if err := json.Unmarshal(r.Spec, spec); err != nil {
			return policy.Resource{}, false, fmt.Errorf("%s: %w", r.ID(), err)
		}
	} else if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return policy.Resource{}, false, fmt.Errorf("%s: something follows the spec", r.ID())
	}
	fields := policy.Secrets(spec)
	for key, sealed := range r.Secrets {
		if fields[key] == nil {
			later = true
			continue
		}
		text, err := open(r.place(key), sealed)
		if err != nil {
			return policy.Resource{}, false, err
		}
		*fields[key] = policy.NewSecret(text)
	}
	return policy.Resource{Kind: r.Kind, Name: r.Name, Revision: r.Revision, Spec: spec}, later, nil
}

// cloneSpec copies the struct itself, so that clearing secrets changes ours
// only.
func cloneSpec(spec any) any {
	v := reflect.ValueOf(spec)
	c := reflect.New(v.Type().Elem())
	c.Elem().Set(v.Elem())
	return c.Interface()
}

// Effect is what a revision did to one resource.
type Effect struct {
	Action string `json:"action"` // one of the words below
	Kind   string `json:"kind"`
	Name   string `json:"name"`
}

// The words of Effect.Action.
const (
	Created = "created"
	Changed = "changed"
	Deleted = "deleted"
)

// Delta is one revision of policy: who changed what, when and why, and the
// changed resources whole.
type Delta struct {
	Revision int64 `json:"revision"`
	// Previous is the sum of the revision before: the deltas are a chain.
	Previous string `json:"previous"`
	// ID is random. By it a writer whose answer was lost knows its own.
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	Author  string    `json:"author"`
	Role    string    `json:"role,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Effects []Effect  `json:"effects"`
	// Content is the SHA-256 sum of Records as they were encoded, in hex; with
	// Base, that of the records there.
	Content string `json:"content"`
	// Base says that the state after this revision lies whole under policy/base:
	// the change was too large for one record, or took over an older store.
	Base *BaseRef `json:"base,omitempty"`

	// Records are the created and changed resources. They are covered by
	// Content, so that they can be dropped when the revision is too old to go
	// back to (Strip), and the chain still holds.
	Records []Record `json:"-"`
	// Sum is the SHA-256 sum of Previous and of all the above, in hex.
	Sum string `json:"-"`
	// Stripped: Records were dropped.
	Stripped bool `json:"-"`
}

// Snapshot is all of policy at one revision, sealed as in etcd. It is immutable.
type Snapshot struct {
	Revision int64
	Sum      string   // of the delta at Revision; "" at revision 0
	Records  []Record // in the order of Record.Compare
}

// NewSnapshot puts records in order. They belong to it from then on.
func NewSnapshot(revision int64, sum string, records []Record) *Snapshot {
	slices.SortFunc(records, func(a, b Record) int { return a.Compare(&b) })
	return &Snapshot{revision, sum, records}
}

// Find gives a record, nil when there is none.
func (s *Snapshot) Find(kind, name string) *Record {
	i, ok := s.search(&Record{Kind: kind, Name: name})
	if !ok {
		return nil
	}
	return &s.Records[i]
}

func (s *Snapshot) search(r *Record) (int, bool) {
	return slices.BinarySearchFunc(s.Records, r, func(a Record, b *Record) int { return a.Compare(b) })
}

// ErrGap says that a delta does not follow the state it was put upon: revisions
// lie between, or it belongs to another history.
var ErrGap = errors.New("the revision does not follow the one before")

// ErrNotInline says that a delta does not hold its resources: they lie under
// policy/base, or are too old.
var ErrNotInline = errors.New("the revision does not hold its resources")

// Next is the state after one more revision.
func (s *Snapshot) Next(d *Delta) (*Snapshot, error) {
	if d.Base != nil && d.Revision > s.Revision {
		return nil, fmt.Errorf("policy revision %d: %w", d.Revision, ErrNotInline)
	}
	if d.Revision != s.Revision+1 || d.Previous != s.Sum {
		return nil, fmt.Errorf("policy revision %d upon %d: %w", d.Revision, s.Revision, ErrGap)
	}
	if d.Stripped {
		return nil, fmt.Errorf("policy revision %d: %w", d.Revision, ErrNotInline)
	}
	changed := make(map[[2]string]*Record, len(d.Effects))
	for _, e := range d.Effects {
		if e.Action == Deleted {
			changed[[2]string{e.Kind, e.Name}] = nil
		}
	}
	for i := range d.Records {
		changed[[2]string{d.Records[i].Kind, d.Records[i].Name}] = &d.Records[i]
	}
	records := make([]Record, 0, len(s.Records)+len(d.Records))
	for i := range s.Records {
		if _, ok := changed[[2]string{s.Records[i].Kind, s.Records[i].Name}]; !ok {
			records = append(records, s.Records[i])
		}
	}
	for _, r := range changed {
		if r != nil {
			records = append(records, *r)
		}
	}
	return NewSnapshot(d.Revision, d.Sum, records), nil
}

// Opened is a snapshot with its resources read.
type Opened struct {
	Resources []policy.Resource // in the order of policy.Compare
	// Later names what this version does not understand: resources of unknown
	// kinds, which are left out, and resources with unknown fields, which are
	// obeyed without them.
	Later []string
}

// OpenSnapshot reads all resources of a snapshot. What known has of the same
// resource at the same revision is taken from there; known must be of the same
// history, and as this gave it.
func (k Key) OpenSnapshot(s *Snapshot, known *Opened) (*Opened, error) {
	if known == nil {
		known = &Opened{}
	}
	o := &Opened{Resources: make([]policy.Resource, 0, len(s.Records))}
	for i := range s.Records {
		r := &s.Records[i]
		if policy.NewSpec(r.Kind) == nil {
			o.Later = append(o.Later, r.ID())
			continue
		}
		if old := known.find(r); old != nil && old.Revision == r.Revision && !slices.Contains(known.Later, r.ID()) {
			o.Resources = append(o.Resources, *old)
			continue
		}
		res, later, err := k.OpenRecord(r)
		if err != nil {
			return nil, err
		}
		if later {
			o.Later = append(o.Later, r.ID())
		}
		o.Resources = append(o.Resources, res)
	}
	return o, nil
}

func (o *Opened) find(r *Record) *policy.Resource {
	i, ok := slices.BinarySearchFunc(o.Resources, policy.Resource{Kind: r.Kind, Name: r.Name}, policy.Compare)
	if !ok {
		return nil
	}
	return &o.Resources[i]
}

// Same reports whether two records of a resource say the same, but for the
// revision, and whether their secrets do. Secrets are the same if they are
// sealed as the same text, as SealResource keeps them.
func (r *Record) Same(o *Record) (same, secretsSame bool) {
	secretsSame = maps.Equal(r.Secrets, o.Secrets)
	return secretsSame && bytes.Equal(r.Spec, o.Spec), secretsSame
}
