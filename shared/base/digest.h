/* digest.h - a SHA-256 value: the name of every object, written "sha256:<64 hex digits>".
 *
 * shared/crypto/sha256.h computes them; this is the type, its order and its text. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"

#define DIGEST_SIZE 32
#define DIGEST_PREFIX "sha256:"
#define DIGEST_TEXT_SIZE 72 /* prefix, 64 digits and a NUL */

struct digest {
    uint8_t bytes[DIGEST_SIZE];
};

int digest_compare(const struct digest *a, const struct digest *b); /* < 0, 0, > 0; public values */
bool digest_equal(const struct digest *a, const struct digest *b);
bool digest_is_zero(const struct digest *digest); /* all zero: "none" where a format says so */
struct bytes digest_bytes(const struct digest *digest); /* borrowed */

/* Returns out, so that it can be used inside a printf call. */
const char *digest_format(const struct digest *digest, char out[DIGEST_TEXT_SIZE]);

/* ERR_INVALID unless text is "sha256:" and 64 lower-case digits, nothing else. */
MUST_USE enum err digest_parse(const char *text, struct digest *out_digest);

/* Takes 32 raw bytes, e.g. a protobuf field. ERR_INVALID when there are more or fewer. */
MUST_USE enum err digest_from_bytes(struct bytes bytes, struct digest *out_digest);
