package sink

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// childVariable makes the test program a sink in a process of its own, so that
// its CPU can be told from the client's.
const childVariable = "HIKYAKU_SINK_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		os.Exit(m.Run())
	}
	s, err := Start(Options{Chunking: true, Message: func(r *Received) string { return "" }})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(s.Addr)
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent has had enough
	s.Close()
	fmt.Println(s.Metrics().Messages)
}

// child is a sink in its own process, on one core.
type child struct {
	addr string
	cmd  *exec.Cmd
	in   io.Closer
	out  *bufio.Reader
}

func startChild(t testing.TB) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0], "-test.run=^$")}
	c.cmd.Env = append(os.Environ(), childVariable+"=1", "GOMAXPROCS=1")
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.in, c.out = in, bufio.NewReader(out)
	c.addr = c.line(t)
	return c
}

func (c *child) line(t testing.TB) string {
	t.Helper()
	s, err := c.out.ReadString('\n')
	if err != nil {
		t.Fatalf("the sink's own process: %v", err)
	}
	return strings.TrimSpace(s)
}

// end returns how many messages the sink took, and the CPU they cost it.
func (c *child) end(t testing.TB) (messages int, cpu time.Duration) {
	t.Helper()
	c.in.Close()
	if _, err := fmt.Sscan(c.line(t), &messages); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return messages, c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime()
}

// content4k is a message of 4 KiB in lines of 72.
var content4k = func() []byte {
	b := append([]byte("From: <a@x.test>\r\nSubject: a message of 4 KiB\r\n\r\n"), bytes.Repeat([]byte(strings.Repeat("x", 70)+"\r\n"), 57)...)
	return append(append(b[:4094:4094], '\r'), '\n')[:4096]
}()

const envelope = "MAIL FROM:<sender@x.test> SIZE=4096 BODY=8BITMIME\r\nRCPT TO:<r123456@y.test>\r\n"

// group is one message of a pipelining client, and how many lines answer it:
// by DATA, the content of one message with the envelope of the next.
func group(bdat bool) ([]byte, int) {
	if bdat {
		return append([]byte(envelope+"BDAT 4096 LAST\r\n"), content4k...), 3
	}
	return append(bytes.Clone(content4k), ".\r\n"+envelope+"DATA\r\n"...), 4
}

