package spool

import (
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The errors callers tell apart. All come wrapped.
var (
	// ErrLowSpace: the disk has less free than Options asks for. New mail is
	// refused; deliveries and deletes go on; it recovers by itself.
	ErrLowSpace = errors.New("disk space is low")
	// ErrUnhealthy: the disk fails writes beside the commit path. New mail is
	// refused until it has been quiet for ten seconds.
	ErrUnhealthy = errors.New("spool is unhealthy")
	// ErrFailed: a write that had to be durable failed. The process is ending.
	ErrFailed = errors.New("spool failed")
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("spool is closed")
	// ErrReadOnly: the store was opened with Options.ReadOnly.
	ErrReadOnly = errors.New("spool is open read-only")
	// ErrInUse: another process, or this one, has the directory open.
	ErrInUse = errors.New("spool directory is in use")
	// ErrNotFound: there is no such message, delivery or job, or no more.
	ErrNotFound = errors.New("not found")
	// ErrGone: the delivery of a Transition is not in the spool as given: it
	// has ended or was moved. Nothing was changed.
	ErrGone = errors.New("delivery has moved on")
	// ErrDuplicate: the idempotency key of a Submission is taken. Nothing was
	// stored; Store.Idempotency has the answer, which is durable.
	ErrDuplicate = errors.New("idempotency key is taken")
	// ErrUnreadable: the record is damaged and in quarantine.
	ErrUnreadable = errors.New("record is unreadable")
	// ErrInvalid: the caller's values cannot be stored as they are.
	ErrInvalid = errors.New("invalid")
)

// Options say where the spool is and how it behaves. Dir is required, the rest
// has defaults.
type Options struct {
	Dir    string
	FS     vfs.FS       // nil: the operating system's
	Logger *slog.Logger // nil: discard

	// New mail is refused while less than this is free on the disk. Zero means
	// 512 MiB and 2 percent; the larger of the two counts.
	FreeBytesMin   uint64
	FreePercentMin int
	// FreeSpace is asked every second. nil: the file system of Dir.
	FreeSpace func(dir string) (free, total uint64, err error)

	StatusRetention time.Duration // how long end states can be asked for; zero: 1 h
	JobRetention    time.Duration // how long the counters of an ended job are kept; zero: 30 days

	MemTableSize uint64 // zero: 64 MiB; up to four of them
	CacheSize    int64  // block cache beside two memtables; zero: 64 MiB

	// Exit ends the process after a failure on the commit path. nil: os.Exit.
	// If it returns (in tests), the store stays failed.
	Exit func(code int)
	Now  func() time.Time // nil: time.Now

	ReadOnly bool // no writes, no quarantine, no background work

	// UnsafeNoSync acknowledges before the sync. It exists so that the crash
	// tests can show that they see the loss; it is never set otherwise.
	UnsafeNoSync bool
}

const (
	defaultFreeBytes       = 512 << 20
	defaultFreePercent     = 2
	defaultStatusRetention = time.Hour
	defaultJobRetention    = 30 * 24 * time.Hour
	defaultMemTable        = 64 << 20
	defaultCache           = 64 << 20
)

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FreeBytesMin == 0 {
		o.FreeBytesMin = defaultFreeBytes
	}
	if o.FreePercentMin == 0 {
		o.FreePercentMin = defaultFreePercent
	}
	if o.FreeSpace == nil {
		fs := o.FS
		o.FreeSpace = func(dir string) (uint64, uint64, error) {
			u, err := fs.GetDiskUsage(dir)
			return u.AvailBytes, u.TotalBytes, err
		}
	}
	if o.StatusRetention == 0 {
		o.StatusRetention = defaultStatusRetention
	}
	if o.JobRetention == 0 {
		o.JobRetention = defaultJobRetention
	}
	if o.MemTableSize == 0 {
		o.MemTableSize = defaultMemTable
	}
	if o.CacheSize == 0 {
		o.CacheSize = defaultCache
	}
	if o.Exit == nil {
		o.Exit = os.Exit
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}
