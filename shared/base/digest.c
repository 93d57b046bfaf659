/* digest.c - see digest.h. */
#include "shared/base/digest.h"

#include <string.h>

#include "shared/base/hex.h"

enum { PREFIX_SIZE = sizeof DIGEST_PREFIX - 1 };

int digest_compare(const struct digest *a, const struct digest *b)
{
    return memcmp(a->bytes, b->bytes, DIGEST_SIZE);
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
    return digest_compare(a, b) == 0;
}

bool digest_is_zero(const struct digest *digest)
{
    static const struct digest ZERO;
    return digest_equal(digest, &ZERO);
}

struct bytes digest_bytes(const struct digest *digest)
{
    return bytes_of(digest->bytes, DIGEST_SIZE);
}

const char *digest_format(const struct digest *digest, char out[DIGEST_TEXT_SIZE])
{
    memcpy(out, DIGEST_PREFIX, PREFIX_SIZE);
    (void)hex_encode(digest->bytes, DIGEST_SIZE, out + PREFIX_SIZE);
    return out;
}

enum err digest_parse(const char *text, struct digest *out_digest)
{
    if (strncmp(text, DIGEST_PREFIX, PREFIX_SIZE) != 0) {
        return ERR_INVALID;
    }
    const char *digits = text + PREFIX_SIZE;
    return hex_decode(digits, strlen(digits), out_digest->bytes, DIGEST_SIZE);
}

enum err digest_from_bytes(struct bytes bytes, struct digest *out_digest)
{
    if (bytes.size != DIGEST_SIZE) {
        return ERR_INVALID;
    }
    memcpy(out_digest->bytes, bytes.data, DIGEST_SIZE);
    return ERR_OK;
}