// source sends messages over one connection, so many groups at once, until n
// is used up.
func source(addr string, bdat bool, window int, n *atomic.Int64) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	one, lines := group(bdat)
	buf := make([]byte, 16<<10)
	say := func(p []byte, lines int) error {
		if _, err := c.Write(p); err != nil {
			return err
		}
		for lines > 0 {
			n, err := c.Read(buf)
			if err != nil {
				return err
			}
			if i := bytes.IndexByte([]byte("45"), buf[0]); i >= 0 {
				return fmt.Errorf("answer %q", buf[:n])
			}
			lines -= bytes.Count(buf[:n], []byte{'\n'})
		}
		return nil
	}
	if err := say([]byte("EHLO c.test\r\n"), 9); err != nil {
		return err
	}
	if !bdat {
		if err := say([]byte(envelope+"DATA\r\n"), 3); err != nil {
			return err
		}
	}
	all := bytes.Repeat(one, window)
	for n.Add(-int64(window)) >= 0 {
		if err := say(all, window*lines); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkReceive is the sink in a process of its own on one core, fed with
// 4 KiB by DATA in lockstep (the content of one message with the envelope of
// the next), by BDAT in lockstep, and by BDAT with eight messages on the way.
// cpu-ns/msg is what a message cost the sink's process.
func BenchmarkReceive(b *testing.B) {
	for _, c := range []struct {
		name   string
		bdat   bool
		window int
	}{{"DATA", false, 1}, {"BDAT", true, 1}, {"BDAT-eight-ahead", true, 8}} {
		b.Run(c.name, func(b *testing.B) {
			s := startChild(b)
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			b.SetBytes(4096)
			b.ResetTimer()
			for range 8 {
				wg.Go(func() {
					if err := source(s.addr, c.bdat, c.window, &left); err != nil {
						b.Error(err)
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			report(b, s)
		})
	}
}

func report(b *testing.B, s *child) {
	messages, cpu := s.end(b)
	b.ReportMetric(float64(messages)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64(cpu.Nanoseconds())/float64(max(messages, 1)), "cpu-ns/msg")
}

// endless is a connection whose client repeats one group for ever, or n times.
type endless struct {
	*script
	head  []byte
	group []byte
	n     int
	at    int
	lines int
}

func (c *endless) Read(p []byte) (n int, err error) {
	if len(c.head) > 0 {
		n = copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	if c.n == 0 {
		return 0, io.EOF
	}
	n = copy(p, c.group[c.at:])
	if c.at += n; c.at == len(c.group) {
		c.at, c.n = 0, c.n-1
	}
	return n, nil
}

func (c *endless) Write(p []byte) (int, error) {
	c.lines += bytes.Count(p, []byte{'\n'})
	return len(p), nil
}

func newEndless(bdat bool, n int) *endless {
	head := "EHLO c.test\r\n"
	if !bdat {
		head += envelope + "DATA\r\n"
	}
	one, _ := group(bdat)
	return &endless{script: newScript(), head: []byte(head), group: one, n: n}
}

// BenchmarkEngine is the same work without a network: what parsing, scanning
// and answering cost.
func BenchmarkEngine(b *testing.B) {
	for _, bdat := range []bool{false, true} {
		b.Run(map[bool]string{false: "DATA", true: "BDAT"}[bdat], func(b *testing.B) {
			l := newDoor()
			s := start(b, Options{Listener: l, Chunking: true})
			c := newEndless(bdat, b.N)
			b.SetBytes(4096)
			b.ReportAllocs()
			b.ResetTimer()
			l.conns <- c
			<-c.closed
			if m := s.Metrics(); m.Messages != int64(b.N) || m.Bytes != int64(b.N)*4096 {
				b.Errorf("metrics %+v, want %d messages", m, b.N)
			}
		})
	}
}

// TestMessagesDoNotAllocate bounds what a message costs the garbage collector:
// a share of the arena its addresses are kept in.
func TestMessagesDoNotAllocate(t *testing.T) {
	for _, bdat := range []bool{false, true} {
		for _, discard := range []bool{false, true} {
			l := newDoor()
			s := start(t, Options{Listener: l, Chunking: true, Discard: discard})
			const messages = 1000
			perRun := testing.AllocsPerRun(10, func() {
				c := newEndless(bdat, messages)
				l.conns <- c
				<-c.closed
			})
			if perMessage := perRun / messages; perMessage > 0.15 {
				t.Errorf("bdat %v, discard %v: %.2f allocations a message, want less than 0.15", bdat, discard, perMessage)
			}
			if m := s.Metrics(); m.Messages != 11*messages {
				t.Errorf("%d messages, want %d", m.Messages, 11*messages)
			}
		}
	}
}

// BenchmarkPostfixSource feeds the sink and Postfix's smtp-sink in turn with
// Postfix's smtp-source, which does not pipeline: the two must be alike within
// noise where the source is the limit.
func BenchmarkPostfixSource(b *testing.B) {
	for _, program := range []string{"smtp-source", "smtp-sink"} {
		if _, err := exec.LookPath(program); err != nil {
			b.Skipf("%s is missing: install the Debian package postfix", program)
		}
	}
	b.Run("sink", func(b *testing.B) {
		s := startChild(b)
		b.ResetTimer()
		postfixSource(b, s.addr)
		b.StopTimer()
		report(b, s)
	})
	b.Run("smtp-sink", func(b *testing.B) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		addr := l.Addr().String()
		l.Close()
		cmd := exec.Command("smtp-sink", asPostfix(b, addr, "1000")...)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); ; {
			if c, err := net.Dial("tcp", addr); err == nil {
				c.Close()
				break
			}
			if time.Now().After(deadline) {
				b.Fatal("smtp-sink does not listen")
			}
		}
		b.ResetTimer()
		postfixSource(b, addr)
		b.StopTimer()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N), "cpu-ns/msg")
	})
}

// postfixSource sends b.N messages of 4 KiB over twenty connections.
func postfixSource(b *testing.B, addr string) {
	b.Helper()
	sessions := min(20, b.N)
	cmd := exec.Command("smtp-source", "-d", "-s", fmt.Sprint(sessions), "-l", "4096", "-m", fmt.Sprint(b.N), "-f", "a@x.test", "-t", "b@y.test", "inet:"+addr)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("smtp-source: %v\n%s", err, out)
	}
}

// asPostfix has the program leave root, which it insists on.
func asPostfix(b *testing.B, args ...string) []string {
	b.Helper()
	if os.Getuid() != 0 {
		return args
	}
	if _, err := user.Lookup("postfix"); err != nil {
		b.Skip("the user postfix is missing: install the Debian package postfix")
	}
	return append([]string{"-u", "postfix"}, args...)
}
