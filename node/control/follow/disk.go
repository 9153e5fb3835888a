package follow

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"hikyaku/controlplane/keyspace"
)

// fileName is the last good policy, in the data directory.
const fileName = "policy-snapshot"

// fileHeader is the first line of the file; the packed records follow.
type fileHeader struct {
	Format   int    `json:"format"`
	Cluster  string `json:"cluster"`
	Revision int64  `json:"revision"`
	Sum      string `json:"sum"` // of the delta at Revision
	keyspace.BaseRef
}

const fileFormat = 1

// encodeFile is the content of the file.
func encodeFile(cluster string, s *keyspace.Snapshot) ([]byte, error) {
	packed, ref, err := keyspace.EncodeRecords(s.Records)
	if err != nil {
		return nil, err
	}
	header, err := json.Marshal(fileHeader{fileFormat, cluster, s.Revision, s.Sum, ref})
	if err != nil {
		return nil, fmt.Errorf("encode the header: %w", err)
	}
	return bytes.Join([][]byte{header, packed}, []byte("\n")), nil
}

// decodeFile reads the content of the file and checks its sum.
func decodeFile(b []byte) (cluster string, _ *keyspace.Snapshot, err error) {
	line, packed, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return "", nil, errors.New("it has no header")
	}
	var h fileHeader
	if err := json.Unmarshal(line, &h); err != nil {
		return "", nil, fmt.Errorf("read its header: %w", err)
	}
	if h.Format != fileFormat {
		return "", nil, fmt.Errorf("format %d was written by another version; this one reads %d", h.Format, fileFormat)
	}
	records, err := keyspace.DecodeRecords(packed, h.BaseRef)
	if err != nil {
		return "", nil, err
	}
	return h.Cluster, keyspace.NewSnapshot(h.Revision, h.Sum, records), nil
}

// loadFile takes the policy on disk, if there is one. What cannot be used is
// put aside, for people to look at.
func (f *Follower) loadFile() error {
	path := filepath.Join(f.o.DataDir, fileName)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the policy on disk: %w", err)
	}
	cluster, s, err := decodeFile(b)
	if err == nil && cluster != f.cluster {
		err = fmt.Errorf("it is of cluster %s, not %s", cluster, f.cluster)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("the policy on disk cannot be used and was put aside as %s.damaged: %w", path, err), os.Rename(path, path+".damaged"))
	}
	p, err := f.open(s, nil)
	if err != nil {
		// The file is whole; another key or version could read it.
		return fmt.Errorf("the policy on disk, %s, cannot be used: %w", path, err)
	}
	f.seen = s
	f.good.Store(p)
	return nil
}

// steeringName is the last of what was decided about sources and tenants, in the
// data directory.
const steeringName = "steering-snapshot"

// steeringFile is its content after the first line, which is its SHA-256 sum.
type steeringFile struct {
	Format   int                          `json:"format"`
	Cluster  string                       `json:"cluster"`
	Revision int64                        `json:"revision"`
	Records  map[string]keyspace.Steering `json:"records"`
}

func encodeSteeringFile(s *steeringFile) ([]byte, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return bytes.Join([][]byte{[]byte(sumOf(body)), body}, []byte("\n")), nil
}

func decodeSteeringFile(b []byte) (*steeringFile, error) {
	sum, body, ok := bytes.Cut(b, []byte("\n"))
	if !ok || string(sum) != sumOf(body) {
		return nil, errors.New("its sum is wrong")
	}
	s := &steeringFile{}
	if err := json.Unmarshal(body, s); err != nil {
		return nil, err
	}
	if s.Format != fileFormat {
		return nil, fmt.Errorf("format %d was written by another version; this one reads %d", s.Format, fileFormat)
	}
	return s, nil
}

func sumOf(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// decodeSteering reads one record of etcd.
func decodeSteering(b []byte) (s keyspace.Steering, err error) {
	if err := json.Unmarshal(b, &s); err != nil {
		return keyspace.Steering{}, err
	}
	return s, nil
}

// loadSteeringFile takes what is on disk, if there is something: a source that
// rested when the node ended goes on to rest, though etcd may be away.
func (f *Follower) loadSteeringFile() error {
	path := filepath.Join(f.o.DataDir, steeringName)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what was decided about sources: %w", err)
	}
	s, err := decodeSteeringFile(b)
	if err == nil && s.Cluster != f.cluster {
		err = fmt.Errorf("it is of cluster %s, not %s", s.Cluster, f.cluster)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("what was decided about sources, on disk, cannot be used and was put aside as %s.damaged: %w", path, err), os.Rename(path, path+".damaged"))
	}
	f.applySteering(steering{records: s.Records, revision: s.Revision})
	f.steer.unsaved = false
	return nil
}

// saveSteering keeps what is in force on disk.
func (f *Follower) saveSteering() {
	if !f.steer.unsaved {
		return
	}
	b, err := encodeSteeringFile(&steeringFile{Format: fileFormat, Cluster: f.cluster, Revision: f.steer.revision, Records: f.steer.records})
	if err == nil {
		err = keyspace.WriteFile(filepath.Join(f.o.DataDir, steeringName), b)
	}
	if err != nil {
		f.mu.Lock()
		f.mu.metrics.SaveFailed++
		f.mu.Unlock()
		f.log.Error("keep what was decided about sources on disk", "error", err)
		return
	}
	f.steer.unsaved = false
}

func (f *Follower) saveFile(s *keyspace.Snapshot) error {
	b, err := encodeFile(f.cluster, s)
	if err != nil {
		return fmt.Errorf("keep the policy on disk: %w", err)
	}
	if err := keyspace.WriteFile(filepath.Join(f.o.DataDir, fileName), b); err != nil {
		return fmt.Errorf("keep the policy on disk: %w", err)
	}
	return nil
}
