package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hikyaku/controlplane/keyspace"
)

// importedSuffix is added to the name of a directory that was taken over.
const importedSuffix = ".imported"

// importRole marks the revision that took over a directory.
const importRole = "import"

// importFiles takes over the policy that an older version kept in files, with
// the number, author and reason of its newest revision. Then the directory is
// renamed, so that there is one truth. It runs before anything else.
func (e *Etcd) importFiles(ctx context.Context) error {
	dir := e.o.ImportDir
	if dir == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "r*.json"))
	if err != nil || len(files) == 0 {
		return err
	}
	f, err := OpenFile(dir, Options{Logger: e.log, Now: e.o.Now})
	if err != nil {
		return err
	}
	defer f.Close()
	old := f.state.Load()
	ctx, cancel := context.WithTimeout(ctx, 2*changeTimeout)
	defer cancel()
	head, _, err := e.o.Keys.LoadHead(ctx, &pinned{kv: e.client})
	if err != nil {
		return err
	}
	if head.Revision == 0 {
		if err := e.importState(ctx, old); err != nil {
			return err
		}
		e.log.Info("policy was taken over from files into etcd", "dir", dir, "revision", old.Revision.Revision, "resources", len(old.resources))
	} else if taken, err := e.wasImported(ctx, old.Revision.Revision); err != nil {
		return err
	} else if !taken {
		e.log.Warn("policy files of an older version are left alone: etcd holds a policy already", "dir", dir, "files", old.Revision.Revision, "etcd", head.Revision)
		return nil
	}
	if err := os.Rename(dir, dir+importedSuffix); err != nil {
		return fmt.Errorf("put the files aside: %w", err)
	}
	return nil
}

func (e *Etcd) importState(ctx context.Context, old *state) error {
	snap := &keyspace.Snapshot{Revision: old.Revision.Revision}
	d := &keyspace.Delta{
		Revision: old.Revision.Revision, ID: keyspace.NewID(), Time: old.Time, Author: old.Author, Role: importRole,
		Reason: strings.TrimSpace(old.Reason + " (taken over from " + filepath.Base(e.o.ImportDir) + ")"),
	}
	for i := range old.resources {
		rec, err := e.o.Key.SealResource(&old.resources[i], nil)
		if err != nil {
			return err
		}
		snap.Records = append(snap.Records, rec)
		d.Effects = append(d.Effects, keyspace.Effect{Action: keyspace.Created, Kind: rec.Kind, Name: rec.Name})
	}
	done, err := e.commitWhole(ctx, at{}, d, snap)
	if err == nil && !done {
		err = errors.New("another control plane has just written a policy: start again")
	}
	return err
}

// wasImported reports whether a revision in etcd came from files: then only the
// renaming was missing.
func (e *Etcd) wasImported(ctx context.Context, revision int64) (bool, error) {
	kvs, err := (&pinned{kv: e.client}).Range(ctx, e.o.Keys.PolicyDelta(revision), "", 1)
	if err != nil || len(kvs) == 0 {
		return false, err
	}
	d, err := keyspace.DecodeDelta(kvs[0].Value)
	return err == nil && d.Role == importRole, err
}
