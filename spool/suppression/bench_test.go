package suppression_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"hikyaku/spool/suppression"
)

// BenchmarkList imports a list onto the disk and asks it: 1 million entries, or
// HIKYAKU_SUPPRESSIONS of them. The figures are in docs/performance.md.
func BenchmarkList(b *testing.B) {
	n := 1_000_000
	if v, err := strconv.Atoi(os.Getenv("HIKYAKU_SUPPRESSIONS")); err == nil {
		n = v
	}
	es := make([]suppression.Entry, 10_000)
	r := rand.New(rand.NewPCG(1, 1))
	domains := []string{"gmail.com", "docomo.ne.jp", "ezweb.ne.jp", "yahoo.co.jp", "softbank.ne.jp", "outlook.com", "hotmail.com", "icloud.com"}
	address := func(i int) string { return fmt.Sprintf("user.%08x.%d@%s", r.Uint32(), i, domains[i%len(domains)]) }
	absent := make([]string, 1<<16)
	for i := range absent {
		absent[i] = address(i) + ".example"
	}
	before, cpu := heap(), cpuTime(b)
	s := open(b, suppression.Options{Dir: b.TempDir()})
	var took time.Duration
	for from := 0; from < n; from += len(es) {
		es = es[:min(len(es), n-from)]
		for i := range es {
			es[i] = suppression.Entry{Tenant: "shop", Address: address(from + i), Kind: suppression.Import, Reason: "imported", By: "ann"}
		}
		start := time.Now()
		if _, err := s.Add(es); err != nil {
			b.Fatal(err)
		}
		took += time.Since(start)
	}
	eventually(b, "the filter is filled", func() bool {
		m := s.Metrics()
		return m.FilterReady && m.FilterBytes*8 >= m.Total.Entries*9
	})
	cpu = cpuTime(b) - cpu // making the entries, about 0.4 µs each, is in it
	used := heap() - before
	m := s.Metrics()
	present := func() string { return es[r.IntN(len(es))].Address }

	b.Run("stored", func(b *testing.B) {
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(n)/took.Seconds(), "imported/s")
		b.ReportMetric(float64(cpu.Microseconds())/float64(n), "cpu-µs/entry")
		b.ReportMetric(float64(m.FilterBytes)/float64(n), "filter-B/entry")
		b.ReportMetric(float64(used)/float64(n), "heap-B/entry")
		b.ReportMetric(float64(m.DiskBytes)/float64(n), "disk-B/entry")
	})
	b.Run("absent", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			if _, ok := s.Lookup("shop", absent[i&(1<<16-1)], "news"); ok {
				b.Fatal("found")
			}
			i++
		}
	})
	b.Run("absent-percentiles", func(b *testing.B) {
		times := make([]time.Duration, 0, 1<<18)
		for i := range cap(times) {
			start := time.Now()
			_, _ = s.Lookup("shop", absent[i&(1<<16-1)], "news")
			times = append(times, time.Since(start))
		}
		slices.Sort(times)
		b.ReportMetric(float64(times[len(times)/2]), "p50-ns")
		b.ReportMetric(float64(times[len(times)*99/100]), "p99-ns")
		b.ReportMetric(0, "ns/op")
	})
	b.Run("present", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := s.Lookup("shop", present(), "news"); !ok {
				b.Fatal("lost")
			}
		}
	})
	b.Logf("%d entries in %v: %.0f/s; filter %.2f B an entry, heap grown by %.2f B an entry, block cache %d KiB, disk %.0f B an entry",
		n, took.Round(time.Millisecond), float64(n)/took.Seconds(), float64(m.FilterBytes)/float64(n), float64(used)/float64(n), m.CacheBytes>>10, float64(m.DiskBytes)/float64(n))
}

// cpuTime is what the process has used of all processors: compactions and the
// filling of the filter too.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkFeed is one finding at a time, each on disk when it returns.
func BenchmarkFeed(b *testing.B) {
	s := open(b, suppression.Options{Dir: b.TempDir()})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if _, _, err := s.Feed([]suppression.Finding{{Entry: bounce("shop", fmt.Sprintf("u%d@x.example", i))}}); err != nil {
			b.Fatal(err)
		}
	}
}

// TestLookupAllocatesNothing: it is asked for every recipient.
func TestLookupAllocatesNothing(t *testing.T) {
	s, _ := memory(t)
	add(t, s, bounce("shop", "a@x.example"))
	eventually(t, "the filter is filled", func() bool { return s.Metrics().FilterReady })
	if n := testing.AllocsPerRun(1000, func() {
		if _, ok := s.Lookup("shop", "nobody.here@docomo.ne.jp", "news"); ok {
			t.Error("found")
		}
	}); n != 0 {
		t.Errorf("%v allocations for an absent address", n)
	}
}
