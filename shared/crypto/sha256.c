/* sha256.c - see sha256.h. The one-shot calls of libcrypto rather than EVP: most of what is hashed here
 * is one or two blocks long, and EVP's set-up costs as much as hashing them. */
#define OPENSSL_SUPPRESS_DEPRECATED /* they are "deprecated" in favour of EVP only */
#include "shared/crypto/sha256.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/sha.h>

#include "shared/base/check.h"

enum { BLOCK_SIZE = 64 };

void sha256_parts(const struct bytes *parts, size_t count, struct digest *out_digest)
{
    SHA256_CTX ctx;
    int ok = SHA256_Init(&ctx);
    for (size_t i = 0; i < count; i++) {
        ok &= parts[i].size == 0 ? 1 : SHA256_Update(&ctx, parts[i].data, parts[i].size);
    }
    ok &= SHA256_Final(out_digest->bytes, &ctx);
    CHECK(ok == 1);
}

void sha256(struct bytes data, struct digest *out_digest)
{
    sha256_parts(&data, 1, out_digest);
}

struct sha256 {
    SHA256_CTX ctx;
};

struct sha256 *sha256_create(void)
{
    struct sha256 *sha = malloc(sizeof *sha);
    CHECK(sha != NULL);
    CHECK(SHA256_Init(&sha->ctx) == 1);
    return sha;
}

void sha256_destroy(struct sha256 *sha)
{
    free(sha);
}

void sha256_update(struct sha256 *sha, struct bytes data)
{
    CHECK(data.size == 0 || SHA256_Update(&sha->ctx, data.data, data.size) == 1);
}

void sha256_final(struct sha256 *sha, struct digest *out_digest)
{
    CHECK(SHA256_Final(out_digest->bytes, &sha->ctx) == 1);
    CHECK(SHA256_Init(&sha->ctx) == 1);
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
