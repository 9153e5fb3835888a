package ledger

import "strconv"

// Address is the recipient for a number: "r12@domain", or with a prefix that
// receivers may treat in their own way.
func Address(prefix string, n int, domain string) string {
	return string(AppendAddress(nil, prefix, n, domain))
}

// AppendAddress appends what Address returns.
func AppendAddress(dst []byte, prefix string, n int, domain string) []byte {
	dst = strconv.AppendInt(append(dst, prefix...), int64(n), 10)
	return append(append(dst, '@'), domain...)
}

// maxDigits keeps a foreign number within an int.
const maxDigits = 18

// Number reads the number back from an address made by Address: the digits at
// the end of the local part.
func Number[T string | []byte](address T) (int, bool) {
	end := 0
	for end < len(address) && address[end] != '@' {
		end++
	}
	from := end
	for from > 0 && address[from-1]-'0' <= 9 {
		from--
	}
	if from == end || end-from > maxDigits {
		return 0, false
	}
	n := 0
	for _, c := range []byte(address[from:end]) {
		n = n*10 + int(c-'0')
	}
	return n, true
}
