package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// record is what is kept of a webhook beside its offset in the log.
type record struct {
	// Block and Lines say that so many lines of the block after the offset were
	// dealt with, so that an orderly restart repeats nothing.
	Block uint64 `json:"block,omitempty"`
	Lines int    `json:"lines,omitempty"`
	// Gone is the fingerprint of the webhook whose endpoint answered 410.
	Gone        string    `json:"gone,omitempty"`
	GoneAt      time.Time `json:"gone_at,omitzero"`
	GivenUp     uint64    `json:"given_up,omitempty"`
	LastGivenUp *Range    `json:"last_given_up,omitempty"`
}

const recordSuffix = ".json"

func recordPath(dir, id string) string { return filepath.Join(dir, id+recordSuffix) }

// readRecord reads what is kept; nothing is an empty one. An unreadable record
// is moved aside: without it a few events are posted again, which is what ids
// are for.
func readRecord(dir, id string) (*record, error) {
	path := recordPath(dir, id)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &record{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the record of a webhook: %w", err)
	}
	var r record
	if json.Unmarshal(b, &r) != nil || r.Lines < 0 {
		if err := os.Rename(path, path+".unreadable"); err != nil {
			return nil, fmt.Errorf("move the unreadable record of a webhook aside: %w", err)
		}
		return &record{}, nil
	}
	return &r, nil
}

// write replaces the record on disk.
func (r *record) write(dir, id string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the record of a webhook: %w", err)
	}
	path := recordPath(dir, id)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write the record of a webhook: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the record of a webhook: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("replace the record of a webhook: %w", err)
	}
	return syncDir(dir)
}

func removeRecord(dir, id string) error {
	err := os.Remove(recordPath(dir, id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove the record of a webhook: %w", err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync the folder of webhooks: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync the folder of webhooks: %w", err)
	}
	return nil
}
