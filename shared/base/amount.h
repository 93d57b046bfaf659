/* amount.h - money: unsigned 128-bit counts of base units, every operation checked.
 *
 * Why a struct: an amount can then not be added with + by accident, nor mixed with a plain count.
 * One OPEN is 10^18 base units; the whole supply (10^9 OPEN = 10^27 units) leaves room to spare.
 *
 * Amounts go into JSON and onto screens as exact decimal strings of OPEN ("0.000001"), into binary
 * formats as 16 big-endian bytes, whose byte order is also their numeric order.
 *
 * Pure; any thread. Outputs may alias inputs and are written on success only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/err.h"

#define AMOUNT_DECIMALS 18
#define AMOUNT_UNITS_PER_OPEN UINT64_C(1000000000000000000)
#define AMOUNT_SUPPLY_OPEN UINT64_C(1000000000) /* created once, at genesis */
#define AMOUNT_BYTES 16
#define AMOUNT_TEXT_SIZE 48    /* any amount in decimal with its NUL (41), rounded up */
#define AMOUNT_SPLIT_MAX 65536 /* shares in one split */

struct amount {
    uint64_t high; /* units = high * 2^64 + low */
    uint64_t low;
};

#define AMOUNT_ZERO ((struct amount){0, 0})

struct amount amount_from_units(uint64_t units);
struct amount amount_from_open(uint64_t open); /* whole OPEN; cannot overflow */

int amount_compare(struct amount a, struct amount b); /* < 0, 0, > 0 */
bool amount_equal(struct amount a, struct amount b);
bool amount_is_zero(struct amount a);
struct amount amount_min(struct amount a, struct amount b);

/* ERR_RANGE when the result does not fit (sum above 2^128 - 1, difference below 0). */
MUST_USE enum err amount_add(struct amount a, struct amount b, struct amount *out);
MUST_USE enum err amount_sub(struct amount a, struct amount b, struct amount *out);
MUST_USE enum err amount_mul(struct amount a, uint64_t factor, struct amount *out);

/* floor(a * factor / divisor) with a 256-bit product. ERR_RANGE: quotient does not fit, or divisor
 * is 0 (it may come from a parameter). */
MUST_USE enum err amount_mul_div(struct amount a, struct amount factor, struct amount divisor,
                                 struct amount *out);
MUST_USE enum err amount_mul_ratio(struct amount a, uint64_t factor, uint64_t divisor,
                                   struct amount *out);

/* Splits total in proportion to weights[0..count): the largest-remainder method. Each part is
 * floor(total * weight / sum), and the units left over go one each to the largest remainders, ties
 * to the smaller tie_rank[i] (e.g. the position by account id; NULL: to the smaller i), then to the
 * smaller i. The parts sum to total exactly; a zero weight gets nothing.
 * ERR_INVALID: count is 0 or every weight is 0. ERR_LIMIT: count > AMOUNT_SPLIT_MAX. Costs
 * O(count log count). */
MUST_USE enum err amount_split(struct amount total, const uint64_t *weights,
                               const uint32_t *tie_rank, size_t count, struct amount *out_parts);

/* Parses digits with at most 18 after an optional point: "1000000000", "0.50". Refused, with
 * ERR_INVALID: sign, exponent, blanks, leading zeros, a point without digits on both sides;
 * ERR_RANGE: too large. */
MUST_USE enum err amount_parse(const char *text, struct amount *out);

/* Writes the shortest exact decimal, e.g. "1000000000" or "0.000001"; returns out. */
const char *amount_format(struct amount a, char out[AMOUNT_TEXT_SIZE]);

void amount_to_bytes(struct amount a, uint8_t out[AMOUNT_BYTES]); /* big-endian */
struct amount amount_from_bytes(const uint8_t in[AMOUNT_BYTES]);
