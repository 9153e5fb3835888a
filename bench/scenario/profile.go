package scenario

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// profileSeconds is how long a CPU profile is: it ends with the sending if that
// is shorter, and is then not written.
const profileSeconds = 5

// maxProfile bounds what a node may answer.
const maxProfile = 64 << 20

// profile takes a CPU profile of the first node while it is sent to, and
// answers when that is done.
func (t *trial) profile(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	if t.run.env.Profiles == "" {
		done <- nil
		return done
	}
	path := filepath.Join(t.run.env.Profiles, strings.NewReplacer(" ", "-", ",", "", "/", "-").Replace(t.plan.name)+".pprof")
	go func() { // received by carry
		err := t.fetchProfile(ctx, path)
		if ctx.Err() != nil { // the sending was over first
			t.run.note("%s was over before its profile of %d seconds.", t.plan.name, profileSeconds)
			err = nil
		}
		done <- err
	}()
	return done
}

func (t *trial) fetchProfile(ctx context.Context, path string) error {
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", t.nodes[0].Admin, profileSeconds)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("take a profile: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxProfile))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the node answered %s: %.200s", resp.Status, b)
	}
	if err != nil {
		return fmt.Errorf("take a profile: %w", err)
	}
	return os.WriteFile(path, b, 0o644)
}
