package cli

import (
	"bytes"
	"strings"
	"testing"
)

func TestAskYes(t *testing.T) {
	for in, ok := range map[string]bool{"yes\n": true, " yes \n": true, "yes": true, "y\n": false, "\n": false, "": false, "YES!\n": false} {
		var out bytes.Buffer
		err := askYes(strings.NewReader(in), &out, "This ends 3 deliveries for good.")
		if (err == nil) != ok || !strings.Contains(out.String(), "3 deliveries") {
			t.Errorf("answer %q: %v, asked %q", in, err, out.String())
		}
	}
}
