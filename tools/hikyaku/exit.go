package main

import (
	"errors"
	"fmt"
	"net/http"

	"hikyaku/controlplane/client"
)

// exitPartly is the exit code of an order that has not reached every node.
const exitPartly = 3

// exitError ends the process with a code of its own; text may be empty when
// all has been said.
type exitError struct {
	code int
	text string
}

// Error is error.
func (e *exitError) Error() string { return e.text }

// usageError is a wrong command line: exit code 2.
func usageError(format string, args ...any) error {
	return &exitError{code: 2, text: fmt.Sprintf(format, args...)}
}

// hint adds what to do about an error.
func hint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\nhint: %s", err, fmt.Sprintf(format, args...))
}

// notFound reports whether the server said 404.
func notFound(err error) bool {
	var e *client.Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}
