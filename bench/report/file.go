package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxReportBytes bounds what Read takes: an hour of a dozen processes and
// carriers is below 10 MB.
const maxReportBytes = 128 << 20

// Write writes the report into dir as JSON and as a page, named after the
// scenario and the start. dir is made if it is not there.
func (r *Report) Write(dir string) (jsonPath, htmlPath string, err error) {
	text, err := r.Marshal()
	if err != nil {
		return "", "", err
	}
	page, err := r.Page()
	if err != nil {
		return "", "", err
	}
	name := fileName(r.Scenario) + "-" + r.Started.UTC().Format("20060102-150405")
	jsonPath, htmlPath = filepath.Join(dir, name+".json"), filepath.Join(dir, name+".html")
	err = os.MkdirAll(dir, 0o755)
	if err == nil {
		err = writeWhole(jsonPath, text)
	}
	if err == nil {
		err = writeWhole(htmlPath, page)
	}
	if err != nil {
		return "", "", fmt.Errorf("write report: %w", err)
	}
	return jsonPath, htmlPath, nil
}

// Marshal is the report as JSON, with schema and statuses filled in.
func (r *Report) Marshal() ([]byte, error) {
	r.Schema = Schema
	for i := range r.Figures {
		r.Figures[i].Status = r.Figures[i].Judge()
	}
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return append(b, '\n'), nil
}

// fileName keeps what may be in a file name everywhere.
func fileName(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' {
			return c
		}
		return '-'
	}, s)
}

// writeWhole replaces a file at once: who looks meanwhile sees the old or the
// new one.
func writeWhole(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, werr := f.Write(b)
	if err := errors.Join(werr, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Read reads a report from a file.
func Read(path string) (*Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxReportBytes+1))
	if err == nil && len(b) > maxReportBytes {
		err = fmt.Errorf("more than %d MiB", maxReportBytes>>20)
	}
	var r *Report
	if err == nil {
		r, err = Unmarshal(b)
	}
	if err != nil {
		return nil, fmt.Errorf("read report %s: %w", path, err)
	}
	return r, nil
}

// Unmarshal reads a report strictly: a newer schema and unknown fields are
// errors.
func Unmarshal(b []byte) (*Report, error) {
	// The number comes first: what else a newer schema has would only be
	// reported as an unknown field.
	var number struct {
		Schema *int `json:"schema"`
	}
	if err := json.Unmarshal(b, &number); err != nil {
		return nil, fmt.Errorf("not a report: %w", err)
	}
	switch {
	case number.Schema == nil:
		return nil, errors.New("not a report: it has no schema number")
	case *number.Schema > Schema:
		return nil, fmt.Errorf("schema %d is newer than this program's %d: use the hikyaku that wrote it, or a later one", *number.Schema, Schema)
	case *number.Schema < 1:
		return nil, fmt.Errorf("there is no schema %d", *number.Schema)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	r := &Report{}
	if err := d.Decode(r); err != nil {
		return nil, err
	}
	if err := r.validate(); err != nil {
		return nil, err
	}
	for i := range r.Figures {
		if f := r.Figures[i]; f.Status != f.Judge() {
			return nil, fmt.Errorf("figure %q says %q, but its value and target say %q: was it edited?", f.Name, f.Status, f.Judge())
		}
	}
	return r, nil
}
