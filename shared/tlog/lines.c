/* lines.c - see lines.h. */
#include "shared/tlog/lines.h"

#include <string.h>

#include "shared/base/base64.h"

enum { NUMBER_DIGITS_MAX = 18 }; /* fits 63 bits whatever the digits */

bool lines_take(struct bytes *in, struct bytes *out_line)
{
    const uint8_t *end = in->size == 0 ? NULL : memchr(in->data, '\n', in->size);
    if (end == NULL) {
        return false;
    }
    *out_line = bytes_of(in->data, (size_t)(end - in->data));
    *in = bytes_of(end + 1, in->size - out_line->size - 1);
    return true;
}

bool lines_skip(struct bytes *line, const char *prefix)
{
    size_t size = strlen(prefix);
    if (line->size < size || memcmp(line->data, prefix, size) != 0) {
        return false;
    }
    *line = bytes_of(line->data + size, line->size - size);
    return true;
}

bool lines_number(struct bytes line, uint64_t *out)
{
    uint64_t value = 0;
    if (line.size == 0 || line.size > NUMBER_DIGITS_MAX || (line.size > 1 && line.data[0] == '0')) {
        return false;
    }
    for (size_t i = 0; i < line.size; i++) {
        if (line.data[i] < '0' || line.data[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(line.data[i] - '0');
    }
    *out = value;
    return true;
}

bool lines_hash(struct bytes line, struct digest *out)
{
    struct buf data;
    buf_init(&data, DIGEST_SIZE + 3);
    bool ok = line.size == BASE64_SIZE((size_t)DIGEST_SIZE) &&
              base64_decode(line, false, &data) == ERR_OK && data.size == DIGEST_SIZE;
    if (ok) {
        memcpy(out->bytes, data.data, DIGEST_SIZE);
    }
    buf_deinit(&data);
    return ok;
}

enum err lines_put_hash(const struct digest *hash, struct buf *out)
{
    (void)base64_encode(digest_bytes(hash), out);
    return buf_append_text(out, "\n");
}
