package libcrypto

import (
	"errors"
	"fmt"
	"runtime"
)

// Soname is the library that Load looks for, wherever the system's loader finds
// libraries. OpenSSL 1.1 is out of support and could not be tested; it is not
// looked for.
const Soname = "libcrypto.so.3"

// major is the release whose calling interface this package speaks.
const major = 3

// Library is a loaded libcrypto. It stays loaded for the life of the process:
// libcrypto cannot be taken out of one safely.
type Library struct {
	fn      functions
	version string
	// slots holds one token for each call that may run at once. More calls than
	// processors gain nothing, and each takes a thread of the system.
	slots chan struct{}
}

// Load loads the library of that name, Soname if the name is empty. The error
// says why it cannot be used: it is missing, of another major release, lacks a
// function, or the build leaves it out.
func Load(name string) (*Library, error) {
	if name == "" {
		name = Soname
	}
	fn, err := open(name)
	if err != nil {
		return nil, err
	}
	// OPENSSL_VERSION_NUMBER is 0xMNN00PP0 since OpenSSL 3 (OpenSSL_version(3)).
	v := fn.versionNumber()
	if v>>28 != major {
		return nil, fmt.Errorf("%s is release %d.%d, want %d", name, v>>28, v>>20&0xff, major)
	}
	l := &Library{fn: fn, slots: make(chan struct{}, runtime.GOMAXPROCS(0))}
	l.version = fmt.Sprintf("%d.%d.%d", v>>28, v>>20&0xff, v>>4&0xff)
	if !fn.initialise() {
		return nil, fmt.Errorf("%s: initialisation: %s", name, fn.lastError())
	}
	return l, nil
}

// Version is the release of the library, like "3.0.15".
func (l *Library) Version() string { return l.version }

// run makes a call with one of the slots taken and on one thread, as the queue
// of errors that libcrypto keeps belongs to the thread. If call says that it
// failed, run returns the last error of the queue, and leaves the queue empty.
func (l *Library) run(what string, call func() bool) error {
	l.slots <- struct{}{}
	defer func() { <-l.slots }()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if call() {
		return nil
	}
	return fmt.Errorf("libcrypto: %s: %s", what, l.fn.lastError())
}

// errNotBuilt is what Load returns where the build leaves purego out.
var errNotBuilt = errors.New("this build cannot load libcrypto")
