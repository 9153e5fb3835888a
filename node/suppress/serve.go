package suppress

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"hikyaku/spool/suppression"
)

// Path is where other nodes ask. Mount Handler there and at Path + "/".
const Path = "/v1/suppressions/peer"

const (
	pathPull     = Path + "/pull"
	pathPoke     = Path + "/poke"
	pathSnapshot = Path + "/snapshot"
)

// Bounds of what is read.
const (
	maxParcel   = 4 << 20
	maxQuestion = suppression.MaxOrigins*20 + 16
	maxAnswer   = maxParcel + maxQuestion + 16
)

// A question begins with what follows.
const (
	askDigest = 'd' // SHA-256 of the asker's vector
	askVector = 'v' // the vector
)

func digest(v suppression.Vector) []byte {
	sum := sha256.Sum256(v.Append(nil))
	return append([]byte{askDigest}, sum[:]...)
}

// answer is that of a pull: a byte of flags, the parcel after its length, the
// vector of who answers.
type answer struct {
	more, snapshot bool
	parcel         []byte
	has            suppression.Vector
}

const (
	flagMore     = 1
	flagSnapshot = 2
)

func (a *answer) append(b []byte) []byte {
	flags := byte(0)
	if a.more {
		flags |= flagMore
	}
	if a.snapshot {
		flags |= flagSnapshot
	}
	b = binary.AppendUvarint(append(b, flags), uint64(len(a.parcel)))
	return a.has.Append(append(b, a.parcel...))
}

var errAnswer = errors.New("malformed answer")

func parseAnswer(b []byte) (*answer, error) {
	if len(b) < 2 || b[0]&^(flagMore|flagSnapshot) != 0 {
		return nil, errAnswer
	}
	a := &answer{more: b[0]&flagMore != 0, snapshot: b[0]&flagSnapshot != 0}
	n, size := binary.Uvarint(b[1:])
	if size <= 0 || n > uint64(len(b)-1-size) {
		return nil, errAnswer
	}
	b = b[1+size:]
	a.parcel = b[:n]
	if a.more && n == 0 { // would be asked for without end
		return nil, fmt.Errorf("%w: more of nothing", errAnswer)
	}
	v, err := suppression.ParseVector(b[n:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAnswer, err)
	}
	a.has = v
	return a, nil
}

// Handler answers other nodes. Mount it behind what makes sure that the client is
// a node of the cluster: it believes who says so.
func (l *List) Handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("POST "+pathPull, l.servePull)
	m.HandleFunc("POST "+pathPoke, l.servePoke)
	m.HandleFunc("GET "+pathSnapshot, l.serveSnapshot)
	return m
}

func (l *List) peer(name string) *peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.peers[name]
}

func (l *List) servePoke(w http.ResponseWriter, r *http.Request) {
	if p := l.peer(r.URL.Query().Get("from")); p != nil { // else it is met within a second
		signal(p.wake)
	}
	w.WriteHeader(http.StatusNoContent)
}

func (l *List) servePull(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(io.LimitReader(r.Body, maxQuestion+1))
	if err != nil || len(b) == 0 || len(b) > maxQuestion {
		http.Error(w, "malformed question", http.StatusBadRequest)
		return
	}
	here := l.store.Vector()
	var asks suppression.Vector
	switch b[0] {
	case askDigest:
		if !bytes.Equal(b, digest(here)) {
			http.Error(w, "say what you have", http.StatusConflict)
			return
		}
		l.noteHas(r, here)
		w.WriteHeader(http.StatusNoContent)
		return
	case askVector:
		asks, err = suppression.ParseVector(b[1:])
	default:
		err = errors.New("malformed question")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	l.noteHas(r, asks)
	got, err := l.store.Pull(asks, l.o.ParcelBytes)
	if err != nil {
		l.log.Error("read what another node lacks of the suppression list", "error", err)
		http.Error(w, "the suppression list cannot be read now", http.StatusServiceUnavailable)
		return
	}
	l.count.served.Add(1)
	a := answer{more: got.More && len(got.Parcel) > 0, snapshot: got.Snapshot, parcel: got.Parcel, has: here}
	out := a.append(nil)
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(out) // the other node asks again if it does not hear
}

// noteHas keeps what the asker has, for the log.
func (l *List) noteHas(r *http.Request, v suppression.Vector) {
	p := l.peer(r.URL.Query().Get("from"))
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.has = v
	if !covers(l.store.Vector(), v) {
		signal(p.wake) // it has something that is not here
	}
}

func (l *List) serveSnapshot(w http.ResponseWriter, r *http.Request) {
	select {
	case l.snapshots <- struct{}{}:
	default:
		http.Error(w, "too many nodes read the whole list; try again", http.StatusServiceUnavailable)
		return
	}
	defer func() { <-l.snapshots }()
	w.Header().Set("Content-Type", "application/octet-stream")
	l.count.served.Add(1)
	out := &paced{w: w, control: http.NewResponseController(w), limit: l.o.Timeout}
	defer func() { _ = out.control.SetWriteDeadline(time.Time{}) }() // the connection is used again
	if err := l.store.WriteSnapshot(out); err != nil && r.Context().Err() == nil {
		l.log.Warn("the whole suppression list could not be given to another node", "error", err)
	}
}

// paced cuts off a reader that takes nothing for too long.
type paced struct {
	w       io.Writer
	control *http.ResponseController
	limit   time.Duration
}

func (p *paced) Write(b []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(p.limit)) // not every test's writer has one
	return p.w.Write(b)
}
