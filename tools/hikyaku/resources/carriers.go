package resources

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"hikyaku/controlplane/api"
	"hikyaku/controlplane/catalogue"
	"hikyaku/controlplane/manifest"
	"hikyaku/controlplane/policy"
	"hikyaku/tools/hikyaku/cli"
)

// carriersInForce prints the carriers in force, one a line.
func carriersInForce(c *cli.Call, rs []api.Resource) error {
	rows := make([][]string, len(rs))
	for i, r := range rs {
		origin, revision := r.Origin, "-"
		if r.InForce.Disabled {
			origin += ", left out"
		}
		if r.Revision > 0 {
			revision = strconv.FormatInt(r.Revision, 10)
		}
		rows[i] = []string{r.Kind, r.Name, origin, revision, summary(r.InForce)}
	}
	return c.Table(c.Out, []string{"KIND", "NAME", "ORIGIN", ">REVISION", "IN FORCE"}, rows)
}

// showCarrier prints what is set locally, which can be applied again, and what is
// in force as comments.
func showCarrier(c *cli.Call, r *api.Resource) error {
	if r.Origin != catalogue.Shipped {
		if err := printYAML(c, []api.Resource{*r}); err != nil {
			return err
		}
	}
	text, err := carrierInForce(r)
	if err != nil {
		return err
	}
	_, err = c.Out.Write(text)
	return err
}

// carrierInForce is what is in force for a carrier as YAML comments, in which what
// is set locally is marked. A carrier that is all local says nothing more.
func carrierInForce(r *api.Resource) ([]byte, error) {
	if r.Origin == catalogue.Local {
		return nil, nil
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s (%s) ships with the product.", r.Name, r.Title)
	switch {
	case r.InForce.Disabled:
		b.WriteString(" It is left out: its mail counts as the default carrier's.\n")
	case r.Origin == catalogue.Shipped:
		b.WriteString(" Nothing is set locally. In force:\n")
	default:
		b.WriteString(" In force, with what is set locally:\n")
	}
	for _, lost := range r.Lost {
		fmt.Fprintf(&b, "# Another local carrier has taken its %s.\n", lost)
	}
	local, err := keysOf(r.Spec)
	if err != nil {
		return nil, err
	}
	text, err := manifest.Format([]policy.Resource{{Kind: r.Kind, Name: r.Name, Spec: r.InForce}})
	if err != nil {
		return nil, err
	}
	markLocal(&b, string(text), local)
	return b.Bytes(), nil
}

// keysOf are the paths of all values that a spec gives, as "per_source.rate". A
// list is one value.
func keysOf(spec any) (map[string]bool, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("look at the carrier: %w", err)
	}
	var tree map[string]any
	if err := json.Unmarshal(text, &tree); err != nil {
		return nil, fmt.Errorf("look at the carrier: %w", err)
	}
	keys := map[string]bool{}
	addKeys(keys, "", tree)
	return keys, nil
}

func addKeys(keys map[string]bool, prefix string, tree map[string]any) {
	for k, v := range tree {
		if below, ok := v.(map[string]any); ok {
			addKeys(keys, prefix+k+".", below)
			continue
		}
		keys[prefix+k] = true
	}
}

// markLocal writes YAML of a resource as comments and marks the lines of local
// keys. Keys are known by their indentation: two spaces a level, the spec's at one.
func markLocal(b *bytes.Buffer, text string, local map[string]bool) {
	var path []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		b.WriteString("#   " + line)
		bare := strings.TrimLeft(line, " ")
		key, _, isKey := strings.Cut(bare, ":")
		if level := (len(line) - len(bare)) / 2; isKey && level > 0 && !strings.HasPrefix(bare, "-") && level-1 <= len(path) {
			path = append(path[:level-1], key)
			if local[strings.Join(path, ".")] {
				b.WriteString("  # local")
			}
		}
		b.WriteByte('\n')
	}
}
