package keyspace

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ClusterFile is the name of the file in the data directory that remembers which
// cluster this machine belongs to.
const ClusterFile = "cluster-id"

// ErrWrongCluster says that this is not the cluster, or not the key of it, that
// this machine belongs to.
var ErrWrongCluster = errors.New("wrong cluster")

// probe is what Cluster.Sealed hides.
const probe = "this is the key of the cluster"

// NewCluster makes the record of a new cluster.
func NewCluster(k Key, now time.Time) (Cluster, error) {
	c := Cluster{ID: NewID() + NewID(), Created: now.UTC().Truncate(time.Second)}
	var err error
	c.Sealed, err = k.Seal("cluster "+c.ID, probe)
	return c, err
}

// Check refuses a cluster that is not the remembered one ("" for none yet), or
// whose key is another.
func (c *Cluster) Check(k Key, remembered string) error {
	if remembered != "" && c.ID != remembered {
		return fmt.Errorf("%w: etcd holds cluster %s, but this machine belongs to %s (file %s in its data directory)", ErrWrongCluster, c.ID, remembered, ClusterFile)
	}
	if text, err := k.Open("cluster "+c.ID, c.Sealed); err != nil || text != probe {
		return fmt.Errorf("%w: the cluster key here is not the key of cluster %s: copy the key file from a machine that belongs to it", ErrWrongCluster, c.ID)
	}
	return nil
}

// DecodeCluster reads the value of the cluster key.
func DecodeCluster(b []byte) (*Cluster, error) {
	var c Cluster
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("read the cluster record: %w", err)
	}
	if id, err := hex.DecodeString(c.ID); err != nil || len(id) != 16 {
		return nil, errors.New("read the cluster record: it has no valid id")
	}
	return &c, nil
}

// RememberedCluster reads the cluster's id from a data directory; "" where none
// is remembered.
func RememberedCluster(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, ClusterFile))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read which cluster this machine belongs to: %w", err)
	}
	id := strings.TrimSpace(string(b))
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != 16 {
		return "", fmt.Errorf("%s holds no cluster id: take it from a backup, or from the cluster's other machines", filepath.Join(dir, ClusterFile))
	}
	return id, nil
}

// RememberCluster writes the cluster's id into a data directory, for good.
func RememberCluster(dir, id string) error {
	if old, err := RememberedCluster(dir); err != nil || old == id {
		return err
	}
	return WriteFile(filepath.Join(dir, ClusterFile), []byte(id+"\n"))
}

// WriteFile puts a whole file in place of another, of mode 0600: after a crash
// at any moment the one or the other is there.
func WriteFile(path string, content []byte) error {
	if err := writeFile(path, content); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func writeFile(path string, content []byte) error {
	dir := filepath.Dir(path)
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
