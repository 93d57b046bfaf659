/* sha256.h - SHA-256 and HMAC-SHA256, on OpenSSL's code for the CPU's SHA instructions.
 *
 * Why OpenSSL here and libsodium for signatures: measured, each is several times the faster one.
 * Source: FIPS 180-4, RFC 2104. No failure is possible but a broken library, which aborts.
 *
 * Any thread; one struct sha256 belongs to one thread at a time. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/digest.h"

/* SHA-256 of data. */
void sha256(struct bytes data, struct digest *out_digest);

/* SHA-256 of the parts one after the other, without copying them together. */
void sha256_parts(const struct bytes *parts, size_t count, struct digest *out_digest);

/* SHA-256 of prefix || messages[i] into out_digests[i], for each i < count. Where a CPU has AVX-512, sixteen short
 * messages at a time, and so faster than one by one (sha256_many.c); the digests are the same everywhere. out_digests overlaps nothing. */
void sha256_many(struct bytes prefix, const struct bytes *messages, size_t count,
                 struct digest *out_digests);
/* How many at a time on this machine: 1, or 16 where the CPU can and gives the right digests. */
unsigned sha256_many_lanes(void);

/* Incremental: create, update any number of times, final (which starts over), destroy. */
struct sha256;
struct sha256 *sha256_create(void);      /* never NULL: aborts when memory is gone */
void sha256_destroy(struct sha256 *sha); /* NULL is fine */
void sha256_update(struct sha256 *sha, struct bytes data);
void sha256_final(struct sha256 *sha, struct digest *out_digest);

void hmac_sha256(struct bytes key, struct bytes data, struct digest *out_mac);
