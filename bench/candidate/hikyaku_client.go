package candidate

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"hikyaku/node/api"
)

// maxAnswer bounds an answer of the node's API.
const maxAnswer = 64 << 20

// Post sends JSON to a path of the injection listener and decodes the answer.
// headers are names and values in turn.
func (h *Hikyaku) Post(ctx context.Context, path string, body any, headers ...string) (int, map[string]any, error) {
	return h.Send(ctx, http.MethodPost, path, body, headers...)
}

// Send sends a request with any method to the injection listener; body may be nil.
func (h *Hikyaku) Send(ctx context.Context, method, path string, body any, headers ...string) (int, map[string]any, error) {
	return send(ctx, method, "http://"+h.HTTP+path, body, headers)
}

// Administer sends a request with any method to the admin listener; body may be nil.
func (h *Hikyaku) Administer(ctx context.Context, method, path string, body any, headers ...string) (int, map[string]any, error) {
	return send(ctx, method, "http://"+h.Admin+path, body, headers)
}

func send(ctx context.Context, method, target string, body any, headers []string) (int, map[string]any, error) {
	var b []byte
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return 0, nil, fmt.Errorf("%s %s: %w", method, target, err)
		}
	}
	return call(ctx, method, target, b, headers)
}

// TailEvents calls fn with each line of the event log that is written from now on
// and is of one of the types, until ctx ends or fn fails. The line is valid until
// fn returns. A stream ends after so many lines; then it is asked for again, and
// what is written in between is missed.
func (h *Hikyaku) TailEvents(ctx context.Context, types string, fn func(line []byte) error) error {
	for {
		if err := h.tail(ctx, types, fn); err != nil {
			return fmt.Errorf("follow the event log: %w", err)
		}
	}
}

// tail is one stream; nil says that the node ended it in order.
func (h *Hikyaku) tail(ctx context.Context, types string, fn func(line []byte) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.Admin+"/v1/events/tail?seconds=86400&limit=1000000&type="+url.QueryEscape(types), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if end, ok := api.ParseStreamEnd(lines.Bytes()); ok {
			if end.Error != "" {
				return errors.New(end.Error)
			}
			return nil
		}
		if err := fn(lines.Bytes()); err != nil {
			return err
		}
	}
	return cmp.Or(lines.Err(), io.ErrUnexpectedEOF)
}

// Suppressed calls fn with each address on the suppression lists.
func (h *Hikyaku) Suppressed(ctx context.Context, fn func(address string)) error {
	for page := ""; ; {
		status, v, err := h.Get(ctx, "/v1/suppressions?limit=1000&page="+url.QueryEscape(page))
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d: %v", status, v)
		}
		if err != nil {
			return fmt.Errorf("list suppressions: %w", err)
		}
		items, _ := v["items"].([]any)
		for _, item := range items {
			entry, _ := item.(map[string]any)
			if address, ok := entry["address"].(string); ok {
				fn(address)
			}
		}
		if page, _ = v["next"].(string); page == "" {
			return nil
		}
	}
}

// Get reads JSON from a path of the admin listener, or from a full URL.
func (h *Hikyaku) Get(ctx context.Context, path string) (int, map[string]any, error) {
	if !strings.Contains(path, "://") {
		path = "http://" + h.Admin + path
	}
	return call(ctx, http.MethodGet, path, nil, nil)
}

func call(ctx context.Context, method, url string, body []byte, headers []string) (int, map[string]any, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return resp.StatusCode, nil, fmt.Errorf("%s %s: read the answer: %w", method, url, err)
	}
	var v map[string]any
	if len(b) > 0 {
		if err := json.Unmarshal(b, &v); err != nil {
			return resp.StatusCode, nil, fmt.Errorf("%s %s: status %d, not JSON: %s", method, url, resp.StatusCode, Tail(string(b), 2000))
		}
	}
	return resp.StatusCode, v, nil
}

// Commands runs commands of a binary that ask no node.
func Commands(binary string) *Hikyaku { return &Hikyaku{opts: HikyakuOptions{Binary: binary}} }

// Run runs a command of the binary against this node and returns its output,
// standard error behind standard output, and its exit code.
func (h *Hikyaku) Run(ctx context.Context, stdin string, args ...string) (string, int, error) {
	cmd := exec.CommandContext(ctx, h.opts.Binary, args...)
	cmd.Env = append(os.Environ(), "HIKYAKU_API=http://"+h.Admin)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return "", -1, fmt.Errorf("hikyaku %s: %w", strings.Join(args, " "), err)
	}
	return out.String() + errOut.String(), cmd.ProcessState.ExitCode(), nil
}

// CLI runs a command of the binary against this node and returns its standard
// output; an exit code other than 0 is an error.
func (h *Hikyaku) CLI(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, h.opts.Binary, args...)
	cmd.Env = append(os.Environ(), "HIKYAKU_API=http://"+h.Admin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("hikyaku %s: %w\n%s%s", strings.Join(args, " "), err, out.String(), errOut.String())
	}
	return out.String(), nil
}

// Metrics reads the node's counters: the sample as it is written, with its
// labels, as in `hikyaku_spool_syncs_total` or `x{a="b"}`, to its value.
func (h *Hikyaku) Metrics(ctx context.Context) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.Admin+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read metrics: status %d", resp.StatusCode)
	}
	return parseMetrics(io.LimitReader(resp.Body, maxAnswer))
}

// parseMetrics reads the text format of Prometheus 0.0.4: "name{labels} value
// [time]" a line, # for comments.
func parseMetrics(r io.Reader) (map[string]float64, error) {
	m := map[string]float64{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		end := strings.LastIndexByte(line, '}') + 1 // labels may hold blanks
		if end == 0 {
			end = max(strings.IndexByte(line, ' '), 0)
		}
		f := strings.Fields(line[end:])
		if end == 0 || len(f) == 0 {
			return nil, fmt.Errorf("read metrics: not a sample: %q", line)
		}
		v, err := strconv.ParseFloat(f[0], 64)
		if err != nil {
			return nil, fmt.Errorf("read metrics: %q: %w", line, err)
		}
		m[line[:end]] = v
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	return m, nil
}

// Queued is the number of recipients still queued, once the node has counted.
func (h *Hikyaku) Queued(ctx context.Context) (n int64, counted bool, err error) {
	status, v, err := h.Get(ctx, "/v1/overview")
	if err != nil {
		return 0, false, err
	}
	queue, _ := v["queue"].(map[string]any)
	queued, ok := queue["queued"].(float64)
	counted, _ = queue["counted"].(bool)
	if status != http.StatusOK || !ok {
		return 0, false, fmt.Errorf("overview: status %d without a queue", status)
	}
	return int64(queued), counted, nil
}

// Drained waits until nothing is queued.
func (h *Hikyaku) Drained(ctx context.Context, within time.Duration) error {
	return Until(ctx, within, "the queue to be empty", func() (bool, error) {
		n, counted, err := h.Queued(ctx)
		return err == nil && counted && n == 0, err
	})
}
