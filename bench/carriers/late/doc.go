// Package late is the mail that carriers send back after they have taken a
// message: bounces (RFC 3464) and complaints (RFC 5965). A Notice writes itself
// as such mail; a Post keeps notices until they are due, in a bounded queue,
// and hands them to one SMTP server. It never looks up where mail goes, so
// nothing it sends can leave for the open network by itself.
//
// Read notice.go, then post.go.
package late
