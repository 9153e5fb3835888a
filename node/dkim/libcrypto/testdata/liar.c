/*
 * Stands in front of the real libcrypto and misbehaves in the one way that it
 * was compiled for. Tests build it with
 *
 *   cc -shared -fPIC -D… -o liar.so liar.c -Wl,--no-as-needed -l:libcrypto.so.3
 *
 * so that whatever is not defined here is found in the real one behind it.
 */
#include <dlfcn.h>
#include <stddef.h>

#ifdef RELEASE /* claims to be another release */
unsigned long OpenSSL_version_num(void) { return RELEASE; }
#endif

#ifdef NO_INIT /* cannot be initialised */
int OPENSSL_init_crypto(unsigned long long options, void *settings) { return 0; }
#endif

#ifdef NO_IMPORT /* takes no key */
void *d2i_PrivateKey(int type, void **key, const unsigned char **at, long size) { return NULL; }
#endif

#ifdef NO_CONTEXT /* takes a key and then cannot sign with it */
int EVP_PKEY_sign_init(void *ctx) { return 0; }
#endif

#if defined(FLIP_AFTER) || defined(FAIL_AFTER) || defined(SHORT_AFTER)
typedef int sign_function(void *, unsigned char *, size_t *, const unsigned char *, size_t);

/* Signs as often as the number says, and then wrongly, not at all, or less than
 * a whole signature. */
int EVP_PKEY_sign(void *ctx, unsigned char *sig, size_t *size, const unsigned char *digest, size_t digest_size)
{
	static int calls;
	int before = __atomic_fetch_add(&calls, 1, __ATOMIC_SEQ_CST);
	sign_function *real = (sign_function *)dlsym(dlopen("libcrypto.so.3", RTLD_NOW), "EVP_PKEY_sign");
#ifdef FAIL_AFTER
	if (before >= FAIL_AFTER) /* the real one refuses a digest of this size and says why */
		return real(ctx, sig, size, digest, 1);
#endif
	int done = real(ctx, sig, size, digest, digest_size);
#ifdef FLIP_AFTER
	if (before >= FLIP_AFTER)
		sig[*size / 2] ^= 1;
#endif
#ifdef SHORT_AFTER
	if (before >= SHORT_AFTER)
		--*size;
#endif
	return done;
}
#endif
