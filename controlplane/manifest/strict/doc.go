// Package strict decodes YAML, and with it JSON, into Go structs and refuses
// whatever it does not fully understand: unknown and repeated keys, wrong
// types, empty values, anchors, aliases and tags. Each error has file, line,
// column, the path of the value and, for an unknown key, the key that was
// probably meant. It never guesses and never fills in half a struct without
// saying so.
//
// Keys are the json tags of the struct's fields; embedded structs count as part
// of theirs. Types that read text (encoding.TextUnmarshaler) do so, and their
// errors get a position too.
//
// The policy manifests (controlplane/manifest), the admin API's bodies and
// hikyaku.yaml are all read by it. Read document.go first.
package strict
