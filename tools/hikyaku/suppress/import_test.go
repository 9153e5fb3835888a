package suppress

import "testing"

// TestQuoted: which quotes open a cell that goes on in the next line (RFC 4180 2).
func TestQuoted(t *testing.T) {
	for _, tt := range []struct {
		line         string
		before, want bool
	}{
		{"ann@example.com,plain\n", false, false},
		{`ann@example.com,"two` + "\n", false, true},
		{`lines"` + "\n", true, false},
		{`ann@example.com,"said ""no"""` + "\n", false, false},
		{`ann@example.com,5" disk` + "\n", false, false},
		{`ann@example.com,5" disk,"open` + "\n", false, true},
		{`still, open` + "\n", true, true},
		{`"",` + "\n", false, false},
		{`""` + "\n", true, true},
	} {
		if got := quoted([]byte(tt.line), tt.before); got != tt.want {
			t.Errorf("after %q, open before %t: open %t, want %t", tt.line, tt.before, got, tt.want)
		}
	}
}
