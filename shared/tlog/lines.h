/* lines.h - the lines that proofs and witness requests are made of. Internal to this room. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"

/* Takes a line, which may be empty, without its newline. False: there is none. */
bool lines_take(struct bytes *in, struct bytes *out_line);
/* Does line begin with prefix? Then it is cut off. */
bool lines_skip(struct bytes *line, const char *prefix);
/* The whole line is a decimal number below 2^63 without leading zeros. */
bool lines_number(struct bytes line, uint64_t *out);
/* The whole line is a hash in base64. */
bool lines_hash(struct bytes line, struct digest *out);
enum err lines_put_hash(const struct digest *hash, struct buf *out);
