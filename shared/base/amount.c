/* amount.c - see amount.h. */
#include "shared/base/amount.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"

__extension__ typedef unsigned __int128 u128; /* the one integer C17 lacks; gcc and clang have it */

static u128 units_of(struct amount a)
{
    return (u128)a.high << 64 | a.low;
}

static struct amount amount_of(u128 units)
{
    return (struct amount){.high = (uint64_t)(units >> 64), .low = (uint64_t)units};
}

struct amount amount_from_units(uint64_t units)
{
    return amount_of(units);
}

struct amount amount_from_open(uint64_t open)
{
    return amount_of((u128)open * AMOUNT_UNITS_PER_OPEN); /* < 2^64 * 2^60 */
}

int amount_compare(struct amount a, struct amount b)
{
    u128 x = units_of(a);
    u128 y = units_of(b);
    return (x > y) - (x < y);
}

bool amount_equal(struct amount a, struct amount b)
{
    return amount_compare(a, b) == 0;
}

bool amount_is_zero(struct amount a)
{
    return units_of(a) == 0;
}

struct amount amount_min(struct amount a, struct amount b)
{
    return amount_compare(a, b) <= 0 ? a : b;
}

enum err amount_add(struct amount a, struct amount b, struct amount *out)
{
    u128 sum;
    if (__builtin_add_overflow(units_of(a), units_of(b), &sum)) {
        return ERR_RANGE;
    }
    *out = amount_of(sum);
    return ERR_OK;
}

enum err amount_sub(struct amount a, struct amount b, struct amount *out)
{
    u128 difference;
    if (__builtin_sub_overflow(units_of(a), units_of(b), &difference)) {
        return ERR_RANGE;
    }
    *out = amount_of(difference);
    return ERR_OK;
}

enum err amount_mul(struct amount a, uint64_t factor, struct amount *out)
{
    u128 product;
    if (__builtin_mul_overflow(units_of(a), (u128)factor, &product)) {
        return ERR_RANGE;
    }
    *out = amount_of(product);
    return ERR_OK;
}

/* a * b in 256 bits: four 64 x 64 products, the schoolbook way. */
static void mul_wide(u128 a, u128 b, u128 *out_high, u128 *out_low)
{
    u128 a0 = (uint64_t)a;
    u128 a1 = a >> 64;
    u128 b0 = (uint64_t)b;
    u128 b1 = b >> 64;
    u128 low = a0 * b0;
    u128 mid = a0 * b1 + (low >> 64); /* cannot overflow: (2^64-1)^2 + 2^64-1 < 2^128 */
    u128 mid2 = a1 * b0 + (uint64_t)mid;
    *out_low = mid2 << 64 | (uint64_t)low;
    *out_high = a1 * b1 + (mid >> 64) + (mid2 >> 64);
}

/* floor(a * b / divisor) and the remainder. False when the quotient exceeds 128 bits (or divisor
 * is 0). The common product below 2^128 is one machine division; else binary long division. */
static bool mul_div(u128 a, u128 b, u128 divisor, u128 *out_quotient, u128 *out_remainder)
{
    u128 product;
    if (divisor == 0) {
        return false;
    }
    if (!__builtin_mul_overflow(a, b, &product)) {
        *out_quotient = product / divisor;
        *out_remainder = product % divisor;
        return true;
    }
    u128 rest;
    u128 low;
    mul_wide(a, b, &rest, &low);
    if (rest >= divisor) {
        return false;
    }
    u128 quotient = 0;
    for (int bit = 127; bit >= 0; bit--) {
        bool carry = rest >> 127 != 0; /* rest * 2 may need a 129th bit */
        rest = rest << 1 | (low >> bit & 1);
        quotient <<= 1;
        if (carry || rest >= divisor) {
            rest -= divisor;
            quotient |= 1;
        }
    }
    *out_quotient = quotient;
    *out_remainder = rest;
    return true;
}

enum err amount_mul_div(struct amount a, struct amount factor, struct amount divisor,
                        struct amount *out)
{
    u128 quotient;
    u128 remainder;
    if (!mul_div(units_of(a), units_of(factor), units_of(divisor), &quotient, &remainder)) {
        return ERR_RANGE;
    }
    *out = amount_of(quotient);
    return ERR_OK;
}

enum err amount_mul_ratio(struct amount a, uint64_t factor, uint64_t divisor, struct amount *out)
{
    return amount_mul_div(a, amount_from_units(factor), amount_from_units(divisor), out);
}

struct part {
    u128 remainder;
    uint32_t rank;
    uint32_t index;
};

/* Who gets a left-over unit first. */
static int part_compare(const void *a, const void *b)
{
    const struct part *x = a;
    const struct part *y = b;
    if (x->remainder != y->remainder) {
        return x->remainder > y->remainder ? -1 : 1;
    }
    if (x->rank != y->rank) {
        return x->rank < y->rank ? -1 : 1;
    }
    return (x->index > y->index) - (x->index < y->index);
}

