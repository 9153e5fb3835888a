package eventlog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	nodeclient "hikyaku/node/api/client"
	"hikyaku/node/events"
	"hikyaku/spool/message"
	"hikyaku/tools/hikyaku/cli"
)

var errEnough = errors.New("no more events are wanted")

// Read calls fn with each event of a file, a directory of segments, or standard
// input ("-"), oldest first as they were written, until it says no.
func Read(ctx context.Context, c *cli.Call, path string, fn func(*message.EventRecord) bool) error {
	in := c.In
	if path != "-" {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.IsDir() {
			_, err := events.SearchDir(ctx, path, events.Query{}, func(rec *message.EventRecord, _ []byte) error {
				if !fn(rec) {
					return errEnough
				}
				return nil
			})
			if errors.Is(err, errEnough) {
				return nil
			}
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	b := bufio.NewReader(in)
	// A segment is zstd whose first frame may be a skippable one (RFC 8878 3.1).
	if head, _ := b.Peek(4); len(head) == 4 && (bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}) || head[0]&0xf0 == 0x50 && bytes.Equal(head[1:], []byte{0x2a, 0x4d, 0x18})) {
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		defer z.Close()
		b = bufio.NewReader(z)
	}
	return eachEvent(ctx, path, b, fn)
}

func eachEvent(ctx context.Context, path string, in io.Reader, fn func(*message.EventRecord) bool) error {
	const maxLine = 1 << 20 // far beyond any event
	sc := bufio.NewScanner(in)
	sc.Buffer(make([]byte, 64<<10), maxLine)
	for n := 1; sc.Scan(); n++ {
		if len(bytes.TrimSpace(sc.Bytes())) == 0 {
			continue
		}
		rec, err := nodeclient.DecodeEvent(sc.Bytes())
		if err != nil {
			return cli.Hint(fmt.Errorf("%s, line %d: %w", path, n, err), "want the event log as JSON lines: \"hikyaku events search --json\"")
		}
		if !fn(rec) {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if err := sc.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return fmt.Errorf("%s: a line of more than %d bytes is no event", path, maxLine)
		}
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
