/* bech32m.c - see bech32m.h. Values of 5 bits are computed on the fly from the text. */
#include "shared/base/bech32m.h"

#include <stdbool.h>
#include <string.h>

#include "shared/base/check.h"

enum { CHECKSUM_SIZE = 6, PREFIX_MAX = 83 };
static const uint32_t BECH32M_CONSTANT = 0x2bc830a3; /* BIP-350 */
static const char ALPHABET[] = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/* One step of the BCH checksum: BIP-173's generator. */
static uint32_t step(uint32_t sum, uint32_t value)
{
    static const uint32_t GENERATOR[5] = {0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd,
                                          0x2a1462b3};
    uint32_t top = sum >> 25;
    sum = (sum & 0x1ffffff) << 5 ^ value;
    for (int i = 0; i < 5; i++) {
        sum ^= (top >> i & 1) != 0 ? GENERATOR[i] : 0;
    }
    return sum;
}

static uint32_t prefix_sum(const char *prefix, size_t size)
{
    uint32_t sum = 1;
    for (size_t i = 0; i < size; i++) {
        sum = step(sum, (uint32_t)(prefix[i] & 0x7f) >> 5);
    }
    sum = step(sum, 0);
    for (size_t i = 0; i < size; i++) {
        sum = step(sum, (uint32_t)prefix[i] & 31);
    }
    return sum;
}

static size_t prefix_size(const char *prefix)
{
    size_t size = strlen(prefix);
    CHECK(size >= 1);
    CHECK(size <= PREFIX_MAX);
    for (size_t i = 0; i < size; i++) {
        CHECK(prefix[i] > 32);
        CHECK(prefix[i] < 127);
        CHECK(!(prefix[i] >= 'A' && prefix[i] <= 'Z'));
    }
    return size;
}

enum err bech32m_encode(const char *prefix, struct bytes data, char out_text[BECH32M_TEXT_SIZE])
{
    size_t size = prefix_size(prefix);
    if (data.size > BECH32M_DATA_MAX ||
        size + 1 + (data.size * 8 + 4) / 5 + CHECKSUM_SIZE > BECH32M_TEXT_MAX) {
        return ERR_RANGE;
    }
    char text[BECH32M_TEXT_SIZE];
    memcpy(text, prefix, size);
    uint32_t sum = prefix_sum(prefix, size);
    text[size++] = '1';
    uint32_t bits = 0;
    uint32_t bit_count = 0;
    for (size_t i = 0; i < data.size || bit_count > 0;) {
        if (bit_count < 5) { /* take a byte, or pad the last group with zeros */
            bits = i < data.size ? bits << 8 | data.data[i] : bits << (5 - bit_count);
            bit_count = i < data.size ? bit_count + 8 : 5;
            i += i < data.size ? 1 : 0;
        }
        bit_count -= 5;
        uint32_t value = bits >> bit_count & 31;
        sum = step(sum, value);
        text[size++] = ALPHABET[value];
    }
    for (int i = 0; i < CHECKSUM_SIZE; i++) {
        sum = step(sum, 0);
    }
    sum ^= BECH32M_CONSTANT;
    for (int i = 0; i < CHECKSUM_SIZE; i++) {
        text[size++] = ALPHABET[sum >> 5 * (5 - i) & 31];
    }
    text[size] = '\0';
    memcpy(out_text, text, size + 1);
    return ERR_OK;
}

/* Lower-cases text into out and returns its size; 0: too long, mixed case or not printable. */
static size_t fold(const char *text, char out[BECH32M_TEXT_SIZE])
{
    bool lower = false;
    bool upper = false;
    size_t size = 0;
    for (; text[size] != '\0'; size++) {
        char c = text[size];
        if (size == BECH32M_TEXT_MAX || c < 33 || c > 126) {
            return 0;
        }
        lower = lower || (c >= 'a' && c <= 'z');
        upper = upper || (c >= 'A' && c <= 'Z');
        out[size] = c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : c;
    }
    out[size] = '\0';
    return lower && upper ? 0 : size;
}

enum err bech32m_decode(const char *prefix, const char *text, uint8_t *out_data, size_t capacity,
                        size_t *out_size)
{
    size_t hrp_size = prefix_size(prefix);
    char folded[BECH32M_TEXT_SIZE];
    size_t size = fold(text, folded);
    if (size <= hrp_size || size - hrp_size < 1 + CHECKSUM_SIZE ||
        memcmp(folded, prefix, hrp_size) != 0 || folded[hrp_size] != '1') {
        return ERR_INVALID;
    }
    uint8_t data[BECH32M_DATA_MAX];
    size_t data_size = 0;
    uint32_t sum = prefix_sum(prefix, hrp_size);
    uint32_t bits = 0;
    uint32_t bit_count = 0;
    for (size_t i = hrp_size + 1; i < size; i++) {
        const char *found = strchr(ALPHABET, folded[i]);
        if (found == NULL) {
            return ERR_INVALID;
        }
        uint32_t value = (uint32_t)(found - ALPHABET);
        sum = step(sum, value);
        if (i + CHECKSUM_SIZE >= size) {
            continue;
        }
        bits = (bits << 5 | value) & 0xfff;
        bit_count += 5;
        if (bit_count >= 8) {
            bit_count -= 8;
            CHECK(data_size < sizeof data);
            data[data_size++] = (uint8_t)(bits >> bit_count);
        }
    }
    if (sum != BECH32M_CONSTANT || bit_count >= 5 || (bits & ((1U << bit_count) - 1)) != 0 ||
        data_size > capacity) {
        return ERR_INVALID;
    }
    memcpy(out_data, data, data_size);
    *out_size = data_size;
    return ERR_OK;
}
