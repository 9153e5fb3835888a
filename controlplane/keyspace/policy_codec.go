package keyspace

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Bounds of policy in etcd. etcd refuses requests above 1.5 MiB unless told
// otherwise; what goes into one request stays well below.
const (
	// MaxInline is how large the packed value of one delta may be. Above, the
	// state goes to policy/base.
	MaxInline = 1 << 20
	// BasePart is how much of a base lies under one key.
	BasePart = 1 << 20
	// MaxBaseParts and MaxPolicyBytes bound all of policy: packed, and as JSON.
	MaxBaseParts   = 48
	MaxPolicyBytes = 128 << 20
	// packAbove is from which size on a value is compressed.
	packAbove = 4 << 10
)

// NewID makes a random name for a delta or base.
func NewID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func sumOf(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// chain is the sum of one link: of the sum before, as its hex text, and of the
// link's own bytes.
func chain(previous string, link []byte) string { return sumOf([]byte(previous), link) }

// pack compresses what is worth it. JSON never begins as gzip does.
func pack(b []byte) []byte {
	if len(b) < packAbove {
		return b
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b)
	if err = errors.Join(err, w.Close()); err != nil {
		panic("BUG: compress into memory: " + err.Error())
	}
	return out.Bytes()
}

func unpack(b []byte, limit int) ([]byte, error) {
	if !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		return b, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	out, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	if len(out) > limit {
		return nil, fmt.Errorf("unpack: more than %d bytes", limit)
	}
	return out, nil
}

// deltaValue is the value under policy/delta.
type deltaValue struct {
	Sum     string          `json:"sum"`
	Delta   json.RawMessage `json:"delta"`
	Records json.RawMessage `json:"records,omitempty"`
}

// Encode sets Content (unless Base does) and Sum, and gives the value for etcd.
func (d *Delta) Encode() ([]byte, error) {
	var records []byte
	if d.Base != nil {
		d.Content = d.Base.SHA256
	} else {
		var err error
		if records, err = json.Marshal(d.Records); err != nil {
			return nil, fmt.Errorf("encode policy revision %d: %w", d.Revision, err)
		}
		d.Content = sumOf(records)
	}
	meta, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode policy revision %d: %w", d.Revision, err)
	}
	d.Sum = chain(d.Previous, meta)
	value, err := json.Marshal(deltaValue{d.Sum, meta, records})
	if err != nil {
		return nil, fmt.Errorf("encode policy revision %d: %w", d.Revision, err)
	}
	return pack(value), nil
}

// DecodeDelta reads the value under policy/delta and checks its sums.
func DecodeDelta(b []byte) (*Delta, error) {
	v, err := decodeDeltaValue(b)
	if err != nil {
		return nil, err
	}
	var d Delta
	if err := json.Unmarshal(v.Delta, &d); err != nil {
		return nil, fmt.Errorf("read a policy revision: %w", err)
	}
	if v.Sum != chain(d.Previous, v.Delta) {
		return nil, fmt.Errorf("policy revision %d does not match its SHA-256 sum", d.Revision)
	}
	d.Sum = v.Sum
	switch {
	case d.Base != nil:
		return &d, nil
	case len(v.Records) == 0:
		d.Stripped = true
		return &d, nil
	case d.Content != sumOf(v.Records):
		return nil, fmt.Errorf("the resources of policy revision %d do not match their SHA-256 sum", d.Revision)
	}
	if err := json.Unmarshal(v.Records, &d.Records); err != nil {
		return nil, fmt.Errorf("read policy revision %d: %w", d.Revision, err)
	}
	return &d, nil
}

func decodeDeltaValue(b []byte) (*deltaValue, error) {
	b, err := unpack(b, MaxPolicyBytes)
	if err != nil {
		return nil, fmt.Errorf("read a policy revision: %w", err)
	}
	var v deltaValue
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, fmt.Errorf("read a policy revision: %w", err)
	}
	return &v, nil
}

// StripDelta drops the resources from a delta's value; who, when, why and what
// was changed stay, and so does the chain. changed is false where nothing is to
// be dropped.
func StripDelta(b []byte) (stripped []byte, changed bool, err error) {
	v, err := decodeDeltaValue(b)
	if err != nil || len(v.Records) == 0 {
		return b, false, err
	}
	v.Records = nil
	out, err := json.Marshal(v)
	if err != nil {
		return nil, false, fmt.Errorf("encode a policy revision: %w", err)
	}
	return pack(out), true, nil
}

// BaseRef says where records lie whole, and what they are.
type BaseRef struct {
	ID     string `json:"id"` // random, in the names of the parts
	Parts  int    `json:"parts"`
	Packed int    `json:"packed"` // bytes, over all parts
	// SHA256 is the sum of the records as they were encoded, in hex.
	SHA256 string `json:"sha256"`
}

// Base is the record under policy/base/<revision>. Its parts lie below.
type Base struct {
	Revision int64  `json:"revision"`
	Sum      string `json:"sum"` // of the delta at Revision
	BaseRef
}

// PolicyBasePart is the key of one part.
func (k Keys) PolicyBasePart(revision int64, id string, part int) string {
	return fmt.Sprintf("%s/%s-%04d", k.PolicyBase(revision), id, part)
}

// EncodeRecords packs records for a base or a snapshot file and says what was
// packed: the ref without ID.
func EncodeRecords(records []Record) ([]byte, BaseRef, error) {
	if records == nil {
		records = []Record{}
	}
	size := 0
	for i := range records {
		size += len(records[i].Spec)
	}
	var b []byte
	var err error
	if size <= MaxPolicyBytes {
		if b, err = json.Marshal(records); err != nil {
			return nil, BaseRef{}, fmt.Errorf("encode policy: %w", err)
		}
		size = len(b)
	}
	if size > MaxPolicyBytes {
		return nil, BaseRef{}, fmt.Errorf("policy has %d bytes; at most %d can be kept", size, MaxPolicyBytes)
	}
	packed := pack(b)
	ref := BaseRef{Parts: max(1, (len(packed)+BasePart-1)/BasePart), Packed: len(packed), SHA256: sumOf(b)}
	if ref.Parts > MaxBaseParts {
		return nil, BaseRef{}, fmt.Errorf("policy has %d bytes when compressed; at most %d can be kept", len(packed), MaxBaseParts*BasePart)
	}
	return packed, ref, nil
}

// DecodeRecords reads what EncodeRecords packed, and checks it against its sum.
func DecodeRecords(packed []byte, ref BaseRef) ([]Record, error) {
	if len(packed) != ref.Packed {
		return nil, fmt.Errorf("policy has %d bytes, not %d: a part is missing or damaged", len(packed), ref.Packed)
	}
	b, err := unpack(packed, MaxPolicyBytes)
	if err != nil {
		return nil, err
	}
	if sumOf(b) != ref.SHA256 {
		return nil, errors.New("policy does not match its SHA-256 sum")
	}
	var records []Record
	if err := json.Unmarshal(b, &records); err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	return records, nil
}

// PolicyBaseOf reads the revision in the key of a base or of one of its parts;
// 0 when it is neither.
func (k Keys) PolicyBaseOf(key string) (revision int64, part bool) {
	digits, ok := strings.CutPrefix(key, k.PolicyBase(0))
	if !ok {
		return 0, false
	}
	digits, _, part = strings.Cut(digits, "/")
	revision, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || revision < 1 {
		return 0, false
	}
	return revision, part
}
