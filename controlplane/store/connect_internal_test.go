package store

import (
	"strings"
	"testing"
)

func TestVersionFloors(t *testing.T) {
	for v, ok := range map[string]bool{
		"3.4.23": false, "3.5.32": false, "3.5.33": true, "3.5.40": true, "3.6.0": false, "3.6.13": false, "3.6.14": true,
		"3.7.0": false, "3.7.1": true, "3.7.1-rc.1": false, "3.7.3": true, "3.8.0": true, "3.8.0-alpha.0": true, "4.0.0": true,
		"v3.6.14": true, "3.6.14+git": false, "2.3.8": false, "": false, "3.6": false, "3.6.x": false, "3.-6.14": false, "not decided": false,
	} {
		err := checkVersion(v)
		if (err == nil) != ok {
			t.Errorf("%s: %v", v, err)
		}
		if v == "3.6.13" && !strings.Contains(err.Error(), "at least 3.6.14") {
			t.Error(err)
		}
	}
}
