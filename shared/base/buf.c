/* buf.c - see buf.h. Capacity doubles; one byte beyond it always holds the NUL. */
#include "shared/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"

enum { CAPACITY_FIRST = 256, VARINT_MAX = 10 };

void buf_init(struct buf *buf, size_t limit)
{
    *buf = (struct buf){.limit = limit};
}

void buf_deinit(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){0};
}

void buf_wipe(struct buf *buf)
{
    if (buf->data != NULL) {
        explicit_bzero(buf->data, buf->capacity);
    }
    buf_deinit(buf);
}

void buf_clear(struct buf *buf)
{
    buf->err = ERR_OK;
    buf_truncate(buf, 0);
}

void buf_truncate(struct buf *buf, size_t size)
{
    CHECK(size <= buf->size);
    buf->size = size;
    if (buf->data != NULL) {
        buf->data[size] = 0;
    }
}

enum err buf_err(const struct buf *buf)
{
    return buf->err;
}

static enum err fail(struct buf *buf, enum err err)
{
    if (buf->err == ERR_OK) {
        buf->err = err;
    }
    return buf->err;
}

uint8_t *buf_reserve(struct buf *buf, size_t size)
{
    if (buf->err != ERR_OK) {
        return NULL;
    }
    if (size > buf->limit - buf->size || buf->size + size == SIZE_MAX) {
        (void)fail(buf, ERR_LIMIT);
        return NULL;
    }
    size_t need = buf->size + size;
    if (buf->data == NULL || need > buf->capacity) {
        size_t capacity = buf->capacity < CAPACITY_FIRST ? CAPACITY_FIRST : buf->capacity * 2;
        capacity = capacity > buf->limit ? buf->limit : capacity;
        capacity = capacity < need ? need : capacity;
        uint8_t *data = realloc(buf->data, capacity + 1);
        if (data == NULL) {
            (void)fail(buf, ERR_NO_MEMORY);
            return NULL;
        }
        data[buf->size] = 0;
        buf->data = data;
        buf->capacity = capacity;
    }
    return buf->data + buf->size;
}

void buf_commit(struct buf *buf, size_t size)
{
    CHECK(size <= buf->capacity - buf->size);
    if (buf->data != NULL) {
        buf->size += size;
        buf->data[buf->size] = 0;
    }
}

enum err buf_append(struct buf *buf, const void *data, size_t size)
{
    CHECK(data != NULL || size == 0);
    uint8_t *at = buf_reserve(buf, size);
    if (at == NULL) {
        return buf->err;
    }
    if (size > 0) {
        memcpy(at, data, size);
    }
    buf_commit(buf, size);
    return ERR_OK;
}

enum err buf_append_bytes(struct buf *buf, struct bytes bytes)
{
    return buf_append(buf, bytes.data, bytes.size);
}

enum err buf_append_text(struct buf *buf, const char *text)
{
    return buf_append(buf, text, strlen(text));
}

enum err buf_append_byte(struct buf *buf, uint8_t byte)
{
    return buf_append(buf, &byte, 1);
}

enum err buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHECK(size >= 0);
    uint8_t *at = buf_reserve(buf, (size_t)size);
    if (at == NULL) {
        return buf->err;
    }
    va_start(args, format);
    (void)vsnprintf((char *)at, (size_t)size + 1, format, args);
    va_end(args);
    buf_commit(buf, (size_t)size);
    return ERR_OK;
}

/* Appends the low `size` bytes of value, least significant first, or last when big. */
static enum err append_int(struct buf *buf, uint64_t value, size_t size, bool big)
{
    uint8_t out[8];
    for (size_t i = 0; i < size; i++) {
        out[big ? size - 1 - i : i] = (uint8_t)(value >> (8 * i));
    }
    return buf_append(buf, out, size);
}

enum err buf_append_u16le(struct buf *buf, uint16_t value)
{
    return append_int(buf, value, 2, false);
}

