package cli

import (
	"errors"
	"fmt"
	"net/http"

	"hikyaku/controlplane/client"
)

// ExitPartly is the exit code of an order that has not reached every node.
const ExitPartly = 3

// ExitError ends the process with a code of its own; text may be empty when
// all has been said.
type ExitError struct {
	Code int
	Text string
}

// Error is error.
func (e *ExitError) Error() string { return e.Text }

// UsageError is a wrong command line: exit code 2.
func UsageError(format string, args ...any) error {
	return &ExitError{Code: 2, Text: fmt.Sprintf(format, args...)}
}

// Hint adds what to do about an error.
func Hint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\nhint: %s", err, fmt.Sprintf(format, args...))
}

// NotFound reports whether the server said 404.
func NotFound(err error) bool {
	var e *client.Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}
