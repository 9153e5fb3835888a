package config

import _ "embed"

// Reference is the configuration reference, made from the types by
// tools/docgen. docs/configuration.md is the same text.
//
//go:embed reference.md
var Reference string
