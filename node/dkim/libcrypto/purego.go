//go:build linux && (amd64 || arm64) && !static

package libcrypto

import (
	"bytes"
	"fmt"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"
)

// Constants of the headers of OpenSSL 3.0, which its releases keep.
const (
	pkeyRSA      = 6       // EVP_PKEY_RSA
	paddingPKCS1 = 1       // RSA_PKCS1_PADDING
	initNoConfig = 1 << 7  // OPENSSL_INIT_NO_LOAD_CONFIG
	initNoAtExit = 1 << 19 // OPENSSL_INIT_NO_ATEXIT
)

// functions are addresses in the library.
type functions struct {
	versionNum, initCrypto                  uintptr
	errLast, errClear, errString            uintptr
	decodeKey, keyFree                      uintptr
	ctxNew, ctxFree, signInit, sign         uintptr
	setPadding, setDigest, sha256Descriptor uintptr
}

// open loads the library and looks up what is needed of it.
func open(name string) (functions, error) {
	var fn functions
	handle, err := purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		if strings.Contains(err.Error(), "No such file") {
			return fn, fmt.Errorf("%s not found", name)
		}
		return fn, fmt.Errorf("load %s: %w", name, err)
	}
	for _, f := range []struct {
		symbol  string
		address *uintptr
	}{
		{"OpenSSL_version_num", &fn.versionNum},
		{"OPENSSL_init_crypto", &fn.initCrypto},
		{"ERR_peek_last_error", &fn.errLast},
		{"ERR_clear_error", &fn.errClear},
		{"ERR_error_string_n", &fn.errString},
		{"d2i_PrivateKey", &fn.decodeKey},
		{"EVP_PKEY_free", &fn.keyFree},
		{"EVP_PKEY_CTX_new", &fn.ctxNew},
		{"EVP_PKEY_CTX_free", &fn.ctxFree},
		{"EVP_PKEY_sign_init", &fn.signInit},
		{"EVP_PKEY_sign", &fn.sign},
		{"EVP_PKEY_CTX_set_rsa_padding", &fn.setPadding},
		{"EVP_PKEY_CTX_set_signature_md", &fn.setDigest},
		{"EVP_sha256", &fn.sha256Descriptor},
	} {
		if *f.address, err = purego.Dlsym(handle, f.symbol); err != nil {
			return fn, fmt.Errorf("%s has no function %s", name, f.symbol)
		}
	}
	return fn, nil
}

// call makes a call that takes no memory of Go.
func call(f uintptr, args ...uintptr) uintptr {
	r, _, _ := purego.SyscallN(f, args...)
	return r
}

// ok reads the result of a function that returns a C int: 1 is success, 0 and
// what is below it are not. The upper half of the register is not defined.
func ok(r uintptr) bool { return int32(r) > 0 }

func (fn *functions) versionNumber() uint32 { return uint32(call(fn.versionNum)) }

func (fn *functions) initialise() bool {
	return ok(call(fn.initCrypto, initNoConfig|initNoAtExit, 0))
}

// lastError is the text of the newest error in the thread's queue, and empties
// the queue. The texts are names of a library part and a reason; nothing of a
// key is in them.
func (fn *functions) lastError() string {
	code := call(fn.errLast)
	if code == 0 {
		return "no reason given"
	}
	text := make([]byte, 256)
	purego.SyscallN(fn.errString, code, uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)))
	call(fn.errClear)
	text, _, _ = bytes.Cut(text, []byte{0})
	return string(bytes.ToValidUTF8(text, []byte("?")))
}

// importKey makes an EVP_PKEY of a private key in the form of PKCS #1; 0 when
// it fails.
func (fn *functions) importKey(der []byte) uintptr {
	call(fn.errClear) // what comes later is about this key
	at := &der[0]     // d2i_PrivateKey moves it to behind what it read
	r, _, _ := purego.SyscallN(fn.decodeKey, pkeyRSA, 0, uintptr(unsafe.Pointer(&at)), uintptr(len(der)))
	return r
}

func (fn *functions) freeKey(key uintptr) { call(fn.keyFree, key) }

// newContext makes an EVP_PKEY_CTX ready to sign; 0 when it fails.
func (fn *functions) newContext(key uintptr) uintptr {
	ctx := call(fn.ctxNew, key, 0)
	if ctx == 0 {
		return 0
	}
	if ok(call(fn.signInit, ctx)) && ok(call(fn.setPadding, ctx, paddingPKCS1)) &&
		ok(call(fn.setDigest, ctx, call(fn.sha256Descriptor))) {
		return ctx
	}
	call(fn.ctxFree, ctx)
	return 0
}

func (fn *functions) freeContext(ctx uintptr) { call(fn.ctxFree, ctx) }

// signDigest writes the signature of digest to sig, which must be filled.
func (fn *functions) signDigest(ctx uintptr, sig, digest []byte) bool {
	size := uintptr(len(sig)) // a size_t, in and out
	r, _, _ := purego.SyscallN(fn.sign, ctx,
		uintptr(unsafe.Pointer(&sig[0])), uintptr(unsafe.Pointer(&size)),
		uintptr(unsafe.Pointer(&digest[0])), uintptr(len(digest)))
	return ok(r) && size == uintptr(len(sig))
}
