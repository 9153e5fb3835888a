package smtp

import "unicode/utf8"

// appendUnxtext appends the bytes that xtext stands for (RFC 3461 4: "+" and
// two upper-case hexadecimal digits for any byte). What decodes to anything
// but printable ASCII is refused: an encoded NUL or line break would come
// alive in a notice or a log line later. With wide, UTF-8 may stand for itself
// (RFC 6533 3).
func appendUnxtext(dst, x []byte, wide bool) ([]byte, bool) {
	for i := 0; i < len(x); i++ {
		c := x[i]
		switch {
		case c == '+':
			if i+2 >= len(x) {
				return dst, false
			}
			hi, lo := unhex(x[i+1]), unhex(x[i+2])
			if hi > 15 || lo > 15 {
				return dst, false
			}
			if c = hi<<4 | lo; c < ' ' || c > '~' {
				return dst, false
			}
			i += 2
		case c >= utf8.RuneSelf && wide:
		case c <= ' ' || c > '~' || c == '=':
			return dst, false
		}
		dst = append(dst, c)
	}
	return dst, true
}

// checkXtext is appendUnxtext without the result.
func checkXtext(x []byte, wide bool) bool {
	var scratch [512]byte
	_, ok := appendUnxtext(scratch[:0], x, wide)
	return ok
}

// AppendUnxtext decodes xtext for other commands that use it (XCLIENT). Only
// printable ASCII comes out; false means that x is not such xtext.
func AppendUnxtext(dst, x []byte) ([]byte, bool) { return appendUnxtext(dst, x, false) }

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}
