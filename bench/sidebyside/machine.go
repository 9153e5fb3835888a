package sidebyside

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"hikyaku/bench/candidate"
)

// memory looks at what a candidate holds, until stopped. The look itself costs
// a little, so it is taken twice a second.
type memory struct {
	quit chan struct{}
	done chan struct{}
	peak int64 // read after done
}

func watchMemory(mta candidate.Candidate) *memory {
	m := &memory{quit: make(chan struct{}), done: make(chan struct{})}
	go func() { // stopped and waited for by stop
		defer close(m.done)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			pids := mta.PIDs()
			m.peak = max(m.peak, candidate.MemoryNow(pids))
			if len(pids) == 1 { // the kernel keeps the peak of one process
				m.peak = max(m.peak, mta.Usage().PeakRSS)
			}
			select {
			case <-m.quit:
				return
			case <-tick.C:
			}
		}
	}()
	return m
}

// stop ends the watch, with a last look, and returns the peak in bytes.
func (m *memory) stop() int64 {
	if m == nil {
		return 0
	}
	close(m.quit)
	<-m.done
	return m.peak
}

// busyShare is the share of all processors that was in use over a second,
// before anything was started: what other work the machine does.
func busyShare(ctx context.Context) (float64, error) {
	busy1, all1, err := processorTimes()
	if err != nil {
		return 0, err
	}
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(time.Second):
	}
	busy2, all2, err := processorTimes()
	if err != nil || all2 <= all1 {
		return 0, err
	}
	return float64(busy2-busy1) / float64(all2-all1), nil
}

func processorTimes() (busy, all int64, err error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, fmt.Errorf("how busy the machine is: %w", err)
	}
	return parseProcessorTimes(string(b))
}

// parseProcessorTimes reads the first line of proc(5) stat: cpu user nice
// system idle iowait irq softirq steal guest guest_nice. Guest times are in
// user already.
func parseProcessorTimes(stat string) (busy, all int64, err error) {
	line, _, _ := strings.Cut(stat, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, 0, fmt.Errorf("how busy the machine is: not a line of /proc/stat: %q", line)
	}
	for i, field := range f[1:9] {
		v, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("how busy the machine is: %w", err)
		}
		all += v
		if i != 3 && i != 4 { // idle, iowait
			busy += v
		}
	}
	return busy, all, nil
}
