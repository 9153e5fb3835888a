package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

func main() {
	if err := run("."); err != nil {
		fmt.Fprintf(os.Stderr, "docgen: %v\n", err)
		os.Exit(1)
	}
}

// run writes all pages under the root of the repository.
func run(root string) error {
	text, err := configuration(root)
	if err != nil {
		return err
	}
	for _, page := range configurationPages {
		if err := os.WriteFile(filepath.Join(root, page), text, 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(root, carriersPage), carriers(), 0o644); err != nil {
		return err
	}
	// The commands are in package main, which cannot be imported; the binary
	// itself tells about them.
	cmd := exec.Command("go", "run", "./tools/hikyaku", "docs")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	cli, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go run ./tools/hikyaku docs: %w", err)
	}
	return os.WriteFile(filepath.Join(root, "docs/cli.md"), cli, 0o644)
}
