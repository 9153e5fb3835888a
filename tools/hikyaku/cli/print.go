package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/charmbracelet/lipgloss"

	"hikyaku/tools/hikyaku/human"
)

// Color is an ANSI colour, used only on a terminal.
type Color string

const (
	Bold   Color = "1"
	Dim    Color = "2"
	Red    Color = "31"
	Green  Color = "32"
	Yellow Color = "33"
	Cyan   Color = "36"
)

// Paint colours text on a terminal and leaves it alone elsewhere.
func (c *Call) Paint(text string, col Color) string {
	if !c.Color || text == "" {
		return text
	}
	return "\x1b[" + string(col) + "m" + text + "\x1b[0m"
}

// Print shows an answer: v as JSON with --json, else what text writes.
func (c *Call) Print(v any, text func(w io.Writer) error) error {
	if c.JSON {
		return c.PrintJSON(v)
	}
	return text(c.Out)
}

// PrintJSON shows v as indented JSON.
func (c *Call) PrintJSON(v any) error {
	e := json.NewEncoder(c.Out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	return nil
}

// Table shows rows aligned under a header. A header that begins with ">" is
// aligned to the right (numbers). Cells are cleaned of control bytes; colour a
// cell with paint before.
func (c *Call) Table(w io.Writer, header []string, rows [][]string) error {
	width := make([]int, len(header))
	right := make([]bool, len(header))
	head := make([]string, len(header))
	for i, h := range header {
		head[i], right[i] = strings.CutPrefix(h, ">")
		width[i] = lipgloss.Width(head[i])
	}
	for r, row := range rows {
		for i := range row {
			rows[r][i] = c.Cell(row[i])
			width[i] = max(width[i], lipgloss.Width(row[i]))
		}
	}
	var b strings.Builder
	line := func(cells []string, col Color) {
		end := len(cells) // no blanks at the end of a line
		for end > 0 && cells[end-1] == "" {
			end--
		}
		cells = cells[:end]
		for i, cell := range cells {
			pad := strings.Repeat(" ", max(0, width[i]-lipgloss.Width(cell)))
			if col != "" {
				cell = c.Paint(cell, col)
			}
			switch {
			case right[i]:
				b.WriteString(pad + cell)
			case i == len(cells)-1:
				b.WriteString(cell)
			default:
				b.WriteString(cell + pad)
			}
			if i < len(cells)-1 {
				b.WriteString("  ")
			}
		}
		b.WriteByte('\n')
	}
	line(head, Bold)
	for _, row := range rows {
		line(row, "")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Cell is text fit for one cell: one line, no control bytes but our own
// colours. Colours in foreign text can do no more than colour it.
func (c *Call) Cell(s string) string {
	s = strings.ReplaceAll(s, "\n", " ")
	if !c.Color || !strings.Contains(s, "\x1b[") {
		return human.Clean(s)
	}
	var b strings.Builder
	for {
		i := strings.Index(s, "\x1b[")
		if i < 0 {
			b.WriteString(human.Clean(s))
			return b.String()
		}
		b.WriteString(human.Clean(s[:i]))
		code, rest, ok := strings.Cut(s[i+2:], "m")
		switch Color(code) {
		case "0", Bold, Dim, Red, Green, Yellow, Cyan:
		default:
			ok = false
		}
		if !ok {
			b.WriteString(`\x1b`)
			s = s[i+1:]
			continue
		}
		b.WriteString("\x1b[" + code + "m")
		s = rest
	}
}

// State paints a state.
func (c *Call) State(s string) string { return c.Paint(s, StateColor(s)) }

// StateColor is green for good, red for the end, yellow for waiting.
func StateColor(s string) Color {
	switch s {
	case "delivered", "active", "accepted", "released", "healthy", "recover", "release":
		return Green
	case "bounced", "expired", "cancelled", "suppressed", "rejected", "blocked", "retired", "block", "retire":
		return Red
	case "deferred", "held", "paused", "resting", "slowed", "probation", "rest", "slow", "hold":
		return Yellow
	}
	return "0"
}
