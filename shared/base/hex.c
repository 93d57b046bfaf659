/* hex.c - see hex.h. */
#include "shared/base/hex.h"

char *hex_encode(const void *data, size_t size, char *out)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++) {
        out[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    out[2 * size] = '\0';
    return out;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

enum err hex_decode(const char *text, size_t text_size, void *out, size_t out_size)
{
    if (text_size % 2 != 0 || text_size / 2 != out_size) {
        return ERR_INVALID;
    }
    for (size_t i = 0; i < text_size; i++) {
        if (digit_of(text[i]) < 0) {
            return ERR_INVALID;
        }
    }
    uint8_t *bytes = out;
    for (size_t i = 0; i < out_size; i++) {
        bytes[i] = (uint8_t)(digit_of(text[2 * i]) * 16 + digit_of(text[2 * i + 1]));
    }
    return ERR_OK;
}
