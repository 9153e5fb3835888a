package api

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/state"
)

// cursor is where a merged listing goes on: for each node the page that was
// being read, and how much of it has been given out. Nodes whose listing has
// ended are not in it.
type cursor struct {
	// Limit is the size of a node's page. It must stay the same, since a place
	// within a page counts from its beginning.
	Limit int              `json:"l"`
	Nodes map[string]place `json:"n"`
}

// place is a node's page, by its token, and how much of it was given out.
type place struct {
	Page string `json:"p,omitempty"`
	Skip int    `json:"s,omitempty"`
}

// Bounds of a cursor: it travels in a query parameter.
const (
	maxCursor     = 16 << 10
	maxCursorText = 256 << 10 // of what is packed in it
)

// first is the cursor of a first page.
func first(nodes []state.Node, limit int) cursor {
	c := cursor{Limit: limit, Nodes: make(map[string]place, len(nodes))}
	for _, n := range nodes {
		c.Nodes[n.Name] = place{}
	}
	return c
}

// String packs the cursor, "" when nothing is left. A cursor that does not fit
// is an error: with so many nodes a listing has to be narrowed.
func (c cursor) pack() (string, error) {
	if len(c.Nodes) == 0 {
		return "", nil
	}
	text, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		return "", err
	}
	if _, err := w.Write(text); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	if base64.RawURLEncoding.EncodedLen(b.Len()) > maxCursor {
		return "", errors.New("too many nodes")
	}
	return base64.RawURLEncoding.EncodeToString(b.Bytes()), nil
}

func unpack(s string) (cursor, error) {
	bad := huma.Error422UnprocessableEntity("page: not a page token of this listing")
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(s) > maxCursor {
		return cursor{}, bad
	}
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(b)), maxCursorText+1))
	var c cursor
	if err != nil || len(text) > maxCursorText || json.Unmarshal(text, &c) != nil || c.Limit < 1 || c.Limit > 1000 || len(c.Nodes) == 0 {
		return cursor{}, bad
	}
	for _, p := range c.Nodes {
		if p.Skip < 0 || p.Skip > c.Limit || len(p.Page) > 1024 {
			return cursor{}, bad
		}
	}
	return c, nil
}

// page is one node's page of a listing.
type page[T any] struct {
	items []T
	next  string
}

// merge takes up to limit items from the nodes' pages, each page in its own
// order, the smallest head first, and says where each node goes on. same items
// of several nodes (less neither way, and join says so) become one.
func merge[T any](c cursor, pages map[string]page[T], order []string, limit int, less func(x, y *T) bool, join func(into, from *T) bool) ([]T, cursor) {
	at := map[string]int{}
	for name := range pages {
		at[name] = c.Nodes[name].Skip
	}
	var out []T
	for {
		best := ""
		var head *T
		for _, name := range order {
			p, ok := pages[name]
			if !ok || at[name] >= len(p.items) {
				continue
			}
			if x := &p.items[at[name]]; head == nil || less(x, head) {
				best, head = name, x
			}
		}
		if head == nil {
			break
		}
		if n := len(out); n > 0 && join != nil && join(&out[n-1], head) {
			at[best]++
			continue
		}
		// A node whose page is used up but goes on must be asked before more can
		// be put in order.
		if len(out) >= limit || len(out) > 0 && stuck(pages, at, order) {
			break
		}
		out = append(out, *head)
		at[best]++
	}
	return out, rest(c, pages, at)
}

// stuck reports whether the next item of a node is on a page that is not here.
func stuck[T any](pages map[string]page[T], at map[string]int, order []string) bool {
	for _, name := range order {
		if p, ok := pages[name]; ok && at[name] >= len(p.items) && p.next != "" {
			return true
		}
	}
	return false
}

func rest[T any](c cursor, pages map[string]page[T], at map[string]int) cursor {
	next := cursor{Limit: c.Limit, Nodes: map[string]place{}}
	for name, p := range pages {
		switch {
		case at[name] < len(p.items):
			next.Nodes[name] = place{c.Nodes[name].Page, at[name]}
		case p.next != "":
			next.Nodes[name] = place{Page: p.next}
		}
	}
	return next
}

// packed is the page token of what is left.
func packed(c cursor) (string, error) {
	s, err := c.pack()
	if err != nil {
		return "", problem(http.StatusUnprocessableEntity, "there are too many nodes to go on from page to page; narrow the listing with node=")
	}
	return s, nil
}
