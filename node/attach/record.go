package attach

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"hikyaku/controlplane/policy"
)

// Record is one address that was put on this machine, and how to take it off.
type Record struct {
	Source    string   `json:"source"`
	Epoch     int64    `json:"epoch"`
	Address   string   `json:"address"`
	Interface string   `json:"interface,omitempty"`
	Bits      int      `json:"prefix_length,omitempty"`
	Program   []string `json:"detach_command,omitempty"` // with its words replaced; nil: by netlink
	Boot      string   `json:"boot,omitempty"`           // of the machine
}

// file is the form on disk.
type file struct {
	Version int      `json:"version"`
	Records []Record `json:"records"`
}

const (
	fileVersion  = 1
	maxFileBytes = 64 << 20
)

// newRecord is how a source would be attached.
func newRecord(name string, epoch int64, s *policy.Source, boot string) (Record, error) {
	a, err := netip.ParseAddr(s.Address)
	if err != nil || a.Zone() != "" {
		return Record{}, fmt.Errorf("address %q cannot be attached", s.Address)
	}
	r := Record{Source: name, Epoch: epoch, Address: a.String(), Boot: boot}
	switch s.Attach {
	case policy.AttachNetlink:
		r.Interface, r.Bits = s.Interface, s.PrefixLength
		if r.Bits == 0 {
			r.Bits = a.BitLen()
		}
	case policy.AttachCommand:
		r.Program = s.Command(s.DetachCommand, name, strconv.FormatInt(epoch, 10))
		if len(s.AttachCommand) == 0 {
			return Record{}, errors.New("the source has no attach command")
		}
	default:
		return Record{}, fmt.Errorf("attach %q is not known to this version", s.Attach)
	}
	return r, r.check()
}

// check refuses what could not be taken off again.
func (r *Record) check() error {
	a, err := netip.ParseAddr(r.Address)
	switch {
	case r.Source == "" || err != nil || a.Zone() != "":
		return fmt.Errorf("source %q, address %q: not a record of an address", r.Source, r.Address)
	case r.Program == nil && (r.Interface == "" || r.Bits < 1 || r.Bits > a.BitLen()):
		return fmt.Errorf("%s/%d on interface %q: not an address on an interface", r.Address, r.Bits, r.Interface)
	case r.Program != nil && (len(r.Program) == 0 || !filepath.IsAbs(r.Program[0])):
		return fmt.Errorf("%s: there is no detach command", r.Address)
	}
	return nil
}

func (r *Record) prefix() netip.Prefix {
	return netip.PrefixFrom(netip.MustParseAddr(r.Address), r.Bits)
}

// same reports whether both are attached in the same way; the epoch, which a
// command may have been told, does not count.
func (r *Record) same(o *Record) bool {
	if (r.Program == nil) != (o.Program == nil) || r.Address != o.Address {
		return false
	}
	if r.Program != nil {
		return slices.Equal(r.timeless(), o.timeless())
	}
	return r.Interface == o.Interface && r.Bits == o.Bits
}

// timeless is the detach command with its epoch taken out again. Where the
// epoch's digits are part of something else, two commands may seem to differ,
// and one detach too many is run.
func (r *Record) timeless() []string {
	out := slices.Clone(r.Program)
	for i := range out[1:] {
		out[i+1] = strings.ReplaceAll(out[i+1], strconv.FormatInt(r.Epoch, 10), "{epoch}")
	}
	return out
}

// keep writes a record down.
func (t *Table) keep(ctx context.Context, r Record) error {
	t.mu.Lock()
	was, had := t.mu.records[r.Source]
	t.mu.records[r.Source] = r
	t.mu.Unlock()
	err := t.save(ctx)
	if err == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if delete(t.mu.records, r.Source); had {
		t.mu.records[r.Source] = was
	}
	return err
}

// forget removes a record. Where that cannot be written it stays on disk, which
// does no harm: what it says is taken off once more.
func (t *Table) forget(ctx context.Context, source string) error {
	t.mu.Lock()
	delete(t.mu.records, source)
	t.mu.Unlock()
	return t.save(ctx)
}

// save brings the file to what is in memory.
func (t *Table) save(ctx context.Context) error {
	select {
	case t.disk <- struct{}{}:
		defer func() { <-t.disk }()
	case <-ctx.Done():
		return fmt.Errorf("write %s: %w", t.opt.File, context.Cause(ctx))
	}
	b, err := json.Marshal(file{fileVersion, t.Attached()})
	if err != nil {
		panic("BUG: attach: " + err.Error())
	}
	if err := writeSynced(t.opt.File, append(b, '\n')); err != nil {
		return fmt.Errorf("remember what is attached: %w", err)
	}
	return nil
}

// writeSynced replaces a file so that after a crash it is the old or the new one.
func writeSynced(path string, b []byte) (err error) {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// load reads the file. One that cannot be read is put aside, not deleted: it
// says what has to be taken off by hand.
func (t *Table) load() ([]Record, error) {
	b, err := os.ReadFile(t.opt.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	records, err := parse(b)
	if err == nil {
		return records, nil
	}
	aside := t.opt.File + ".damaged"
	t.log.Error("what was attached cannot be read: look whether addresses are left on this machine", "file", aside, "error", err)
	if err := os.Rename(t.opt.File, aside); err != nil {
		return nil, err
	}
	return nil, nil
}

func parse(b []byte) ([]Record, error) {
	var f file
	if len(b) > maxFileBytes {
		return nil, fmt.Errorf("it has %d bytes", len(b))
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, err
	}
	if f.Version != fileVersion {
		return nil, fmt.Errorf("version %d is not known", f.Version)
	}
	seen := map[string]bool{}
	for i := range f.Records {
		r := &f.Records[i]
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("record %d: %w", i, err)
		}
		if seen[r.Source] {
			return nil, fmt.Errorf("record %d: source %q is there twice", i, r.Source)
		}
		seen[r.Source] = true
	}
	return f.Records, nil
}
