package candidate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// SMTPSink is Postfix's smtp-sink: it takes and forgets everything.
type SMTPSink struct {
	*Process
	Addr  string
	count bool
}

// SinkOptions are what differs between sinks.
type SinkOptions struct {
	Addr     string // loopback; default a free port
	Messages int    // end by itself after so many; 0 runs until Close
	Count    bool   // print counters, at the price of a write for each message
}

// StartSMTPSink starts one and waits until it listens.
func StartSMTPSink(ctx context.Context, o SinkOptions) (_ *SMTPSink, err error) {
	program, err := Find("smtp-sink", installPostfix)
	if err != nil {
		return nil, err
	}
	if o.Addr == "" {
		if o.Addr, err = FreeAddress(); err != nil {
			return nil, err
		}
	}
	if err := loopback(o.Addr); err != nil {
		return nil, fmt.Errorf("smtp-sink: %w", err)
	}
	var args []string
	if os.Getuid() == 0 { // it refuses to stay root
		args = append(args, "-u", "postfix")
	}
	if o.Messages > 0 {
		args = append(args, "-M", strconv.Itoa(o.Messages))
	}
	if o.Count {
		args = append(args, "-c")
	}
	p, err := StartProcess(program, append(args, o.Addr, "1024"), ProcessOptions{})
	if err != nil {
		return nil, err
	}
	s := &SMTPSink{Process: p, Addr: o.Addr, count: o.Count}
	if err := listening(ctx, p, o.Addr); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Messages is how many messages it has counted, in a sink that counts.
func (s *SMTPSink) Messages() (int, error) {
	if !s.count {
		return 0, errors.New("smtp-sink was not started with Count")
	}
	return sinkCount(s.Output())
}

// sinkCount reads the last of the counters that smtp-sink -c writes over each
// other: "sess=1 quit=0 mesg=12\r".
func sinkCount(output string) (int, error) {
	i := strings.LastIndex(output, "mesg=")
	if i < 0 {
		return 0, nil
	}
	digits, _, whole := strings.Cut(output[i+len("mesg="):], "\r")
	if !whole { // cut off in a write: the one before it
		return sinkCount(output[:i])
	}
	n, err := strconv.Atoi(strings.TrimSpace(digits))
	if err != nil {
		return 0, fmt.Errorf("counters of smtp-sink: %w", err)
	}
	return n, nil
}

// Close ends it.
func (s *SMTPSink) Close() error {
	s.end(5 * time.Second)
	return nil
}

// SourceOptions are one run of smtp-source.
type SourceOptions struct {
	Target      string // host:port, loopback
	Messages    int
	Size        int // bytes of a message
	Connections int
	From, To    string // default sender@source.test, rcpt@sink.test
}

// RunSMTPSource sends with Postfix's smtp-source, each connection kept for many
// messages, and returns how long it took. Its exit says that every message was
// accepted.
func RunSMTPSource(ctx context.Context, o SourceOptions) (time.Duration, error) {
	program, err := Find("smtp-source", installPostfix)
	if err != nil {
		return 0, err
	}
	if err := loopback(o.Target); err != nil {
		return 0, fmt.Errorf("smtp-source: %w", err)
	}
	if o.Messages < 1 || o.Connections < 1 || o.Size < 1 {
		return 0, fmt.Errorf("smtp-source: %d messages of %d bytes over %d connections", o.Messages, o.Size, o.Connections)
	}
	if o.From == "" {
		o.From = "sender@source.test"
	}
	if o.To == "" {
		o.To = "rcpt@sink.test"
	}
	cmd := exec.CommandContext(ctx, program, "-d", "-s", strconv.Itoa(min(o.Connections, o.Messages)), "-l", strconv.Itoa(o.Size),
		"-m", strconv.Itoa(o.Messages), "-f", o.From, "-t", o.To, "-M", "source.test", o.Target)
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return time.Since(start), fmt.Errorf("smtp-source: %w\n%s", err, Tail(string(out), 2000))
	}
	return time.Since(start), nil
}
