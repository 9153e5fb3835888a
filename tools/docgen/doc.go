// Command docgen writes the reference pages that are made from code, so that
// they cannot say anything else than the code does: docs/configuration.md (and
// the same text for "hikyaku config reference") from the comments on the
// configuration types, docs/carriers.md from the carriers that ship, docs/cli.md
// from the commands' own help.
//
// Run it in the root of the repository: go run ./tools/docgen. A test fails
// while the pages are out of date.
package main
