/* base64.c - see base64.h. */
#include "shared/base/base64.h"

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

enum err base64_encode(struct bytes data, struct buf *out)
{
    if (data.size > SIZE_MAX / 2) {
        out->err = out->err == ERR_OK ? ERR_LIMIT : out->err;
        return out->err;
    }
    uint8_t *at = buf_reserve(out, BASE64_SIZE(data.size));
    if (at == NULL) {
        return out->err;
    }
    for (size_t i = 0; i < data.size; i += 3) {
        size_t left = data.size - i;
        uint32_t group = (uint32_t)data.data[i] << 16;
        group |= left > 1 ? (uint32_t)data.data[i + 1] << 8 : 0;
        group |= left > 2 ? (uint32_t)data.data[i + 2] : 0;
        *at++ = (uint8_t)ALPHABET[group >> 18];
        *at++ = (uint8_t)ALPHABET[group >> 12 & 63];
        *at++ = left > 1 ? (uint8_t)ALPHABET[group >> 6 & 63] : '=';
        *at++ = left > 2 ? (uint8_t)ALPHABET[group & 63] : '=';
    }
    buf_commit(out, BASE64_SIZE(data.size));
    return ERR_OK;
}

static int value_of(uint8_t c, bool lenient)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    if (c == '+' || (lenient && c == '-')) {
        return 62;
    }
    return c == '/' || (lenient && c == '_') ? 63 : -1;
}

enum err base64_decode(struct bytes text, bool lenient, struct buf *out)
{
    size_t size = text.size;
    if (size % 4 == 0) {
        for (int i = 0; i < 2 && size > 0 && text.data[size - 1] == '='; i++) {
            size--;
        }
    } else if (!lenient || size % 4 == 1) {
        return ERR_INVALID;
    }
    if (size % 4 == 1) {
        return ERR_INVALID;
    }
    uint32_t group = 0;
    for (size_t i = 0; i < size; i++) {
        int value = value_of(text.data[i], lenient);
        if (value < 0) {
            return ERR_INVALID;
        }
        group = group << 6 | (uint32_t)value;
    }
    uint32_t unused = size % 4 == 2 ? 15 : size % 4 == 3 ? 3 : 0; /* bits of the last character */
    if ((group & unused) != 0 && !lenient) {
        return ERR_INVALID;
    }
    size_t out_size = size / 4 * 3 + (size % 4 > 0 ? size % 4 - 1 : 0);
    uint8_t *at = buf_reserve(out, out_size);
    if (at == NULL) {
        return out->err;
    }
    uint32_t bits = 0;
    uint32_t bit_count = 0;
    for (size_t i = 0; i < size; i++) {
        bits = bits << 6 | (uint32_t)value_of(text.data[i], lenient);
        bit_count += 6;
        if (bit_count >= 8) {
            bit_count -= 8;
            *at++ = (uint8_t)(bits >> bit_count);
        }
    }
    buf_commit(out, out_size);
    return ERR_OK;
}
