package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"

	"hikyaku/controlplane/policy"
)

// configurationPages hold the same text: one for readers of the repository, one
// for the binary.
var configurationPages = []string{"docs/configuration.md", "tools/hikyaku/config/reference.md"}

//go:embed intro.md
var intro string

// words are the types that are written as a scalar.
var words = map[string]string{
	"string": "text", "bool": "true or false", "int": "number", "int64": "number", "uint16": "number", "uint64": "number", "float64": "number",
	"policy.Duration": "duration", "policy.Rate": "rate", "policy.Network": "network", "policy.Secret": "secret text",
	"policy.Instant": "instant",
}

// configuration is the configuration reference.
func configuration(root string) ([]byte, error) {
	src, err := readSource(root, "controlplane/policy", "node/ingest", "tools/hikyaku/config")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString(intro)
	b.WriteString("\n## hikyaku.yaml\n")
	for _, f := range src["config.Config"].fields {
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n", f.key, f.doc)
		if err := src.table(&b, f.typ, f.key+"."); err != nil {
			return nil, err
		}
	}
	b.WriteString("\n## Policy\n")
	for _, kind := range policy.Kinds() {
		t := src["policy."+kind]
		if t == nil {
			return nil, fmt.Errorf("there is no type policy.%s", kind)
		}
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n", kind, t.doc)
		if err := src.table(&b, "policy."+kind, ""); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// table writes the keys of a struct, those of its parts after them.
func (s source) table(b *bytes.Buffer, typ, prefix string) error {
	b.WriteString("| key | type | meaning |\n|---|---|---|\n")
	return s.rows(b, typ, prefix)
}

func (s source) rows(b *bytes.Buffer, typ, prefix string) error {
	t := s[typ]
	if t == nil {
		return fmt.Errorf("type %s is not among the packages read", typ)
	}
	for _, f := range t.fields {
		elem, list := strings.CutPrefix(f.typ, "[]")
		elem, byName := strings.CutPrefix(elem, "map[string]")
		word, scalar := words[elem]
		key := prefix + f.key
		switch {
		case scalar && byName:
			word = "mapping of " + plural(word)
		case byName:
			word = "mapping of mappings"
		case scalar && list:
			word = "list of " + plural(word)
		case list:
			word = "list of mappings"
		case !scalar:
			word = "mapping"
		}
		if f.doc == "" {
			return fmt.Errorf("%s: the field of key %s has no comment", typ, key)
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", key, word, escape(f.doc))
		if scalar {
			continue
		}
		below := key + "."
		switch {
		case list:
			below = key + "[]."
		case byName:
			below = key + ".NAME."
		}
		if err := s.rows(b, elem, below); err != nil {
			return err
		}
	}
	return nil
}

func plural(word string) string {
	switch word {
	case "text":
		return "texts"
	case "secret text":
		return "secret texts"
	}
	return word + "s"
}

// escape keeps a comment from breaking the table.
func escape(s string) string {
	return strings.NewReplacer("|", "\\|", "<", "&lt;", "*", "\\*").Replace(s)
}
