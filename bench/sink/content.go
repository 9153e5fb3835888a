package sink

// notReady is why content cannot come now, or "".
func (d *dialog) notReady() string {
	switch {
	case !d.mail:
		return "503 5.5.1 MAIL first"
	case d.failed:
		return "503 5.5.1 RSET first"
	case len(d.got.To) == 0:
		return "503 5.5.1 no recipients"
	}
	return ""
}

// wanted decides whether this message's content is kept.
func (d *dialog) wanted() bool {
	if !d.sink.o.Discard {
		return true
	}
	return d.sink.o.Want != nil && d.sink.o.Want(&d.got)
}

const tooBig = "552 5.3.4 message too big"

// data is DATA and what follows it.
func (d *dialog) data(arg []byte) error {
	refusal := d.notReady()
	switch {
	case refusal != "":
	case len(arg) > 0:
		refusal = "501 5.5.4 no parameters"
	case d.chunks > 0:
		refusal = "503 5.5.1 not after BDAT" // RFC 3030 2
	}
	if refusal != "" {
		d.say(refusal)
		return nil
	}
	d.got.Chunked, d.got.Size, d.got.Data = false, 0, nil
	v := d.session.Data()
	if v.Reply != "" && v.Reply[0] == '2' {
		v.Reply = "" // only 354 asks for the content
	}
	ok, err := d.answer(v, "354 go on")
	if !ok || err != nil {
		return err
	}
	data, size, err := d.readData(d.wanted())
	if err != nil {
		return err
	}
	return d.end(data, size)
}

// readData reads to the end of data. The content stays where it was read to:
// it is unstuffed in place and valid until the next read. What is not kept,
// or is beyond the bound on a message, is passed over as it comes.
func (d *dialog) readData(keep bool) (data []byte, size int, err error) {
	var s scan
	gone := 0
	for !s.find(d.buffered()) {
		if s.at-s.dots > d.sink.most {
			keep = false
		}
		if !keep {
			gone += s.at
			d.r += s.at
			s.forget()
		}
		if err := d.fill(); err != nil {
			return nil, 0, err
		}
	}
	raw := d.buffered()[:s.end]
	d.r += s.end + len(".\r\n")
	size = gone + s.end - s.dots
	switch {
	case !keep:
		return nil, size, nil
	case s.dots > 0:
		return unstuff(raw, s.first), size, nil
	}
	return raw, size, nil
}

// bdat is BDAT with its chunk. The chunk is read whatever the answer is: it is
// on its way already (RFC 3030 2).
func (d *dialog) bdat(arg []byte) error {
	size, last, ok := parseChunk(arg)
	if !ok {
		d.say("501 5.5.4 Syntax: BDAT size [LAST]")
		return errBadChunk
	}
	refusal, v := d.notReady(), Verdict{}
	switch {
	case !d.sink.o.Chunking:
		refusal = "502 5.5.1 CHUNKING is not offered"
	case refusal == "" && d.chunks == 0:
		d.got.Chunked, d.got.Size, d.got.Data = true, 0, nil
		v = d.session.Data()
		if err := d.pause(v); err != nil {
			return err
		}
		if v.Reply != "" && v.Reply[0] > '3' {
			refusal = v.Reply
		}
		d.keep = refusal == "" && d.wanted()
	}
	if refusal == "" && size > int64(d.sink.most-d.got.Size) {
		refusal = tooBig
	}
	if refusal != "" {
		return d.refuseChunk(size, refusal, v.Close)
	}
	d.got.Size += int(size)
	data, err := d.readChunk(int(size), d.keep, last)
	if err != nil {
		return err
	}
	d.chunks++
	if last {
		err = d.end(data, d.got.Size)
	} else {
		d.say("250 2.0.0 ok")
	}
	if err == nil && v.Close {
		err = closes
	}
	return err
}

// refuseChunk passes over a chunk and says why. RFC 3030 2: the transaction
// has failed, and only RSET clears it.
func (d *dialog) refuseChunk(size int64, refusal string, end bool) error {
	for size > 0 {
		if d.r == d.w {
			if err := d.fill(); err != nil {
				return err
			}
		}
		n := min(size, int64(d.w-d.r))
		d.r += int(n)
		size -= n
	}
	d.failed = d.mail
	d.content = d.content[:0]
	d.say(refusal)
	if end {
		return closes
	}
	return nil
}

// readChunk reads one chunk, and returns the whole content with the last one,
// if it is kept. A message of one chunk, which is what most clients send, is
// not copied; it is valid until the next read.
func (d *dialog) readChunk(size int, keep, last bool) ([]byte, error) {
	if keep && last && d.chunks == 0 {
		for d.w-d.r < size {
			if len(d.in)-d.r < size {
				d.grow(size)
			}
			if err := d.fill(); err != nil {
				return nil, err
			}
		}
		d.r += size
		return d.in[d.r-size : d.r], nil
	}
	for size > 0 {
		if d.r == d.w {
			if err := d.fill(); err != nil {
				return nil, err
			}
		}
		n := min(size, d.w-d.r)
		if keep {
			d.content = append(d.content, d.in[d.r:d.r+n]...)
		}
		d.r += n
		size -= n
	}
	if keep && last {
		return d.content, nil
	}
	return nil, nil
}

// end hands the message over and says what became of it. data is nil if it
// was not kept.
func (d *dialog) end(data []byte, size int) error {
	d.got.Data, d.got.Size, d.got.At = data, size, d.at
	var ok bool
	var err error
	if size > d.sink.most {
		d.say(tooBig)
	} else {
		ok, err = d.answer(d.session.Content(&d.got), "250 2.0.0 ok")
	}
	if ok {
		d.sink.accepted(&d.got)
	}
	d.begin()
	return err
}
