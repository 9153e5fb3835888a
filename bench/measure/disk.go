package measure

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// SyncBytes is what is written before each sync that SyncLatency measures.
const SyncBytes = 4096

const maxSyncs = 100_000

// DiskSync is how long a disk takes to make 4 KiB durable, one after the other.
type DiskSync struct {
	Count int           `json:"count"`
	Bytes int           `json:"bytes"`
	P50   time.Duration `json:"p50_ns"`
	P90   time.Duration `json:"p90_ns"`
	P99   time.Duration `json:"p99_ns"`
	Max   time.Duration `json:"max_ns"`
}

// SyncLatency appends 4 KiB to a file in dir and calls fdatasync, n times (at
// most 100,000). The file grows, as a new write-ahead log does, so on most file
// systems each sync carries a change of metadata too. The file has no name
// while it is used, so that none is left behind by a crash.
func SyncLatency(dir string, n int) (s DiskSync, err error) {
	if n < 1 || n > maxSyncs {
		return DiskSync{}, fmt.Errorf("measure disk sync: %d rounds are not between 1 and %d", n, maxSyncs)
	}
	f, err := os.CreateTemp(dir, "sync-latency-*")
	if err != nil {
		return DiskSync{}, fmt.Errorf("measure disk sync: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := os.Remove(f.Name()); err != nil {
		return DiskSync{}, fmt.Errorf("measure disk sync: %w", err)
	}
	block := make([]byte, SyncBytes)
	for i := range block {
		block[i] = byte(i * 131) // not zeros: some disks keep those without writing
	}
	var h Histogram
	for range n {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return DiskSync{}, fmt.Errorf("measure disk sync: %w", err)
		}
		if err := fdatasync(f); err != nil {
			return DiskSync{}, fmt.Errorf("measure disk sync: %w", err)
		}
		h.Add(time.Since(start), 1)
	}
	return DiskSync{Count: n, Bytes: SyncBytes, P50: h.Quantile(0.5), P90: h.Quantile(0.9), P99: h.Quantile(0.99), Max: h.Max()}, nil
}

func fdatasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
