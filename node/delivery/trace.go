package delivery

import (
	"strconv"

	"hikyaku/spool/message"
)

// TraceLine is one line of a live trace of SMTP dialogs.
type TraceLine struct {
	Session uint64
	Host    string
	Out     bool          // we said it
	Phase   message.Phase // of a reply
	Text    string        // without its line end; credentials masked, content as its size
}

// Trace takes trace lines. It is called from the sessions' goroutines, must be
// safe for concurrent use, and must not wait.
type Trace func(TraceLine)

// SetTrace turns live tracing on, or off with nil. Sessions notice at their
// next line; without it a line costs one atomic load.
func (c *Client) SetTrace(t Trace) {
	if t == nil {
		c.trace.Store(nil)
		return
	}
	c.trace.Store(&t)
}

// said traces commands, one line each.
func (w *wire) said(commands []byte) {
	t := w.client.trace.Load()
	if t == nil {
		return
	}
	for start, i := 0, 0; i < len(commands); i++ {
		if commands[i] == '\n' {
			(*t)(TraceLine{Session: w.id, Host: w.host, Out: true, Text: clean(string(commands[start:max(start, i-1)]))})
			start = i + 1
		}
	}
}

// note traces something that stands for what must not or need not be shown.
func (w *wire) note(text string) {
	if t := w.client.trace.Load(); t != nil {
		(*t)(TraceLine{Session: w.id, Host: w.host, Out: true, Text: text})
	}
}

// noteContent stands for content of this size.
func (w *wire) noteContent(size int) {
	if w.client.trace.Load() != nil {
		w.note("(" + strconv.Itoa(size) + " bytes of content)")
	}
}

// heard traces a reply.
func (w *wire) heard(phase message.Phase) {
	if t := w.client.trace.Load(); t != nil {
		reply := w.reply.Keep(phase)
		(*t)(TraceLine{Session: w.id, Host: w.host, Phase: phase, Text: reply.String()})
	}
}
