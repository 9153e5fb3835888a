package ingest

import (
	"bytes"
	"encoding/json"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// Bounds on X-Hikyaku headers, as the words of package message have them.
const (
	controlMaxJob      = 128
	controlMaxName     = 64
	controlMaxTags     = 16
	controlMaxTag      = 64
	controlMaxMetadata = 16 << 10
)

// obeyHeaders applies the X-Hikyaku headers to the submission; they win over
// MT-PRIORITY and FUTURERELEASE. A value that cannot be obeyed refuses the
// message: mail sent in another way than asked for cannot be called back.
func (s *session) obeyHeaders(sub *Submission, now time.Time) bool {
	for c := range controlNames {
		if !s.header.hasControl[c] {
			continue
		}
		value, ok := unfold(s.header.control[c].of(*s.body.p))
		if !ok || !s.obey(sub, c, value, now) {
			s.decline(errContent, 550, "5.6.0", "Content refused: invalid value in header "+controlPrefix+controlNames[c])
			return false
		}
	}
	return true
}

func (s *session) obey(sub *Submission, c int, value []byte, now time.Time) (ok bool) {
	m := sub.Message
	switch c {
	case controlJob:
		m.Job = string(value)
		return visible(value, controlMaxJob)
	case controlStream:
		m.Stream = string(value)
		return resourceName(value)
	case controlPool:
		m.Pool = string(value)
		return resourceName(value)
	case controlTags:
		m.Tags, ok = parseTagList(value)
		return ok
	case controlSendAt:
		sub.SendAt, ok = parseControlTime(value)
		return ok && sub.SendAt.Sub(now) <= s.l.MaxFutureRelease.D()
	case controlExpires:
		sub.Expires, ok = parseControlTime(value)
		if !ok {
			var d policy.Duration
			ok = len(value) <= 20 && d.UnmarshalText(value) == nil
			sub.Expires = now.Add(d.D())
		}
		return ok && sub.Expires.After(now)
	case controlPriority:
		m.Priority, sub.PriorityGiven = message.ParsePriority(string(value))
		return sub.PriorityGiven && len(value) > 0
	case controlMetadata:
		m.Metadata, ok = compactMetadata(value)
		return ok
	}
	panic("BUG: an X-Hikyaku header without a meaning")
}

// unfold makes one line of a header value (RFC 5322 2.2.3) without the white
// space around it. Control bytes are refused.
func unfold(value []byte) ([]byte, bool) {
	out := value
	if bytes.IndexByte(value, '\n') >= 0 {
		out = bytes.ReplaceAll(value, []byte("\r\n"), nil)
	}
	for _, b := range out {
		if (b < ' ' && b != '\t') || b == 0x7f {
			return nil, false
		}
	}
	return bytes.Trim(out, " \t"), true
}

// visible is 1 to most bytes of printable ASCII without space.
func visible(b []byte, most int) bool {
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(b) > 0 && len(b) <= most
}

// resourceName is 1 to 64 bytes of [a-z0-9._-], as names in policy.
func resourceName(b []byte) bool {
	for _, c := range b {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return len(b) > 0 && len(b) <= controlMaxName
}

// parseTagList reads a list separated by commas.
func parseTagList(value []byte) (tags []string, ok bool) {
	for t := range bytes.SplitSeq(value, []byte(",")) {
		t = bytes.Trim(t, " \t")
		if len(t) == 0 || len(t) > controlMaxTag || len(tags) == controlMaxTags || !json.Valid(append(append([]byte{'"'}, t...), '"')) {
			return nil, false
		}
		tags = append(tags, string(t))
	}
	return tags, true
}

func parseControlTime(value []byte) (time.Time, bool) {
	if len(value) > 40 {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, string(value))
	return t, err == nil
}

// compactMetadata is the JSON object in value without white space between its
// tokens.
func compactMetadata(value []byte) ([]byte, bool) {
	if len(value) > controlMaxMetadata || len(value) == 0 || value[0] != '{' || !json.Valid(value) {
		return nil, false
	}
	var out bytes.Buffer
	if err := json.Compact(&out, value); err != nil {
		return nil, false
	}
	return out.Bytes(), true
}
