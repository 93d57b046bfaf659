/* buf.h - a growable byte buffer that takes its ceiling at birth, and reading back from bytes.
 *
 * Why: what grows with input must stop somewhere. Past its limit (or out of memory) a buffer keeps
 * what it has, takes nothing more, and remembers the first error: a writer may append twenty things
 * and ask buf_err() once at the end. A partly written buffer can so never pass for a whole one.
 *
 * The bytes are always followed by a NUL that is not counted, so text needs no copy. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"

struct buf {
    uint8_t *data;   /* owned; NULL until the first append */
    size_t size;     /* bytes in use */
    size_t capacity; /* bytes allocated */
    size_t limit;    /* size never exceeds this */
    enum err err;    /* the first failed append, or ERR_OK */
};

/* Starts empty without allocating. limit is in bytes. */
void buf_init(struct buf *buf, size_t limit);
void buf_deinit(struct buf *buf); /* a zeroed buf is fine; leaves it zeroed */
/* As buf_deinit, but wipes the bytes first: for secrets. */
void buf_wipe(struct buf *buf);

/* Forgets contents and error; keeps the memory. */
void buf_clear(struct buf *buf);
/* Cuts back to size bytes (size <= buf->size). */
void buf_truncate(struct buf *buf, size_t size);

/* ERR_OK, or the first error of any append since init or clear. */
MUST_USE enum err buf_err(const struct buf *buf);

/* All appends return ERR_OK, or ERR_LIMIT / ERR_NO_MEMORY, which also stays in buf->err; after an
 * error they do nothing. The result may be ignored where buf_err() is asked later. */
enum err buf_append(struct buf *buf, const void *data, size_t size);
enum err buf_append_bytes(struct buf *buf, struct bytes bytes);
enum err buf_append_text(struct buf *buf, const char *text); /* without its NUL */
enum err buf_append_byte(struct buf *buf, uint8_t byte);
enum err buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
enum err buf_append_u16le(struct buf *buf, uint16_t value);
enum err buf_append_u32le(struct buf *buf, uint32_t value);
enum err buf_append_u64le(struct buf *buf, uint64_t value);
enum err buf_append_u32be(struct buf *buf, uint32_t value);
enum err buf_append_u64be(struct buf *buf, uint64_t value);
enum err buf_append_varint(struct buf *buf, uint64_t value); /* LEB128, as protobuf */

/* Makes room for size more bytes and returns where they go, or NULL (error kept as above). The
 * caller writes up to size bytes there, then buf_commit()s how many. */
MUST_USE uint8_t *buf_reserve(struct buf *buf, size_t size);
void buf_commit(struct buf *buf, size_t size);

/* Borrow: valid until the next append. buf_text is never NULL ("" when empty). */
struct bytes buf_bytes(const struct buf *buf);
const char *buf_text(const struct buf *buf);

/* Moves the bytes (NUL-terminated, free() them) to the caller; the buf becomes empty. NULL when
 * nothing was appended. */
uint8_t *buf_take(struct buf *buf, size_t *out_size);

/* Reading foreign bytes: each takes from the front of *in and moves it forward. ERR_INVALID, with
 * *in and *out untouched, when there is too little (or a varint is longer than 64 bits). */
MUST_USE enum err bytes_take(struct bytes *in, size_t size, struct bytes *out);
MUST_USE enum err bytes_take_copy(struct bytes *in, void *out, size_t size);
MUST_USE enum err bytes_take_u8(struct bytes *in, uint8_t *out);
MUST_USE enum err bytes_take_u16le(struct bytes *in, uint16_t *out);
MUST_USE enum err bytes_take_u32le(struct bytes *in, uint32_t *out);
MUST_USE enum err bytes_take_u64le(struct bytes *in, uint64_t *out);
MUST_USE enum err bytes_take_u32be(struct bytes *in, uint32_t *out);
MUST_USE enum err bytes_take_u64be(struct bytes *in, uint64_t *out);
MUST_USE enum err bytes_take_varint(struct bytes *in, uint64_t *out);
