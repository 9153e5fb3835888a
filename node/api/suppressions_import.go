package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/spool/suppression"
)

const (
	// maxImport bounds one request; a longer list comes in several.
	maxImport = 8 << 20
	// maxLineErrors bounds the lines that are named in an answer.
	maxLineErrors = 1000
	// importAtOnce are stored together.
	importAtOnce = 10_000
)

// The forms of an import.
const (
	typeNDJSON = "application/x-ndjson"
	typeCSV    = "text/csv"
)

// ImportParams say how the lines of an import are to be read.
type ImportParams struct {
	Tenant    string    `query:"tenant" maxLength:"64" doc:"Of lines that name none. Empty is all tenants; with a tenant's key, that tenant."`
	Stream    string    `query:"stream" maxLength:"128" doc:"Of lines that name none."`
	Kind      string    `query:"kind" enum:"bounce,complaint,unsubscribe,manual,import" default:"import" doc:"Of lines that name none."`
	Reason    string    `query:"reason" maxLength:"500" doc:"Of lines that name none."`
	Expires   time.Time `query:"expires" doc:"Of lines that name none."`
	FirstLine int       `query:"first_line" minimum:"1" maximum:"1000000000" default:"1" doc:"The number of the body's first line, where it is part of a longer list. A CSV part has the header line again, which is not counted then."`
	DryRun    bool      `query:"dry_run" doc:"Check the lines and change nothing."`
}

// LineError is a line that was left out.
type LineError struct {
	Line   int    `json:"line"`
	Reason string `json:"reason"`
}

// ImportResult is what an import did. Lines that are wrong are left out, the
// others are stored.
type ImportResult struct {
	Lines  int         `json:"lines" doc:"With an entry in them, good or bad."`
	Failed int         `json:"failed"`
	Errors []LineError `json:"errors" doc:"The first 1000 that failed."`
	DryRun bool        `json:"dry_run,omitempty"`
	SuppressionChange
}

func (a *api) registerImport(h huma.API) {
	schema := h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Suppression](), true, "Suppression")
	text := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	op := huma.Operation{
		OperationID: "import-suppressions", Method: http.MethodPost, Path: "/v1/suppressions:import", DefaultStatus: http.StatusOK, MaxBodyBytes: maxImport, SkipValidateBody: true,
		Summary: "Import a suppression list",
		Description: "The body is NDJSON, an entry a line, or CSV with a header line that names its columns: address, and any of tenant, stream, kind, category, reason, event, added, expires. " +
			"At most 8 MiB; a longer list comes in parts, each with the number of its first line. To import a part again is harmless.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: schema}, typeNDJSON: text, typeCSV: text}},
	}
	route(h, a, op, a.importSuppressions)
	op.RequestBody.Content[typeNDJSON] = text // huma has made it binary
}

// lineReader gives the entries of an import. An error that is a *LineError is
// about one line; io.EOF is the end.
type lineReader interface {
	next() (s Suppression, line int, err error)
}

func (a *api) importSuppressions(ctx context.Context, in *struct {
	ImportParams
	ContentType string `header:"Content-Type"`
	RawBody     []byte `contentType:"application/x-ndjson"`
}) (*ImportResult, error) {
	l, err := a.listed()
	if err != nil {
		return nil, err
	}
	r, err := readImport(in.ContentType, in.RawBody, in.FirstLine)
	if err != nil {
		return nil, huma.Error422UnprocessableEntity(err.Error())
	}
	kind, _ := suppression.ParseKind(in.Kind)
	out := &ImportResult{Errors: []LineError{}, DryRun: in.DryRun}
	var es []suppression.Entry
	var total suppression.Result
	store := func() error {
		r, err := l.Add(es)
		es = es[:0]
		total.Added, total.Changed, total.Unchanged = total.Added+r.Added, total.Changed+r.Changed, total.Unchanged+r.Unchanged
		if r.At.Seq > 0 {
			total.At = r.At
		}
		return err
	}
	for {
		s, line, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		out.Lines++
		if err == nil {
			err = in.defaults(&s)
		}
		var e suppression.Entry
		if err == nil {
			if e, err = entryOf(ctx, &s, kind); err == nil {
				e.Address = l.Key(e.Address)
				err = e.Check()
			}
		}
		if err != nil {
			out.fail(line, err)
			continue
		}
		if es = append(es, e); len(es) == importAtOnce && !in.DryRun {
			if err := store(); err != nil {
				return nil, listFail(err)
			}
		}
	}
	if !in.DryRun {
		if err := store(); err != nil {
			return nil, listFail(err)
		}
		out.SuppressionChange = *changeOf(total)
	}
	return out, nil
}

