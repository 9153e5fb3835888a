// Package human puts values into the words that people read: spans of time,
// sizes, rates, counts with their nouns, replies. It also makes foreign text
// harmless for a terminal (Clean).
//
// Everything is a function from a value to text; nothing is asked or printed
// here. Colour and tables are package cli's.
package human
