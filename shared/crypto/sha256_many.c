/* sha256_many.c - sha256_many() of sha256.h: sixteen short messages at a time where the CPU has AVX-512.
 *
 * Each 32-bit lane of the vectors is one message, so the rounds are FIPS 180-4 section 6.2.2 as it is written, with a
 * vector for each word; a message that is over before the others keeps its state by a mask. Why not the
 * CPU's SHA instructions sixteen times: their steps wait for each other, and set-up costs as much as a block. */
#include <pthread.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"

static void one_by_one(struct bytes prefix, const struct bytes *messages, size_t count,
                       struct digest *out_digests)
{
    for (size_t i = 0; i < count; i++) {
        const struct bytes parts[2] = {prefix, messages[i]};
        sha256_parts(parts, 2, &out_digests[i]);
    }
}

#if defined(__x86_64__)

#include <immintrin.h>

enum {
    LANES = 16,
    LANES_MIN = 6, /* with fewer, one by one is faster */
    BLOCK_SIZE = 64,
    BLOCKS_MAX = 16, /* of a message in a lane */
    TAIL_MIN = 9     /* padding: a bit, and the size in 8 bytes */
};

#define LANE_CODE __attribute__((target("avx512f,avx512bw")))
#define LANE_PART LANE_CODE __attribute__((always_inline)) static inline

struct lanes {
    _Alignas(64) uint8_t data[LANES][BLOCKS_MAX * BLOCK_SIZE]; /* padded */
    size_t blocks[LANES];
};

/* Section 4.2.2 and 5.3.3: cube and square roots of primes. */
static const uint32_t ROUND[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
static const uint32_t INITIAL[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

LANE_PART __m512i add(__m512i a, __m512i b)
{
    return _mm512_add_epi32(a, b);
}

LANE_PART __m512i xor3(__m512i a, __m512i b, __m512i c)
{
    return _mm512_ternarylogic_epi32(a, b, c, 0x96);
}

/* Words are big-endian. */
LANE_PART __m512i swap_bytes(__m512i words)
{
    return _mm512_shuffle_epi8(
        words, _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203)));
}

