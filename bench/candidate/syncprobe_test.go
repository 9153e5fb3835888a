package candidate

import (
	"fmt"
	"os"
	"testing"
	"time"
)

func TestSyncsAreFoundBetweenDataAndReply(t *testing.T) {
	ends := syncEnds(`100 1700000000.100000 fdatasync(7) = 0 <0.000512>
101 1700000000.200000 fsync(9 <unfinished ...>
100 1700000000.250000 fdatasync(7) = -1 EIO (Input/output error) <0.000100>
101 1700000000.300000 <... fsync resumed>) = 0 <0.100000>
101 1700000000.900000 +++ exited with 0 +++
garbage
102 yesterday fsync(1) = 0 <0.1>
`)
	start := time.Unix(1_700_000_000, 0)
	at := func(ms float64) time.Time { return start.Add(time.Duration(ms * float64(time.Millisecond))) }
	if len(ends) != 2 || !ends[0].Equal(at(100.512)) || !ends[1].Equal(at(300)) {
		t.Fatalf("syncs ended at %v", ends)
	}
	for _, c := range []struct {
		name    string
		windows []window
		want    SyncProbe
		says    string
	}{
		{"each", []window{{at(99), at(101)}, {at(199), at(301)}}, SyncProbe{2, 2, 2}, "yes, 2 of 2 seen"},
		{"begun before the reply, ended after it", []window{{at(99), at(101)}, {at(199), at(299)}}, SyncProbe{2, 1, 1}, "NOT ALWAYS, 1 of 2 seen"},
		{"none", []window{{at(400), at(500)}}, SyncProbe{1, 0, 0}, "NO, none of 1 seen"},
		{"two in one", []window{{at(99), at(301)}}, SyncProbe{1, 1, 2}, "yes, 1 of 1 seen"},
	} {
		if got := judge(c.windows, ends); got != c.want || got.String() != c.says {
			t.Errorf("%s: %+v, %q, want %+v, %q", c.name, got, got, c.want, c.says)
		}
	}
}

// The probe must be able to say no too.
func TestProbeSeesWhoSyncs(t *testing.T) {
	if testing.Short() {
		t.Skip("traces system calls")
	}
	sink, err := StartSMTPSink(t.Context(), SinkOptions{})
	need(t, err)
	defer sink.Close()
	dir, err := workDir("", "probe")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{"hikyaku", "postfix"} {
		c, err := Start(t.Context(), name, RelayOptions{Sink: sink.Addr, Dir: dir})
		need(t, err)
		p, err := ProbeSync(t.Context(), c, 3)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		need(t, err)
		if p.Messages != 3 || p.Synced != 3 {
			t.Errorf("%s: %+v, want a sync before each 250", name, p)
		}
	}
	h, err := StartHikyaku(t.Context(), HikyakuOptions{Dir: t.TempDir(), Policy: fmt.Sprintf(relayRoute, sink.Addr), Args: []string{"--unsafe-no-sync"}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if p, err := ProbeSync(t.Context(), h, 5); err != nil || p.Synced == p.Messages {
		t.Errorf("a node told not to sync before its 250: %+v, %v", p, err)
	}
	// smtp-sink stores nothing, so it has nothing to sync.
	p, err := ProbeSync(t.Context(), sinkAsCandidate{sink}, 3)
	need(t, err)
	if p.Messages != 3 || p.Synced != 0 {
		t.Errorf("a sink that stores nothing: %+v", p)
	}
}

// sinkAsCandidate puts a sink in a candidate's place.
type sinkAsCandidate struct{ *SMTPSink }

func (s sinkAsCandidate) Name() string       { return "smtp-sink" }
func (s sinkAsCandidate) Version() string    { return "" }
func (s sinkAsCandidate) Address() string    { return s.Addr }
func (s sinkAsCandidate) PIDs() []int        { return Tree(s.PID()) }
func (s sinkAsCandidate) Usage() Usage       { return TreeUsage(s.PID()) }
func (s sinkAsCandidate) Durability() string { return "none" }
