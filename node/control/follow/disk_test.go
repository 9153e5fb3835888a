package follow

import (
	"bytes"
	"testing"

	"hikyaku/controlplane/keyspace"
)

// FuzzFile: whatever is on the disk is an error, or a policy that is written the
// same way again.
func FuzzFile(f *testing.F) {
	good, err := encodeFile("c", keyspace.NewSnapshot(3, "sum", []keyspace.Record{{Kind: "Source", Name: "s", Revision: 2, Spec: []byte(`{}`)}}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("{}\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		cluster, s, err := decodeFile(b)
		if err != nil {
			return
		}
		again, err := encodeFile(cluster, s)
		if err != nil {
			t.Fatal(err)
		}
		_, twice, err := decodeFile(again)
		if err != nil || twice.Revision != s.Revision || twice.Sum != s.Sum || len(twice.Records) != len(s.Records) {
			t.Errorf("%v", err)
		}
		if third, _ := encodeFile(cluster, twice); !bytes.Equal(third, again) {
			t.Error("not stable")
		}
	})
}
