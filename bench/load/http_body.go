package load

import (
	"encoding/base64"
)

// appendRequest appends the body of a request for an attempt of a message.
// content is a buffer of the caller, for whole messages.
func (m *Mix) appendRequest(dst, content []byte, t *task) (body, buffer []byte) {
	if m.Template != nil {
		dst = m.appendTemplateHead(dst, &t.msg)
	} else {
		content = m.appendContent(content[:0], &t.msg)
		dst = append(dst, `{"raw":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, content)
		dst = append(append(append(dst, `","envelope_from":"`...), t.msg.Sender...), '"')
	}
	if t.msg.Stream != "" {
		dst = append(append(append(dst, `,"stream":"`...), t.msg.Stream...), '"')
	}
	if m.Job != "" {
		dst = appendQuoted(append(dst, `,"job":`...), m.Job)
	}
	dst = append(dst, `,"to":[`...)
	for k := range t.state {
		if k > 0 {
			dst = append(dst, ',')
		}
		if n := t.number(k); m.Template != nil {
			dst = m.appendTemplateRecipient(dst, n)
		} else {
			dst = m.AppendRecipient(append(dst, `{"email":"`...), n)
			dst = append(dst, `"}`...)
		}
	}
	return append(dst, "]}"...), content
}

// appendTemplateHead appends what is the same for all recipients.
func (m *Mix) appendTemplateHead(dst []byte, msg *Message) []byte {
	t := m.Template
	dst = append(append(append(dst, `{"from":{"email":"`...), msg.Sender...), `","name":"飛脚 Load Test"},"subject":`...)
	dst = append(dst, t.quoted.subject...)
	if t.Text != "" {
		dst = append(append(dst, `,"text":`...), t.quoted.text...)
	}
	if t.HTML != "" {
		dst = append(append(dst, `,"html":`...), t.quoted.html...)
	}
	return append(dst, `,"headers":[{"name":"`+numberHeader+`","value":"{{number}}"}]`...)
}
