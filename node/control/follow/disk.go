package follow

import (
	"bytes"
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
