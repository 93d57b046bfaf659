/* base64.h - RFC 4648 base64: strict for signed text, lenient for JSON. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/err.h"

/* Characters of the padded encoding of size bytes, without a NUL. */
#define BASE64_SIZE(size) (((size) + 2) / 3 * 4)

/* Appends the standard alphabet with padding. Errors stay in the buf. */
enum err base64_encode(struct bytes data, struct buf *out);

/* Appends the decoded bytes. Strict: standard alphabet, padded, unused bits zero, so one value has
 * one spelling. Lenient (proto3 JSON): also the URL-safe alphabet, padding optional.
 * ERR_INVALID: not base64; out is as before. ERR_LIMIT, ERR_NO_MEMORY: as buf. */
MUST_USE enum err base64_decode(struct bytes text, bool lenient, struct buf *out);
