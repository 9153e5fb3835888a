package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestServeRefuses: what is wrong at the start ends the process with a reason,
// whatever runs already at that point.
func TestServeRefuses(t *testing.T) {
	for name, c := range map[string]struct{ config, policy, want string }{
		"policy that is not valid": {"", "kind: Pool\nname: p\nspec: {sources: [{name: nobody}]}\n", "nobody"},
		"a resource twice":         {"", "kind: Tenant\nname: a\nspec: {}\n---\nkind: Tenant\nname: a\nspec: {}\n", "Tenant/a"},
		"no cluster key":           {"etcd: {endpoints: ['127.0.0.1:1']}\n", "", "hikyaku secret cluster-key"},
		"certificates gone":        {"admin: {listen: '127.0.0.1:0'}\ncluster: {listen: '192.0.2.1:8081', cert_file: none, key_file: none, ca_file: none}\n", "", "cluster.cert_file"},
		"node without etcd":        {"cluster: {roles: node}\n", "", "--join"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			config := filepath.Join(dir, "hikyaku.yaml")
			text := "node: {name: n, data_dir: " + filepath.Join(dir, "data") + "}\ningest: {smtp: [], http: {listen: 'off'}}\n" + c.config
			if !strings.Contains(c.config, "admin:") {
				text += "admin: {listen: '127.0.0.1:0'}\n"
			}
			args := []string{"serve", "--config", config}
			if c.policy != "" {
				args = append(args, "--policy", filepath.Join(dir, "policy.yaml"))
			}
			for file, b := range map[string]string{config: text, filepath.Join(dir, "policy.yaml"): c.policy} {
				if err := os.WriteFile(file, []byte(b), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var out, errs bytes.Buffer
			done := make(chan int, 1)
			go func() { done <- run(args, strings.NewReader(""), &out, &errs) }() // waited for below
			select {
			case code := <-done:
				if code == 0 || !strings.Contains(errs.String(), c.want) {
					t.Errorf("exit code %d, want another than 0 and %q in\n%s", code, c.want, errs.String())
				}
			case <-time.After(time.Minute):
				t.Fatal("it neither serves nor ends")
			}
		})
	}
}
