package mix

import "encoding/base64"

// AppendRequest appends the body of a request to the injection API, for all
// recipients of a message or for some (only). content is a buffer of the caller,
// for whole messages.
func (m *Mix) AppendRequest(dst, content []byte, msg *Message, only []int) (body, buffer []byte) {
	if m.Template != nil {
		dst = m.appendTemplateHead(dst, msg)
	} else {
		content = m.AppendContentOf(content[:0], msg)
		dst = append(dst, `{"raw":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, content)
		dst = append(append(append(dst, `","envelope_from":"`...), msg.Sender...), '"')
	}
	if msg.Stream != "" {
		dst = append(append(append(dst, `,"stream":"`...), msg.Stream...), '"')
	}
	if m.Job != "" {
		dst = appendQuoted(append(dst, `,"job":`...), m.Job)
	}
	dst = append(dst, `,"to":[`...)
	if only == nil {
		for n := msg.First; n < msg.First+msg.Count; n++ {
			dst = m.appendRequestRecipient(dst, n)
		}
	}
	for _, n := range only {
		dst = m.appendRequestRecipient(dst, n)
	}
	dst = dst[:len(dst)-1] // the comma behind the last
	return append(dst, "]}"...), content
}

// appendRequestRecipient appends a recipient and a comma.
func (m *Mix) appendRequestRecipient(dst []byte, n int) []byte {
	if m.Template != nil {
		return append(m.appendTemplateRecipient(dst, n), ',')
	}
	dst = m.AppendRecipient(append(dst, `{"email":"`...), n)
	return append(dst, `"},`...)
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
