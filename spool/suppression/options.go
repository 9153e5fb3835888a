package suppression

import (
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// What is kept for how long.
const (
	// TombstoneFor is how long a removed entry is remembered.
	TombstoneFor = 30 * 24 * time.Hour
	// LogFor is how long an operation stays in the log if not all stores have it.
	LogFor = 7 * 24 * time.Hour
	// SightingFor is how long a first sighting waits for a second.
	SightingFor = 60 * 24 * time.Hour
	// SecondAfter is how far apart two sightings must be, beside being on
	// different UTC days: just before and just after midnight are one event.
	SecondAfter = 20 * time.Hour
)

// The errors callers tell apart. All come wrapped.
var (
	// ErrFailed: a write that had to be durable failed. The process is ending.
	ErrFailed = errors.New("suppression list failed")
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("suppression list is closed")
	// ErrInUse: another process has the directory open.
	ErrInUse = errors.New("suppression list is in use")
	// ErrMalformed: bytes of another store are not what they should be.
	ErrMalformed = errors.New("malformed")
	// ErrFull: there are too many origins, or one entry more than is allowed.
	ErrFull = errors.New("suppression list is full")
)

// Options say where the list is. Dir is required, the rest has defaults.
type Options struct {
	Dir    string
	FS     vfs.FS       // nil: the operating system's
	Logger *slog.Logger // nil: discard

	MemTableSize uint64 // zero: 16 MiB; up to four of them
	CacheSize    int64  // block cache beside the memtables; zero: 16 MiB
	MaxLog       int64  // operations in the log; zero: 20 million
	MaxEntries   int64  // zero: 200 million

	// Exit ends the process after a write that had to be durable has failed. nil:
	// os.Exit. If it returns (in tests), the store stays failed.
	Exit func(code int)
	Now  func() time.Time // nil: time.Now
	// SweepEvery is how often what has expired is deleted; zero: a minute.
	SweepEvery time.Duration

	// UnsafeLastHeard takes what another store says whatever stands here. It exists
	// so that the tests can show that they see stores that differ.
	UnsafeLastHeard bool
	// UnsafeNoSync confirms before the sync. It exists so that the crash tests can
	// show that they see the loss; it is never set otherwise.
	UnsafeNoSync bool
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MemTableSize == 0 {
		o.MemTableSize = 16 << 20
	}
	if o.CacheSize == 0 {
		o.CacheSize = 16 << 20
	}
	if o.MaxLog == 0 {
		o.MaxLog = 20_000_000
	}
	if o.MaxEntries == 0 {
		o.MaxEntries = 200_000_000
	}
	if o.Exit == nil {
		o.Exit = os.Exit
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.SweepEvery == 0 {
		o.SweepEvery = time.Minute
	}
	return o
}