enum err amount_split(struct amount total, const uint64_t *weights, const uint32_t *tie_rank,
                      size_t count, struct amount *out_parts)
{
    if (count > AMOUNT_SPLIT_MAX) {
        return ERR_LIMIT;
    }
    u128 weight_sum = 0;
    for (size_t i = 0; i < count; i++) {
        weight_sum += weights[i];
    }
    if (weight_sum == 0) {
        return ERR_INVALID;
    }
    struct part *parts = malloc(count * sizeof *parts);
    if (parts == NULL) {
        return ERR_NO_MEMORY;
    }
    u128 left = units_of(total);
    for (size_t i = 0; i < count; i++) {
        u128 quotient = 0;
        u128 remainder = 0;
        bool fits = mul_div(units_of(total), weights[i], weight_sum, &quotient, &remainder);
        CHECK(fits); /* weight <= sum, so the part is at most the total */
        out_parts[i] = amount_of(quotient);
        left -= quotient;
        parts[i] = (struct part){.remainder = remainder,
                                 .rank = tie_rank == NULL ? 0 : tie_rank[i],
                                 .index = (uint32_t)i};
    }
    /* The remainders sum to left * weight_sum and each is below weight_sum, so more than `left` of
     * them are not 0 (or left is 0): a part with weight 0 never gets a unit. */
    CHECK(left < count);
    if (left > 0) {
        qsort(parts, count, sizeof *parts, part_compare);
    }
    for (size_t i = 0; i < left; i++) {
        CHECK(parts[i].remainder > 0);
        out_parts[parts[i].index] = amount_of(units_of(out_parts[parts[i].index]) + 1);
    }
    free(parts);
    return ERR_OK;
}

enum err amount_parse(const char *text, struct amount *out)
{
    u128 units = 0;
    int decimals = -1; /* digits after the point; -1: no point yet */
    size_t digits = 0;
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '.' && decimals < 0 && digits > 0) {
            decimals = 0;
            continue;
        }
        if (*c < '0' || *c > '9' || decimals == AMOUNT_DECIMALS) {
            return ERR_INVALID;
        }
        if (digits == 1 && decimals < 0 && text[0] == '0') {
            return ERR_INVALID;
        }
        digits++;
        decimals += decimals >= 0 ? 1 : 0;
        if (__builtin_mul_overflow(units, (u128)10, &units) ||
            __builtin_add_overflow(units, (u128)(unsigned)(*c - '0'), &units)) {
            return ERR_RANGE;
        }
    }
    if (digits == 0 || decimals == 0) {
        return ERR_INVALID;
    }
    for (int i = decimals < 0 ? 0 : decimals; i < AMOUNT_DECIMALS; i++) {
        if (__builtin_mul_overflow(units, (u128)10, &units)) {
            return ERR_RANGE;
        }
    }
    *out = amount_of(units);
    return ERR_OK;
}

/* Writes value in decimal, with zeros before it to at least `least` digits, so that it ends before `end`. */
static char *digits_before(char *end, uint64_t value, int least)
{
    for (; value > 0 || least > 0; value /= 10, least--) {
        *--end = (char)('0' + (int)(value % 10));
    }
    return end;
}

/* In pieces of 64 bits: dividing 128 for each digit would cost more than all else about a posting. */
const char *amount_format(struct amount a, char out[AMOUNT_TEXT_SIZE])
{
    u128 whole = units_of(a) / AMOUNT_UNITS_PER_OPEN;
    uint64_t fraction = (uint64_t)(units_of(a) - whole * AMOUNT_UNITS_PER_OPEN);
    char digits[AMOUNT_TEXT_SIZE];
    char *const end = digits + sizeof digits;
    char *at = end;
    *--at = '\0';
    if (fraction > 0) {
        int decimals = AMOUNT_DECIMALS;
        for (; fraction % 10 == 0; fraction /= 10) { /* no zeros at the end of the fraction */
            decimals--;
        }
        at = digits_before(at, fraction, decimals);
        *--at = '.';
    }
    if (whole > UINT64_MAX) {
        const uint64_t low = (uint64_t)(whole % AMOUNT_UNITS_PER_OPEN);
        whole /= AMOUNT_UNITS_PER_OPEN;
        at = digits_before(at, low, AMOUNT_DECIMALS);
    }
    at = digits_before(at, (uint64_t)whole, 1);
    return memcpy(out, at, (size_t)(end - at));
}

void amount_to_bytes(struct amount a, uint8_t out[AMOUNT_BYTES])
{
    const uint64_t halves[2] = {htobe64(a.high), htobe64(a.low)};
    memcpy(out, halves, sizeof halves);
}

struct amount amount_from_bytes(const uint8_t in[AMOUNT_BYTES])
{
    uint64_t halves[2];
    memcpy(halves, in, sizeof halves);
    return (struct amount){.high = be64toh(halves[0]), .low = be64toh(halves[1])};
}
