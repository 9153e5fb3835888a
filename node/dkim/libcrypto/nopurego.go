//go:build !linux || !(amd64 || arm64) || static

package libcrypto

// functions stand in for the library where the build leaves it out. As open
// never succeeds, there is no Library to call the others of.
type functions struct{}

func open(string) (functions, error) { return functions{}, errNotBuilt }

func (*functions) versionNumber() uint32                   { return 0 }
func (*functions) initialise() bool                        { return false }
func (*functions) lastError() string                       { return errNotBuilt.Error() }
func (*functions) importKey([]byte) uintptr                { return 0 }
func (*functions) freeKey(uintptr)                         {}
func (*functions) newContext(uintptr) uintptr              { return 0 }
func (*functions) freeContext(uintptr)                     {}
func (*functions) signDigest(uintptr, []byte, []byte) bool { return false }
