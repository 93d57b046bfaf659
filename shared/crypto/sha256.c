/* sha256.c - see sha256.h. The digest is fetched once (a by-name lookup per hash would cost more
 * than a Merkle node's hash); each thread keeps one context. */
#include "shared/crypto/sha256.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "shared/base/check.h"

enum { BLOCK_SIZE = 64 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static EVP_MD *algorithm;
static pthread_key_t context_key; /* frees a thread's context when the thread ends */
static _Thread_local EVP_MD_CTX *context;

static void context_free(void *value)
{
    EVP_MD_CTX_free(value);
}

static void prepare(void)
{
    algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
    CHECK(algorithm != NULL);
    CHECK(pthread_key_create(&context_key, context_free) == 0);
}

static EVP_MD_CTX *context_get(void)
{
    if (context == NULL) {
        CHECK(pthread_once(&once, prepare) == 0);
        context = EVP_MD_CTX_new();
        CHECK(context != NULL);
        CHECK(pthread_setspecific(context_key, context) == 0);
    }
    return context;
}

void sha256_parts(const struct bytes *parts, size_t count, struct digest *out_digest)
{
    EVP_MD_CTX *ctx = context_get();
    int ok = EVP_DigestInit_ex2(ctx, algorithm, NULL);
    for (size_t i = 0; i < count; i++) {
        ok &= parts[i].size == 0 ? 1 : EVP_DigestUpdate(ctx, parts[i].data, parts[i].size);
    }
    ok &= EVP_DigestFinal_ex(ctx, out_digest->bytes, NULL);
    CHECK(ok == 1);
}

void sha256(struct bytes data, struct digest *out_digest)
{
    sha256_parts(&data, 1, out_digest);
}

struct sha256 {
    EVP_MD_CTX *ctx;
};

static void start(struct sha256 *sha)
{
    CHECK(EVP_DigestInit_ex2(sha->ctx, algorithm, NULL) == 1);
}

struct sha256 *sha256_create(void)
{
    CHECK(pthread_once(&once, prepare) == 0);
    struct sha256 *sha = malloc(sizeof *sha);
    CHECK(sha != NULL);
    sha->ctx = EVP_MD_CTX_new();
    CHECK(sha->ctx != NULL);
    start(sha);
    return sha;
}

void sha256_destroy(struct sha256 *sha)
{
    if (sha != NULL) {
        EVP_MD_CTX_free(sha->ctx);
        free(sha);
    }
}

void sha256_update(struct sha256 *sha, struct bytes data)
{
    CHECK(data.size == 0 || EVP_DigestUpdate(sha->ctx, data.data, data.size) == 1);
}

void sha256_final(struct sha256 *sha, struct digest *out_digest)
{
    CHECK(EVP_DigestFinal_ex(sha->ctx, out_digest->bytes, NULL) == 1);
    start(sha);
}

void hmac_sha256(struct bytes key, struct bytes data, struct digest *out_mac)
{
    uint8_t inner_key[BLOCK_SIZE] = {0};
    uint8_t outer_key[BLOCK_SIZE] = {0};
    struct digest inner;
    if (key.size > BLOCK_SIZE) {
        sha256(key, &inner);
        memcpy(inner_key, inner.bytes, DIGEST_SIZE);
    } else if (key.size > 0) {
        memcpy(inner_key, key.data, key.size);
    }
    for (size_t i = 0; i < BLOCK_SIZE; i++) {
        outer_key[i] = inner_key[i] ^ 0x5c;
        inner_key[i] ^= 0x36;
    }
    struct bytes inner_parts[2] = {{inner_key, BLOCK_SIZE}, data};
    sha256_parts(inner_parts, 2, &inner);
    struct bytes outer_parts[2] = {{outer_key, BLOCK_SIZE}, digest_bytes(&inner)};
    sha256_parts(outer_parts, 2, out_mac);
    explicit_bzero(inner_key, sizeof inner_key);
    explicit_bzero(outer_key, sizeof outer_key);
}
