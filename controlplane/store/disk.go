package store

import (
	"fmt"
	"os"
)

// disk is the few things File does to the disk, one by one, so that a test can
// stop between any two of them.
type disk interface {
	// WriteSync makes a file of mode 0600 and returns when its content is on
	// the disk.
	WriteSync(path string, data []byte) error
	Rename(from, to string) error
	// SyncDir returns when renames in the directory are on the disk.
	SyncDir(dir string) error
	Remove(path string) error
}

type realDisk struct{}

func (realDisk) WriteSync(path string, data []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

func (realDisk) Rename(from, to string) error { return os.Rename(from, to) }

func (realDisk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

func (realDisk) Remove(path string) error { return os.Remove(path) }
