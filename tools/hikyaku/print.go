package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/charmbracelet/lipgloss"

	"hikyaku/tools/hikyaku/human"
)

// color is an ANSI colour, used only on a terminal.
type color string

const (
	bold   color = "1"
	dim    color = "2"
	red    color = "31"
	green  color = "32"
	yellow color = "33"
	cyan   color = "36"
)

// paint colours text on a terminal and leaves it alone elsewhere.
func (c *cli) paint(text string, col color) string {
	if !c.color || text == "" {
		return text
	}
	return "\x1b[" + string(col) + "m" + text + "\x1b[0m"
}

// print shows an answer: v as JSON with --json, else what text writes.
func (c *cli) print(v any, text func(w io.Writer) error) error {
	if c.json {
		return c.printJSON(v)
	}
	return text(c.out)
}

// printJSON shows v as indented JSON.
func (c *cli) printJSON(v any) error {
	e := json.NewEncoder(c.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	return nil
}

// table shows rows aligned under a header. A header that begins with ">" is
// aligned to the right (numbers). Cells are cleaned of control bytes; colour a
// cell with paint before.
func (c *cli) table(w io.Writer, header []string, rows [][]string) error {
	width := make([]int, len(header))
	right := make([]bool, len(header))
	head := make([]string, len(header))
	for i, h := range header {
		head[i], right[i] = strings.CutPrefix(h, ">")
		width[i] = lipgloss.Width(head[i])
	}
	for r, row := range rows {
		for i := range row {
			rows[r][i] = c.cell(row[i])
			width[i] = max(width[i], lipgloss.Width(row[i]))
		}
	}
	var b strings.Builder
	line := func(cells []string, col color) {
		end := len(cells) // no blanks at the end of a line
		for end > 0 && cells[end-1] == "" {
			end--
		}
		cells = cells[:end]
		for i, cell := range cells {
			pad := strings.Repeat(" ", max(0, width[i]-lipgloss.Width(cell)))
			if col != "" {
				cell = c.paint(cell, col)
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
	line(head, bold)
	for _, row := range rows {
		line(row, "")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cell is text fit for one cell: one line, no control bytes but our own
// colours. Colours in foreign text can do no more than colour it.
func (c *cli) cell(s string) string {
	s = strings.ReplaceAll(s, "\n", " ")
	if !c.color || !strings.Contains(s, "\x1b[") {
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
		switch color(code) {
		case "0", bold, dim, red, green, yellow, cyan:
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

// state paints a state.
func (c *cli) state(s string) string { return c.paint(s, stateColor(s)) }

// stateColor is green for good, red for the end, yellow for waiting.
func stateColor(s string) color {
	switch s {
	case "delivered", "active", "accepted", "released", "healthy", "recover", "release":
		return green
	case "bounced", "expired", "cancelled", "suppressed", "rejected", "blocked", "retired", "block", "retire":
		return red
	case "deferred", "held", "paused", "resting", "slowed", "probation", "rest", "slow", "hold":
		return yellow
	}
	return "0"
}
