package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

func TestConfigurationPagesAreUpToDate(t *testing.T) {
	want, err := configuration(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range configurationPages {
		got, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is out of date: run \"go run ./tools/docgen\"", page)
		}
	}
}

func TestCarriersPageIsUpToDate(t *testing.T) {
	got, err := os.ReadFile(filepath.Join(root, carriersPage))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, carriers()) {
		t.Errorf("%s is out of date: run \"go run ./tools/docgen\"", carriersPage)
	}
	for _, want := range []string{"| `docomo` | `.docomo.ne.jp` | `docomo.ne.jp` | 3 | 20 | 5/s |", "90 recipients a connection", "odd local parts quoted", "**NTT docomo** (`docomo`)."} {
		if !bytes.Contains(got, []byte(want)) {
			t.Errorf("no %q", want)
		}
	}
}

func TestConfigurationNamesWhatIsPromised(t *testing.T) {
	text, err := configuration(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| `node.data_dir` | text | holds the queue",
		"| `ingest.smtp[].relay_networks` | list of networks |",
		"| `ingest.http.timeouts.body` | duration |",
		"| `delivery.port` | number | where MX hosts are asked. Default 25. |",
		"### Carrier",
		"| `per_source.rate` | rate |",
		"| `windows[].tz` | text | the IANA time zone. Default UTC. |",
		"| `password` | secret text |",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q", want)
		}
	}
}

func TestFieldsWithoutCommentAreAnError(t *testing.T) {
	s := source{"p.T": {fields: []field{{key: "a", typ: "string"}}}}
	if err := s.rows(&bytes.Buffer{}, "p.T", ""); err == nil || !strings.Contains(err.Error(), "key a has no comment") {
		t.Error(err)
	}
	if err := s.rows(&bytes.Buffer{}, "p.U", ""); err == nil {
		t.Error("an unknown type was taken")
	}
}
