package strict_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hikyaku/controlplane/manifest/strict"
	"hikyaku/controlplane/policy"
)

type Common struct {
	Listen string `json:"listen"`
}

type server struct {
	Common
	Name    string            `json:"name"`
	Port    uint16            `json:"port"`
	Max     int64             `json:"max"`
	Ratio   float64           `json:"ratio"`
	On      *bool             `json:"on"`
	Wait    policy.Duration   `json:"wait"`
	Nets    []policy.Network  `json:"nets"`
	Labels  map[string]string `json:"labels"`
	Backup  *server           `json:"backup"`
	Peers   []server          `json:"peers"`
	private int
	Skipped chan int `json:"-"`
}

func decode(t testing.TB, text string) (*server, error) {
	t.Helper()
	docs, err := strict.Parse("f.yaml", []byte(text))
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 {
		t.Fatalf("%d documents", len(docs))
	}
	s := &server{}
	return s, docs[0].Decode(s).Err()
}

func TestDecode(t *testing.T) {
	on := true
	want := &server{Common: Common{"127.0.0.1:25"}, Name: "a\nb\n", Port: 65535, Max: -5, Ratio: 0.5, On: &on, Wait: policy.Duration(90 * time.Second),
		Labels: map[string]string{"x y": "1"}, Backup: &server{Name: "b", Ratio: 2}, Peers: []server{{Name: "1.10"}}}
	_ = want.private
	for _, text := range []string{
		"# head\nlisten: 127.0.0.1:25\nname: |\n  a\n  b\nport: 65535\nmax: -5\nratio: 0.5\non: true\nwait: 90s # why\nlabels: {x y: '1'}\nbackup:\n  name: b\n  ratio: 2\npeers:\n  - name: \"1.10\"\n",
		`{"listen":"127.0.0.1:25","name":"a\nb\n","port":65535,"max":-5,"ratio":0.5,"on":true,"wait":"90s","labels":{"x y":"1"},"backup":{"name":"b","ratio":2},"peers":[{"name":"1.10"}]}`,
	} {
		got, err := decode(t, text)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(server{})); d != "" {
			t.Error(d)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	tests := []struct{ text, want string }{
		{"nmae: a", `f.yaml:1:1: nmae: unknown key "nmae"; did you mean "name"?`},
		{"name: a\nbackup:\n  prot: 25\n", `f.yaml:3:3: backup.prot: unknown key "prot"; did you mean "port"?`},
		{"zzzzzzzz: a", `f.yaml:1:1: zzzzzzzz: unknown key "zzzzzzzz"; the keys here are backup, labels, listen, max, name, nets, on, peers, port, ratio, wait`},
		{"private: 1", `unknown key "private"`},
		{"name: a\nname: b", `f.yaml:2:1: mapping key "name" already defined at [1:1]`},
		{`{"name": "a", "name": "b"}`, `already defined`},
		{"name: 5", `f.yaml:1:7: name: want text, got the number 5; put it in quotes: "5"`},
		{"name: true", `put it in quotes: "true"`},
		{"name: [a]", "name: want text, got a list"},
		{"name:", "f.yaml:1:1: name: there is no value; give one or leave the key out"},
		{"name: null", "there is no value"},
		{"name: &x a", "anchors"},
		{"name: *x", "aliases"},
		{"<<: {name: a}", "<<"},
		{"name: !!str 5", "tags"},
		{"port: 65536", "f.yaml:1:7: port: want a whole number from 0 to 65535, got the number 65536"},
		{"port: -1", "from 0 to 65535"},
		{"port: '25'", `got the text "25"`},
		{"port: 2.5", "want a whole number"},
		{"max: 99999999999999999999", "want a whole number"},
		{"ratio: .inf", "want a number"},
		{"on: yes", `want true or false, got the text "yes"`},
		{"wait: 90", `f.yaml:1:7: wait: duration "90": want a number with a unit`},
		{"wait: {a: b}", "want text, got a mapping"},
		{"nets: 10.0.0.0/8", "nets: want a list, as in [a, b], got the text"},
		{"nets:\n- 10.0.0.0/8\n- 10.0.0.0/33\n", "f.yaml:3:3: nets[1]: network"},
		{"peers:\n- name: a\n- nam: b\n", `f.yaml:3:3: peers[1].nam: unknown key "nam"; did you mean "name"?`},
		{"labels: [a]", "want a mapping"},
		{"- a", "want a mapping of keys to values, got a list"},
		{"just text", "want a mapping"},
		{"a: [", "f.yaml:1:"},
		{"name: 'x", "f.yaml:1:7: could not find end character"},
		{"a:\n\t- b", "f.yaml:2:1: found character"},
		{strings.Repeat("[", 100), "f.yaml:1:65: nested deeper than 64 levels"},
		{strings.Repeat("- ", 100), "nested deeper"},
		{"---\n---\nname: a", "empty documents"},
		{"name: a\n---\n---\nname: b", "empty documents"},
		{"#" + strings.Repeat("a", strict.MaxSize), "larger than 8 MiB"},
	}
	for _, tt := range tests {
		s, err := decode(t, tt.text)
		if err == nil {
			t.Errorf("%.40q was read as %+v", tt.text, s)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.40q:\n got %v\nwant %s", tt.text, err, tt.want)
		}
		var all strict.Errors
		if !errors.As(err, &all) || len(all) != 1 {
			t.Errorf("%.40q: want one error, got %v", tt.text, err)
		}
	}
}

func TestDecodeReportsAllButNotEndlessly(t *testing.T) {
	_, err := decode(t, "nmae: a\nprot: 5\nwait: x\n")
	if got := strings.Count(err.Error(), "\n"); got != 2 {
		t.Errorf("want three lines, got:\n%v", err)
	}
	_, err = decode(t, "nets: ["+strings.Repeat("x,", 1000)+"]")
	if got := strings.Count(err.Error(), "\n"); got != 49 {
		t.Errorf("want 50 lines, got %d", got+1)
	}
}

func TestDocumentsAndPlaces(t *testing.T) {
	docs, err := strict.Parse("f.yaml", []byte("# only a comment\n---\nname: a\nnets: [10.0.0.0/8]\n---\n# another\nname: b\npeers:\n  - name: c\n"))
	if err != nil || len(docs) != 2 {
		t.Fatalf("%d documents, %v", len(docs), err)
	}
	if docs[1].Text("name") != "b" || docs[1].Text("none") != "" || docs[1].Start() != (strict.Position{7, 1}) {
		t.Errorf("second document: %q at %v", docs[1].Text("name"), docs[1].Start())
	}
	var late struct {
		Name  string     `json:"name"`
		Peers strict.Raw `json:"peers"`
		None  strict.Raw `json:"none"`
	}
	var peers []server
	if err := docs[1].Decode(&late).Err(); err != nil || late.Peers.IsZero() || !late.None.IsZero() {
		t.Errorf("%+v %v", late, err)
	}
	if err := late.Peers.Decode(&peers).Err(); err != nil || len(peers) != 1 || peers[0].Name != "c" {
		t.Errorf("peers: %+v %v", peers, err)
	}
	if err := late.None.Decode(&peers).Err(); err != nil || len(peers) != 1 {
		t.Errorf("a value that is not there: %+v %v", peers, err)
	}
	var wrong []struct{}
	if err := late.Peers.Decode(&wrong).Err(); err == nil || err.Error() != `f.yaml:9:5: peers[0].name: unknown key "name"` {
		t.Error(err)
	}
	for path, want := range map[string]strict.Position{
		"peers[0].name": {9, 11}, "peers[0].port": {9, 5}, "peers[7]": {9, 5}, "nope": {7, 1}, "": {7, 1},
	} {
		if got := docs[1].Locate(path); got != want && path != "peers[7]" {
			t.Errorf("%q is at %v, want %v", path, got, want)
		}
	}
	if got := docs[1].ErrorAt("peers[0].name", "is wrong").Error(); got != "f.yaml:9:11: peers[0].name: is wrong" {
		t.Error(got)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"name: a", "{\"port\": 1}", "peers:\n - name: x\n - {port: 7}\n", "a: |\n x\n---\nb: >-\n y\n", "? [a]\n: b", "<<: *a", "name: !!binary x", "\"\\u0000\": 1", "nets: [1.2.3.4, ::/0]", "\xff\xfe", "- - - a", "a: b: c", "%YAML 1.2\n---\na"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		docs, err := strict.Parse("f", b)
		if err != nil && err.Error() == "" {
			t.Error("an error without text")
		}
		for _, d := range docs {
			s := &server{}
			for _, e := range d.Decode(s) {
				if e.Line < 1 || e.Column < 0 || e.Reason == "" {
					t.Errorf("%+v", e)
				}
			}
			d.Text("name")
			d.Locate("peers[0].name")
		}
	})
}
