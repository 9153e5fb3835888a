package manifests

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"hikyaku/controlplane/manifest"
	"hikyaku/controlplane/manifest/strict"
	"hikyaku/tools/hikyaku/cli"
)

// Read reads files, "-" for standard input, and the *.yaml and *.yml
// files of directories, in order of name.
func Read(c *cli.Call, paths []string) (*manifest.File, error) {
	all := &manifest.File{}
	for _, path := range paths {
		names, err := manifestNames(path)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			b, err := readFile(c, name)
			if err != nil {
				return nil, err
			}
			f, err := manifest.Parse(name, b)
			if err != nil {
				return nil, err
			}
			if err := all.Append(f); err != nil {
				return nil, err
			}
		}
	}
	if len(all.Resources) == 0 {
		return nil, errors.New("there is no resource in what was given")
	}
	return all, nil
}

func manifestNames(path string) ([]string, error) {
	if path == "-" {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var names []string
	for _, pattern := range []string{"*.yaml", "*.yml"} {
		found, err := filepath.Glob(filepath.Join(path, pattern))
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", path, err)
		}
		names = append(names, found...)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: no *.yaml or *.yml file in it", path)
	}
	slices.Sort(names)
	return names, nil
}

// readFile reads no more than the parser takes.
func readFile(c *cli.Call, name string) ([]byte, error) {
	in := c.In
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, strict.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}
