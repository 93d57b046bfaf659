/* account_id.h - who owns and owes: 32 bytes, written as bech32m with prefix "open".
 *
 * An id is the hash of the account's first key (shared/crypto/keys.h makes it); keys can change,
 * ids do not. Its order is byte order. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/err.h"

#define ACCOUNT_ID_SIZE 32
#define ACCOUNT_ID_PREFIX "open"
#define ACCOUNT_ID_TEXT_SIZE 64 /* "open1" + 52 + 6 characters and a NUL */

struct account_id {
    uint8_t bytes[ACCOUNT_ID_SIZE];
};

int account_id_compare(const struct account_id *a, const struct account_id *b); /* < 0, 0, > 0 */
bool account_id_equal(const struct account_id *a, const struct account_id *b);

/* Returns out, so that it can be used inside a printf call. */
const char *account_id_format(const struct account_id *id, char out[ACCOUNT_ID_TEXT_SIZE]);

/* ERR_INVALID unless text is "open1..." with a right checksum and 32 bytes. */
MUST_USE enum err account_id_parse(const char *text, struct account_id *out_id);
