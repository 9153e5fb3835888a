package suppression

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

var markKey = []byte{kindStore, 'm'}

// Mark says that all that was found before a time has been fed: after a crash it
// need not be looked for again. It reaches the disk with what is written next, and
// never before what was fed.
func (s *Store) Mark(t time.Time) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if err := s.db.Set(markKey, binary.BigEndian.AppendUint64(nil, uint64(t.UnixMicro())), pebble.NoSync); err != nil {
		return s.fail(err)
	}
	return nil
}

// Marked is the last mark that is on disk, zero if there is none.
func (s *Store) Marked() (time.Time, error) {
	if err := s.enter(); err != nil {
		return time.Time{}, err
	}
	defer s.leave()
	v, err := s.get(markKey)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the mark of the suppression list: %w", err)
	}
	if v == nil {
		return time.Time{}, nil
	}
	at := reader{b: v}
	us := at.fixed64()
	if at.bad || len(at.b) > 0 || us > uint64(latest.UnixMicro()) {
		return time.Time{}, fmt.Errorf("%w mark of the suppression list: %x", ErrMalformed, v)
	}
	return time.UnixMicro(int64(us)), nil
}