/* Word j of vector i becomes word i of vector j. */
LANE_PART void transpose(__m512i v[16])
{
    __m512i t[16];
    for (size_t i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    }
    for (size_t i = 0; i < 16; i += 4) {
        v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (size_t i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
    }
    for (size_t i = 0; i < 4; i++) {
        v[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        v[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        v[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        v[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

/* s: the working variables a to h, of which a round renames each and changes two. */
LANE_PART void round_one(__m512i s[8], int number, __m512i word)
{
    const int from = 64 - number; /* where a is, but for multiples of 8 */
    __m512i a = s[from & 7];
    __m512i e = s[(from + 4) & 7];
    __m512i sum0 = xor3(_mm512_ror_epi32(a, 2), _mm512_ror_epi32(a, 13), _mm512_ror_epi32(a, 22));
    __m512i sum1 = xor3(_mm512_ror_epi32(e, 6), _mm512_ror_epi32(e, 11), _mm512_ror_epi32(e, 25));
    __m512i choice = _mm512_ternarylogic_epi32(e, s[(from + 5) & 7], s[(from + 6) & 7], 0xca);
    __m512i majority = _mm512_ternarylogic_epi32(a, s[(from + 1) & 7], s[(from + 2) & 7], 0xe8);
    __m512i t1 = add(add(s[(from + 7) & 7], word), add(sum1, choice));
    s[(from + 3) & 7] = add(s[(from + 3) & 7], t1);
    s[(from + 7) & 7] = add(t1, add(sum0, majority));
}

/* The word 16 places on. */
LANE_PART __m512i schedule(const __m512i w[16], int i)
{
    __m512i early = w[(i + 1) & 15];
    __m512i late = w[(i + 14) & 15];
    __m512i sigma0 =
        xor3(_mm512_ror_epi32(early, 7), _mm512_ror_epi32(early, 18), _mm512_srli_epi32(early, 3));
    __m512i sigma1 =
        xor3(_mm512_ror_epi32(late, 17), _mm512_ror_epi32(late, 19), _mm512_srli_epi32(late, 10));
    return add(add(w[i], w[(i + 9) & 15]), add(sigma0, sigma1));
}

/* Block `number` of all lanes that have one. */
LANE_CODE static void compress(const struct lanes *lanes, size_t number, __m512i state[8])
{
    __mmask16 active = 0;
    __m512i w[16];
    __m512i s[8];
    for (int lane = 0; lane < LANES; lane++) {
        active |= (__mmask16)((number < lanes->blocks[lane]) << lane);
        w[lane] = swap_bytes(_mm512_load_si512(lanes->data[lane] + number * BLOCK_SIZE));
    }
    transpose(w);
    memcpy(s, state, sizeof s);
    for (int first = 0; first < 64; first += 16) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            w[i] = first == 0 ? w[i] : schedule(w, i);
            round_one(s, i, add(w[i], _mm512_set1_epi32((int)ROUND[first + i])));
        }
    }
    for (int i = 0; i < 8; i++) {
        state[i] = _mm512_mask_add_epi32(state[i], active, state[i], s[i]);
    }
}

static void lane_fill(struct lanes *lanes, int lane, struct bytes prefix, struct bytes message)
{
    uint8_t *data = lanes->data[lane];
    size_t size = prefix.size + message.size;
    size_t end = (size + TAIL_MIN + BLOCK_SIZE - 1) / BLOCK_SIZE * BLOCK_SIZE;
    uint64_t bits = __builtin_bswap64(8 * (uint64_t)size);
    if (prefix.size > 0) {
        memcpy(data, prefix.data, prefix.size);
    }
    if (message.size > 0) {
        memcpy(data + prefix.size, message.data, message.size);
    }
    memset(data + size, 0, end - size);
    data[size] = 0x80;
    memcpy(data + end - sizeof bits, &bits, sizeof bits);
    lanes->blocks[lane] = end / BLOCK_SIZE;
}

/* At most LANES messages, each of which fits a lane. */
LANE_CODE static void side_by_side(struct bytes prefix, const struct bytes *messages, size_t count,
                                   struct digest *out_digests)
{
    struct lanes lanes;
    __m512i state[16] = {0};
    size_t blocks = 0;
    for (int lane = 0; lane < LANES; lane++) {
        lanes.blocks[lane] = 0;
        if ((size_t)lane < count) {
            lane_fill(&lanes, lane, prefix, messages[lane]);
            blocks = lanes.blocks[lane] > blocks ? lanes.blocks[lane] : blocks;
        }
    }
    for (int i = 0; i < 8; i++) {
        state[i] = _mm512_set1_epi32((int)INITIAL[i]);
    }
    for (size_t number = 0; number < blocks; number++) {
        for (int lane = 0; lane < LANES; lane++) {
            if (number >= lanes.blocks[lane]) { /* read, and masked */
                memset(lanes.data[lane] + number * BLOCK_SIZE, 0, BLOCK_SIZE);
            }
        }
        compress(&lanes, number, state);
    }
    transpose(state);
    for (size_t lane = 0; lane < count; lane++) {
        __m256i words = _mm512_castsi512_si256(swap_bytes(state[lane]));
        _mm256_storeu_si256((__m256i *)(void *)out_digests[lane].bytes, words);
    }
}

static bool usable;

/* Lanes are used only if they give what OpenSSL gives. */
static void lanes_try(void)
{
    uint8_t text[LANES * BLOCK_SIZE / 2];
    struct bytes messages[LANES];
    struct digest expected[LANES];
    struct digest found[LANES];
    const struct bytes prefix = bytes_of(text, 1);
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw")) {
        return;
    }
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = (uint8_t)(i * i + 7 * i);
    }
    for (size_t i = 0; i < LANES; i++) {
        messages[i] = bytes_of(text + i, 29 * i + 3);
    }
    one_by_one(prefix, messages, LANES, expected);
    side_by_side(prefix, messages, LANES, found);
    usable = memcmp(expected, found, sizeof found) == 0;
}

unsigned sha256_many_lanes(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    CHECK(pthread_once(&once, lanes_try) == 0);
    return usable ? LANES : 1;
}

void sha256_many(struct bytes prefix, const struct bytes *messages, size_t count,
                 struct digest *out_digests)
{
    enum { SIZE_MAX_LANE = BLOCKS_MAX * BLOCK_SIZE - TAIL_MIN };
    const bool side = sha256_many_lanes() == LANES;
    for (size_t done = 0; done < count;) {
        size_t some = 0;
        while (some < LANES && done + some < count && prefix.size <= SIZE_MAX_LANE &&
               messages[done + some].size <= SIZE_MAX_LANE - prefix.size) {
            some++;
        }
        if (some >= LANES_MIN && side) {
            side_by_side(prefix, messages + done, some, out_digests + done);
        } else { /* with the long one that ended the row, if one did */
            some += some < LANES && done + some < count ? 1 : 0;
            one_by_one(prefix, messages + done, some, out_digests + done);
        }
        done += some;
    }
}

#else

unsigned sha256_many_lanes(void)
{
    return 1;
}

void sha256_many(struct bytes prefix, const struct bytes *messages, size_t count,
                 struct digest *out_digests)
{
    one_by_one(prefix, messages, count, out_digests);
}

#endif
