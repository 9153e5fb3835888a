package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"hikyaku/controlplane/catalogue"
	"hikyaku/controlplane/policy"
)

// formatVersion is the version of the file format. A reader refuses a later
// one; an earlier one it must be able to read.
const formatVersion = 1

// envelope is one revision file: the state as it stands in State, and its sum,
// so that a damaged disk is noticed and not obeyed.
type envelope struct {
	Format int             `json:"format"`
	SHA256 string          `json:"sha256"`
	State  json.RawMessage `json:"state"`
}

type stateRecord struct {
	Revision  int64        `json:"revision"`
	Time      time.Time    `json:"time"`
	Author    string       `json:"author"`
	Reason    string       `json:"reason,omitempty"`
	Effects   []EffectName `json:"effects"`
	Resources []record     `json:"resources"`
}

// record is one resource. Secrets stand beside the spec, since a spec never
// shows its own.
type record struct {
	Kind     string            `json:"kind"`
	Name     string            `json:"name"`
	Revision int64             `json:"revision"`
	Spec     json.RawMessage   `json:"spec"`
	Secrets  map[string]string `json:"secrets,omitempty"`
}

func newRecord(r *policy.Resource) (record, error) {
	bare := cloneSpec(r.Spec)
	var texts map[string]string
	for key, s := range policy.Secrets(bare) {
		if s.IsZero() {
			continue
		}
		if texts == nil {
			texts = map[string]string{}
		}
		texts[key] = s.Reveal()
		*s = policy.Secret{}
	}
	spec, err := json.Marshal(bare)
	if err != nil {
		return record{}, fmt.Errorf("encode %s: %w", r.ID(), err)
	}
	return record{Kind: r.Kind, Name: r.Name, Revision: r.Revision, Spec: spec, Secrets: texts}, nil
}

func (r *record) resource() (policy.Resource, error) {
	spec := policy.NewSpec(r.Kind)
	if spec == nil {
		return policy.Resource{}, fmt.Errorf("%s/%s: unknown kind", r.Kind, r.Name)
	}
	if err := decodeStrict(r.Spec, spec); err != nil {
		return policy.Resource{}, fmt.Errorf("%s/%s: %w", r.Kind, r.Name, err)
	}
	secrets := policy.Secrets(spec)
	for key, text := range r.Secrets {
		if secrets[key] == nil {
			return policy.Resource{}, fmt.Errorf("%s/%s: unknown secret %q", r.Kind, r.Name, key)
		}
		*secrets[key] = policy.NewSecret(text)
	}
	return policy.Resource{Kind: r.Kind, Name: r.Name, Revision: r.Revision, Spec: spec}, nil
}

// encodeState is the content of a revision file.
func encodeState(s *state) ([]byte, error) {
	rec := stateRecord{Revision: s.Revision.Revision, Time: s.Time, Author: s.Author, Reason: s.Reason, Effects: s.Effects}
	for i := range s.resources {
		r, err := newRecord(&s.resources[i])
		if err != nil {
			return nil, err
		}
		rec.Resources = append(rec.Resources, r)
	}
	body, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("encode policy: %w", err)
	}
	sum := sha256.Sum256(body)
	out, err := json.Marshal(envelope{formatVersion, hex.EncodeToString(sum[:]), body})
	if err != nil {
		return nil, fmt.Errorf("encode policy: %w", err)
	}
	return append(out, '\n'), nil
}

// decodeState reads a revision file and validates what is in it.
func decodeState(b []byte) (*state, error) {
	var e envelope
	if err := decodeStrict(b, &e); err != nil {
		return nil, err
	}
	if e.Format > formatVersion {
		return nil, fmt.Errorf("format %d was written by a later hikyaku; this one reads up to %d", e.Format, formatVersion)
	}
	sum := sha256.Sum256(e.State)
	if e.SHA256 != hex.EncodeToString(sum[:]) {
		return nil, errors.New("the content does not match its SHA-256 sum")
	}
	var rec stateRecord
	if err := decodeStrict(e.State, &rec); err != nil {
		return nil, err
	}
	s := &state{Revision: Revision{rec.Revision, rec.Time, rec.Author, rec.Reason, rec.Effects}}
	for i := range rec.Resources {
		r, err := rec.Resources[i].resource()
		if err != nil {
			return nil, err
		}
		s.resources = append(s.resources, r)
	}
	set, problems := policy.New(catalogue.OverStored(s.resources))
	if err := problems.Err(); err != nil {
		return nil, fmt.Errorf("policy is not valid: %w", err)
	}
	set.Revision = rec.Revision
	s.set = set
	return s, nil
}

// decodeStrict refuses unknown keys: a key that a later version wrote and this
// one would drop at the next change.
func decodeStrict(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the end")
	}
	return nil
}
