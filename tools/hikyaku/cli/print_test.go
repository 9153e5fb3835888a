package cli

import (
	"bytes"
	"strings"
	"testing"
)

func TestTableCleansForeignText(t *testing.T) {
	var out bytes.Buffer
	for _, tt := range []struct {
		color bool
		in    string
		want  string
	}{
		{false, "a\x1b[2Jb", `a\x1b[2Jb`},
		{true, "a\x1b[2Jb", `a\x1b[2Jb`},
		{true, "\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"},
		{false, "\x1b[31mred", `\x1b[31mred`},
		{true, "\x1b]0;title\x07", `\x1b]0;title\x07`},
		{true, "\x1b[", `\x1b[`},
		{false, "two\nlines", "two lines"},
		{false, "\u009b2J", `\x9b2J`},
	} {
		out.Reset()
		c := &Call{Color: tt.color}
		if err := c.Table(&out, []string{"X"}, [][]string{{tt.in}}); err != nil {
			t.Fatal(err)
		}
		_, row, _ := strings.Cut(out.String(), "\n")
		if row != tt.want+"\n" {
			t.Errorf("%q (colour %v): %q, want %q", tt.in, tt.color, row, tt.want)
		}
	}
}

func TestTableAligns(t *testing.T) {
	var out bytes.Buffer
	c := &Call{Color: true}
	if err := c.Table(&out, []string{"NAME", ">N"}, [][]string{{"日本", "5"}, {c.Paint("ok", Green), "100"}}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if lines[1] != "日本    5" || lines[2] != "\x1b[32mok\x1b[0m    100" {
		t.Errorf("%q", out.String())
	}
}
