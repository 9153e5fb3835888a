package feedback

// Bounds of Parse. What lies beyond is not read, and Report.Truncated is set.
const (
	// MaxBytes is how much of a mail is read. Reports stand in front of what they
	// return, so nothing of use is lost.
	MaxBytes = 1 << 20
	// MaxParts bounds MIME parts, all levels together; MaxDepth their nesting.
	MaxParts = 64
	MaxDepth = 8
	// MaxFields and MaxHeader bound one header section.
	MaxFields = 400
	MaxHeader = 128 << 10
	// MaxRecipients bounds recipients of a report.
	MaxRecipients = 100
	// MaxText is how much of a report's prose is read, MaxLines in how many lines.
	MaxText  = 64 << 10
	MaxLines = 1500
	// MaxTokens bounds Returned.Tokens and Links, each, and returned addresses.
	MaxTokens = 16

	maxAddress  = 400 // bytes of an address
	maxBoundary = 200 // bytes; RFC 2046 5.1.1 allows 70
	maxName     = 255 // bytes of a host name, user agent, …
	maxInner    = 2   // reports within reports
)
