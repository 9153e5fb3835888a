package smtp

import "strings"

// OddLocal reports whether an address that passed the grammar has an unquoted
// local part that RFC 5321 4.1.2 does not allow: a dot at its beginning or end, or
// two in a row. Nothing else that RFC forbids gets through the grammar.
func OddLocal(address string) bool {
	i := strings.LastIndexByte(address, '@')
	if i < 1 || address[0] == '"' {
		return false
	}
	local := address[:i]
	return local[0] == '.' || local[i-1] == '.' || strings.Contains(local, "..")
}

// QuoteOdd puts an odd local part in quotes, which makes it what RFC 5321 calls the
// same mailbox; other addresses stay as they are. There is nothing to escape:
// outside quotes the grammar lets no quote, backslash, space or control through.
func QuoteOdd(address string) string {
	if !OddLocal(address) {
		return address
	}
	i := strings.LastIndexByte(address, '@')
	return `"` + address[:i] + `"` + address[i:]
}