enum err buf_append_u32le(struct buf *buf, uint32_t value)
{
    return append_int(buf, value, 4, false);
}

enum err buf_append_u64le(struct buf *buf, uint64_t value)
{
    return append_int(buf, value, 8, false);
}

enum err buf_append_u32be(struct buf *buf, uint32_t value)
{
    return append_int(buf, value, 4, true);
}

enum err buf_append_u64be(struct buf *buf, uint64_t value)
{
    return append_int(buf, value, 8, true);
}

enum err buf_append_varint(struct buf *buf, uint64_t value)
{
    uint8_t out[VARINT_MAX];
    size_t size = 0;
    for (; value >= 0x80; value >>= 7) {
        out[size++] = (uint8_t)(value | 0x80);
    }
    out[size++] = (uint8_t)value;
    return buf_append(buf, out, size);
}

struct bytes buf_bytes(const struct buf *buf)
{
    return bytes_of(buf->data, buf->size);
}

const char *buf_text(const struct buf *buf)
{
    return buf->data == NULL ? "" : (const char *)buf->data;
}

uint8_t *buf_take(struct buf *buf, size_t *out_size)
{
    uint8_t *data = buf->data;
    *out_size = buf->size;
    *buf = (struct buf){.limit = buf->limit};
    return data;
}

enum err bytes_take(struct bytes *in, size_t size, struct bytes *out)
{
    if (size > in->size) {
        return ERR_INVALID;
    }
    *out = bytes_of(in->data, size);
    if (size > 0) { /* NULL + 0 is undefined */
        *in = bytes_of(in->data + size, in->size - size);
    }
    return ERR_OK;
}

enum err bytes_take_copy(struct bytes *in, void *out, size_t size)
{
    struct bytes part;
    enum err err = bytes_take(in, size, &part);
    if (err == ERR_OK && size > 0) {
        memcpy(out, part.data, size);
    }
    return err;
}

/* Takes an integer of `size` bytes; the callers' casts keep all of it. */
static enum err take_int(struct bytes *in, size_t size, bool big, uint64_t *out)
{
    struct bytes part;
    enum err err = bytes_take(in, size, &part);
    if (err != ERR_OK) {
        return err;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++) {
        value |= (uint64_t)part.data[big ? size - 1 - i : i] << (8 * i);
    }
    *out = value;
    return ERR_OK;
}

/* NOLINTBEGIN(bugprone-macro-parentheses): a type */
#define TAKE_INT(name, type, big)                                                                  \
    enum err name(struct bytes *in, type *out)                                                     \
    {                                                                                              \
        uint64_t value = 0;                                                                        \
        enum err err = take_int(in, sizeof *out, big, &value);                                     \
        if (err == ERR_OK) {                                                                       \
            *out = (type)value;                                                                    \
        }                                                                                          \
        return err;                                                                                \
    }
/* NOLINTEND(bugprone-macro-parentheses) */
TAKE_INT(bytes_take_u8, uint8_t, false)
TAKE_INT(bytes_take_u16le, uint16_t, false)
TAKE_INT(bytes_take_u32le, uint32_t, false)
TAKE_INT(bytes_take_u64le, uint64_t, false)
TAKE_INT(bytes_take_u32be, uint32_t, true)
TAKE_INT(bytes_take_u64be, uint64_t, true)

enum err bytes_take_varint(struct bytes *in, uint64_t *out)
{
    uint64_t value = 0;
    for (size_t i = 0; i < in->size && i < VARINT_MAX; i++) {
        uint8_t byte = in->data[i];
        if (i == VARINT_MAX - 1 && byte > 1) {
            return ERR_INVALID; /* beyond 64 bits */
        }
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if ((byte & 0x80) == 0) {
            *in = bytes_of(in->data + i + 1, in->size - i - 1);
            *out = value;
            return ERR_OK;
        }
    }
    return ERR_INVALID;
}