func (r *ImportResult) fail(line int, err error) {
	r.Failed++
	if len(r.Errors) < maxLineErrors {
		r.Errors = append(r.Errors, LineError{line, strings.ToValidUTF8(err.Error(), "?")})
	}
}

// defaults fills what a line leaves out.
func (p *ImportParams) defaults(s *Suppression) error {
	s.Tenant, s.Stream, s.Reason = cmp.Or(s.Tenant, p.Tenant), cmp.Or(s.Stream, p.Stream), cmp.Or(s.Reason, p.Reason)
	if s.Expires == nil && !p.Expires.IsZero() {
		s.Expires = &p.Expires
	}
	if s.Address == "" {
		return errors.New("there is no address")
	}
	return nil
}

// readImport picks the form.
func readImport(contentType string, body []byte, first int) (lineReader, error) {
	kind, _, err := mime.ParseMediaType(cmp.Or(contentType, typeNDJSON))
	if err != nil {
		return nil, fmt.Errorf("Content-Type: %w", err)
	}
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")) // a byte order mark, as spreadsheets write it
	switch kind {
	case typeNDJSON, "application/json", "application/ndjson", "application/jsonl":
		return &jsonLines{body: body, line: first - 1}, nil
	case typeCSV:
		return newCSVLines(body, first)
	}
	return nil, fmt.Errorf("Content-Type: want %s or %s", typeNDJSON, typeCSV)
}

// jsonLines reads an object a line. Empty lines, and the last line of an export,
// are no entries.
type jsonLines struct {
	body []byte
	line int
}

func (j *jsonLines) next() (s Suppression, line int, err error) {
	for len(j.body) > 0 {
		text, rest, _ := bytes.Cut(j.body, []byte("\n"))
		j.body = rest
		j.line++
		text = bytes.TrimSpace(text)
		if len(text) == 0 || bytes.HasPrefix(text, streamEndMark) {
			continue
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&s); err != nil {
			return s, j.line, err
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return s, j.line, errors.New("more than one object in a line")
		}
		return s, j.line, nil
	}
	return s, j.line, io.EOF
}

// csvLines reads CSV (RFC 4180) with a header line.
type csvLines struct {
	r       *csv.Reader
	columns []string
	offset  int // of line numbers
}

var csvColumns = []string{"tenant", "address", "stream", "kind", "category", "reason", "event", "by", "added", "expires"}

func newCSVLines(body []byte, first int) (*csvLines, error) {
	c := &csvLines{r: csv.NewReader(bytes.NewReader(body))}
	c.r.FieldsPerRecord = -1
	head, err := c.r.Read()
	if err != nil {
		return nil, fmt.Errorf("read the header line: %w", err)
	}
	for _, name := range head {
		name = strings.ToLower(strings.TrimSpace(name))
		if !slices.Contains(csvColumns, name) || slices.Contains(c.columns, name) {
			return nil, fmt.Errorf("column %.40q of the header line: want each of %s at most once", name, strings.Join(csvColumns, ", "))
		}
		c.columns = append(c.columns, name)
	}
	if !slices.Contains(c.columns, "address") {
		return nil, errors.New("the header line names no column address")
	}
	if first > 1 {
		// The header was put before this part: the next line has the number.
		c.offset = first - bytes.Count(body[:c.r.InputOffset()], []byte("\n")) - 1
	}
	return c, nil
}

func (c *csvLines) next() (s Suppression, line int, err error) {
	cells, err := c.r.Read()
	var bad *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return s, 0, io.EOF
	case errors.As(err, &bad):
		return s, bad.StartLine + c.offset, bad.Err
	case err != nil:
		return s, 0, err
	}
	line, _ = c.r.FieldPos(0)
	line += c.offset
	if len(cells) > len(c.columns) {
		return s, line, fmt.Errorf("%d cells; the header line has %d", len(cells), len(c.columns))
	}
	for i, cell := range cells {
		if cell = strings.TrimSpace(cell); cell == "" {
			continue
		}
		if err := s.set(c.columns[i], cell); err != nil {
			return s, line, err
		}
	}
	return s, line, nil
}

// set gives a field its value by the name of its column.
func (s *Suppression) set(column, cell string) error {
	texts := map[string]*string{"tenant": &s.Tenant, "address": &s.Address, "stream": &s.Stream, "kind": &s.Kind, "category": &s.Category, "reason": &s.Reason, "event": &s.Event, "by": &s.By}
	if text := texts[column]; text != nil {
		*text = cell
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, cell)
	if err != nil {
		return fmt.Errorf("%s: want a time as 2026-11-22T10:15:00Z", column)
	}
	if column == "added" {
		s.Added = &t
	} else {
		s.Expires = &t
	}
	return nil
}
