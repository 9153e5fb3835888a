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

// record is what is kept of a webhook.
type record struct {
	// At is up to where its events are dealt with; nil: it begins now.
	At *position `json:"at,omitempty"`
	// Gone is the fingerprint of the webhook whose endpoint answered 410.
	Gone        string    `json:"gone,omitempty"`
	GoneAt      time.Time `json:"gone_at,omitzero"`
	GivenUp     uint64    `json:"given_up,omitempty"`
	LastGivenUp *Range    `json:"last_given_up,omitempty"`
}

// book is the records of all webhooks, by name. It is one file: a thousand
// webhooks cost as many syncs as one.
type book struct {
	Webhooks map[string]*record `json:"webhooks"`
}

const bookName = "places.json"

// errTorn is a book that cannot be read. It was moved aside.
var errTorn = errors.New("places of webhooks are unreadable; the file was moved aside")

// readBook reads what is kept; nothing is an empty book.
func readBook(dir string) (*book, error) {
	b := &book{Webhooks: map[string]*record{}}
	path := filepath.Join(dir, bookName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read places of webhooks: %w", err)
	}
	if err := json.Unmarshal(text, b); err != nil || !b.sound() {
		if err := os.Rename(path, path+".unreadable"); err != nil {
			return nil, fmt.Errorf("move places of webhooks aside: %w", err)
		}
		return &book{Webhooks: map[string]*record{}}, errTorn
	}
	return b, nil
}

func (b *book) sound() bool {
	for _, r := range b.Webhooks {
		if r == nil || r.At != nil && (r.At.Line < 0 || r.At.Position < 0) {
			return false
		}
	}
	return b.Webhooks != nil
}

// floor is the first place that somebody has yet to read after.
func (b *book) floor() (p Place, ok bool) {
	for _, r := range b.Webhooks {
		if r.At != nil && (!ok || r.At.Place.before(p)) {
			p, ok = r.At.Place, true
		}
	}
	return p, ok
}

// text is the book as it is written.
func (b *book) text() []byte {
	text, err := json.Marshal(b)
	if err != nil {
		panic("BUG: places have no JSON: " + err.Error())
	}
	return append(text, '\n')
}

// writeBook replaces the file, so that after a crash there is either the old one
// or the new one.
func writeBook(dir string, text []byte) error {
	path := filepath.Join(dir, bookName)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write places of webhooks: %w", err)
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write places of webhooks: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
