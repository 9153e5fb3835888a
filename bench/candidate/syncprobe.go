package candidate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// SyncProbe is what was seen of a candidate's syncs while messages were sent
// to it one at a time.
type SyncProbe struct {
	Messages int `json:"messages"` // each answered with 250 before the next was sent
	Synced   int `json:"synced"`   // of these, a sync ended between the end of the data and the 250
	Syncs    int `json:"syncs"`    // that ended in these spans, together
}

// String is the probe in a few words.
func (p SyncProbe) String() string {
	switch p.Synced {
	case p.Messages:
		return fmt.Sprintf("yes, %d of %d seen", p.Synced, p.Messages)
	case 0:
		return fmt.Sprintf("NO, none of %d seen", p.Messages)
	}
	return fmt.Sprintf("NOT ALWAYS, %d of %d seen", p.Synced, p.Messages)
}

// probePause lets what follows a message (its delivery, the record of its
// outcome) end before the next one is sent, so that a sync of the one is not
// taken for the other's.
const probePause = 300 * time.Millisecond

// ProbeSync watches a candidate with strace(1) and sends it messages, one at a
// time. A write to a file that was opened with O_DSYNC is durable without a
// sync and would not be seen. Without strace it is ErrNotInstalled.
func ProbeSync(ctx context.Context, c Candidate, messages int) (SyncProbe, error) {
	var p SyncProbe
	strace, err := Find("strace", "install the Debian package strace")
	if err != nil {
		return p, err
	}
	dir, err := os.MkdirTemp("", "hikyaku-strace-")
	if err != nil {
		return p, err
	}
	defer os.RemoveAll(dir)
	trace := filepath.Join(dir, "trace")
	args := []string{"-f", "-ttt", "-T", "-e", "trace=fsync,fdatasync,syncfs,sync", "-e", "signal=none", "-o", trace}
	pids := c.PIDs()
	for _, pid := range pids {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	tracer, err := StartProcess(strace, args, ProcessOptions{})
	if err != nil {
		return p, err
	}
	defer tracer.end(5 * time.Second)
	err = Until(ctx, 20*time.Second, "strace to attach", func() (bool, error) {
		if !tracer.Running() {
			return false, fmt.Errorf("strace ended: %w\n%s", tracer.ended(), tracer.Output())
		}
		return strings.Count(tracer.Output(), " attached") >= len(pids), nil
	})
	if err != nil {
		return p, fmt.Errorf("watch %s: %w", c.Name(), err)
	}
	windows, err := sendOneByOne(ctx, c.Address(), messages)
	if err != nil {
		return p, fmt.Errorf("probe %s: %w", c.Name(), err)
	}
	_ = tracer.Stop(5 * time.Second) // its exit code is that of the signal
	b, err := os.ReadFile(trace)
	if err != nil {
		return p, fmt.Errorf("probe %s: %w", c.Name(), err)
	}
	return judge(windows, syncEnds(string(b))), nil
}

// window is the time from the end of one message's data to its 250.
type window struct{ from, to time.Time }

func judge(windows []window, ends []time.Time) SyncProbe {
	p := SyncProbe{Messages: len(windows)}
	for _, w := range windows {
		n := 0
		for _, e := range ends {
			if !e.Before(w.from) && !e.After(w.to) {
				n++
			}
		}
		p.Syncs += n
		p.Synced += min(n, 1)
	}
	return p
}

// syncEnds reads the times at which syncs returned 0 from strace's record:
//
//	4711 1700000000.123456 fdatasync(7) = 0 <0.000512>
//	4711 1700000000.123456 fsync(7 <unfinished ...>
//	4711 1700000000.123999 <... fsync resumed>) = 0 <0.000543>
func syncEnds(trace string) []time.Time {
	var ends []time.Time
	for line := range strings.Lines(trace) {
		f := strings.Fields(line)
		if len(f) < 5 || !strings.Contains(line, "sync") || !strings.Contains(line, "= 0 <") {
			continue
		}
		at, ok := unixTime(f[1])
		took, isTime := strings.CutPrefix(f[len(f)-1], "<")
		d, err := time.ParseDuration(strings.TrimSuffix(took, ">") + "s")
		if !ok || !isTime || err != nil {
			continue
		}
		if f[2] != "<..." {
			at = at.Add(d)
		}
		ends = append(ends, at)
	}
	return ends
}

// unixTime reads "1700000000.123456".
func unixTime(s string) (time.Time, bool) {
	sec, micro, ok := strings.Cut(s, ".")
	seconds, err := strconv.ParseInt(sec, 10, 64)
	micros, err2 := strconv.ParseInt(micro, 10, 64)
	return time.Unix(seconds, micros*1000), ok && len(micro) == 6 && err == nil && err2 == nil
}

// sendOneByOne sends small messages over one connection, the next only after
// the answer to the one before.
func sendOneByOne(ctx context.Context, addr string, messages int) ([]window, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(c)
	say := func(text, want string) error {
		if _, err := c.Write([]byte(text)); err != nil {
			return err
		}
		return expect(r, want)
	}
	if err := errors.Join(expect(r, "220"), say("EHLO probe.test\r\n", "250")); err != nil {
		return nil, err
	}
	var windows []window
	for i := range messages {
		if err := errors.Join(say("MAIL FROM:<sender@source.test>\r\n", "250"), say("RCPT TO:<rcpt@sink.test>\r\n", "250"), say("DATA\r\n", "354")); err != nil {
			return nil, err
		}
		content := fmt.Sprintf("From: <sender@source.test>\r\nTo: <rcpt@sink.test>\r\nMessage-Id: <probe-%d@source.test>\r\nSubject: probe\r\n\r\nIs this on disk?\r\n.\r\n", i)
		w := window{from: time.Now()}
		if err := say(content, "250"); err != nil {
			return nil, err
		}
		w.to = time.Now()
		windows = append(windows, w)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(probePause):
		}
	}
	return windows, say("QUIT\r\n", "221")
}

// expect reads a reply, of several lines too, and compares its code.
func expect(r *bufio.Reader, code string) error {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return fmt.Errorf("wait for %s: %w", code, err)
		}
		if len(line) < 4 || line[3] != '-' {
			if !strings.HasPrefix(line, code) {
				return fmt.Errorf("answered %q, want %s", strings.TrimSpace(line), code)
			}
			return nil
		}
	}
}
