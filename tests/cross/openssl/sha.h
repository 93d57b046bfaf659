/* sha.h - SHA-256 under OpenSSL's names, for a build for another machine whose libcrypto is not at hand: what
 * shared/crypto/sha256.c asks for, and no more.
 *
 * Plain and slow. Source: FIPS 180-4. Its constants are the first 32 bits of the fractional parts of the roots of
 * the first primes (4.2.2, 5.3.3), so they are computed. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint32_t h[8], k[64];
    uint8_t block[64];
    uint64_t size; /* bytes so far */
} SHA256_CTX;

/* floor(p^(1/root) 2^32) without its whole part; root is 2 or 3, p at most 311. */
static inline uint32_t sha_root(uint64_t p, int root)
{
    uint64_t low = 0;
    uint64_t high = UINT64_C(1) << 37;
    while (high - low > 1) {
        uint64_t middle = (low + high) / 2;
        unsigned __int128 power = (unsigned __int128)middle * middle;
        power = root == 3 ? power * middle : power;
        if (power <= (unsigned __int128)p << (32 * root)) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return (uint32_t)low;
}

static inline int SHA256_Init(SHA256_CTX *ctx)
{
    memset(ctx, 0, sizeof *ctx);
    for (uint64_t p = 2, count = 0; count < 64; p++) {
        uint64_t divisor = 2;
        while (divisor * divisor <= p && p % divisor != 0) {
            divisor++;
        }
        if (divisor * divisor > p) {
            ctx->k[count] = sha_root(p, 3);
            if (count < 8) {
                ctx->h[count] = sha_root(p, 2);
            }
            count++;
        }
    }
    return 1;
}

static inline uint32_t sha_turn(uint32_t x, int count)
{
    return x >> count | x << (32 - count);
}

static inline void sha_block(SHA256_CTX *ctx)
{
    uint32_t w[64];
    uint32_t s[8];
    for (size_t i = 0; i < 16; i++) {
        const uint8_t *at = ctx->block + 4 * i;
        w[i] = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
    }
    for (size_t i = 16; i < 64; i++) {
        uint32_t a = w[i - 15];
        uint32_t b = w[i - 2];
        w[i] = w[i - 16] + (sha_turn(a, 7) ^ sha_turn(a, 18) ^ a >> 3) + w[i - 7] +
               (sha_turn(b, 17) ^ sha_turn(b, 19) ^ b >> 10);
    }
    memcpy(s, ctx->h, sizeof s);
    for (size_t i = 0; i < 64; i++) {
        uint32_t t1 = s[7] + (sha_turn(s[4], 6) ^ sha_turn(s[4], 11) ^ sha_turn(s[4], 25)) +
                      ((s[4] & s[5]) ^ (~s[4] & s[6])) + ctx->k[i] + w[i];
        uint32_t t2 = (sha_turn(s[0], 2) ^ sha_turn(s[0], 13) ^ sha_turn(s[0], 22)) +
                      ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (size_t i = 0; i < 8; i++) {
        ctx->h[i] += s[i];
    }
}

static inline int SHA256_Update(SHA256_CTX *ctx, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++) {
        ctx->block[ctx->size++ % 64] = bytes[i];
        if (ctx->size % 64 == 0) {
            sha_block(ctx);
        }
    }
    return 1;
}

static inline int SHA256_Final(unsigned char *out, SHA256_CTX *ctx)
{
    static const uint8_t END = 0x80;
    static const uint8_t ZERO = 0;
    uint8_t bits[8];
    for (int i = 0; i < 8; i++) {
        bits[i] = (uint8_t)(8 * ctx->size >> (56 - 8 * i));
    }
    (void)SHA256_Update(ctx, &END, 1);
    while (ctx->size % 64 != 56) {
        (void)SHA256_Update(ctx, &ZERO, 1);
    }
    (void)SHA256_Update(ctx, bits, sizeof bits);
    for (int i = 0; i < 32; i++) {
        out[i] = (uint8_t)(ctx->h[i / 4] >> (24 - 8 * (i % 4)));
    }
    return 1;
}
