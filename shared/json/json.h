/* json.h - JSON behind one door (jansson): parsing with limits, typed access, a writer.
 *
 * Parsing is strict: one value, valid UTF-8, no duplicate keys, no \u0000 in text; integers must fit
 * 64 bits signed (larger numbers travel as strings). Errors name line and column, or the key.
 *
 * Nodes are borrowed from the document that json_parse gives; they live until json_destroy. A
 * document may be read by many threads. Members keep the order of the text. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/err.h"
#include "shared/base/note.h"

#define JSON_SIZE_MAX (64U << 20) /* bytes in one document, unless asked for less */
#define JSON_DEPTH_MAX 48         /* nested objects and arrays */

struct json; /* a node */

enum json_kind {
    JSON_KIND_NULL,
    JSON_KIND_BOOL,
    JSON_KIND_INTEGER,
    JSON_KIND_REAL,
    JSON_KIND_TEXT,
    JSON_KIND_ARRAY,
    JSON_KIND_OBJECT,
};

/* Parses one document of at most size_max bytes (<= JSON_SIZE_MAX). ERR_LIMIT: too large or too
 * deep. ERR_INVALID: not JSON; the note says where. */
MUST_USE enum err json_parse(struct bytes text, size_t size_max, struct json **out_root,
                             struct note *note);
void json_destroy(struct json *root); /* NULL is fine; only for what json_parse gave */

enum json_kind json_kind(const struct json *node);

/* --- any node --- */

size_t json_count(const struct json *node); /* items of an array, members of an object, else 0 */
const struct json *json_item(const struct json *array, size_t index);       /* NULL: none */
const struct json *json_member(const struct json *object, const char *key); /* NULL: none */

/* Calls visit for each member in order; stops at and returns its first error. */
MUST_USE enum err json_each_member(const struct json *object,
                                   enum err (*visit)(void *argument, const char *key,
                                                     const struct json *value),
                                   void *argument);

/* The value itself; fallback when the node is NULL or of another kind. Text is NUL-terminated. */
const char *json_as_text(const struct json *node, const char *fallback);
int64_t json_as_i64(const struct json *node, int64_t fallback);
double json_as_double(const struct json *node, double fallback); /* also of an integer */
bool json_as_bool(const struct json *node, bool fallback);

/* --- members with a check: ERR_INVALID names the key when it is missing or of another kind --- */

MUST_USE enum err json_get_text(const struct json *object, const char *key, const char **out,
                                struct note *note);
MUST_USE enum err json_get_u64(const struct json *object, const char *key, uint64_t *out,
                               struct note *note);
MUST_USE enum err json_get_i64(const struct json *object, const char *key, int64_t *out,
                               struct note *note);
MUST_USE enum err json_get_double(const struct json *object, const char *key, double *out,
                                  struct note *note);
MUST_USE enum err json_get_bool(const struct json *object, const char *key, bool *out,
                                struct note *note);
MUST_USE enum err json_get_array(const struct json *object, const char *key,
                                 const struct json **out, struct note *note);
MUST_USE enum err json_get_object(const struct json *object, const char *key,
                                  const struct json **out, struct note *note);

/* The same, but a missing (or null) member leaves *out as it is and is no error. */
MUST_USE enum err json_opt_text(const struct json *object, const char *key, const char **out,
                                struct note *note);
MUST_USE enum err json_opt_u64(const struct json *object, const char *key, uint64_t *out,
                               struct note *note);
MUST_USE enum err json_opt_i64(const struct json *object, const char *key, int64_t *out,
                               struct note *note);
MUST_USE enum err json_opt_double(const struct json *object, const char *key, double *out,
                                  struct note *note);
MUST_USE enum err json_opt_bool(const struct json *object, const char *key, bool *out,
                                struct note *note);
MUST_USE enum err json_opt_array(const struct json *object, const char *key,
                                 const struct json **out, struct note *note);
MUST_USE enum err json_opt_object(const struct json *object, const char *key,
                                  const struct json **out, struct note *note);

/* Writes a node back, in the writer's form below. */
struct json_writer;
void json_write_node(struct json_writer *writer, const struct json *node);

/* --- writing --- */

/* Appends to a buf whose errors are sticky: write everything, then ask buf_err(out) once. Commas and
 * indentation are the writer's work; unbalanced begin/end CHECKs. Output is deterministic: members in
 * the order written, shortest numbers that read back equal, non-ASCII as UTF-8. */
struct json_writer {
    struct buf *out;
    bool pretty;    /* two blanks per level, one member per line */
    bool after_key; /* the rest is the writer's own */
    uint32_t depth;
    uint64_t has_items; /* bit d: level d already has an item */
};

void json_writer_init(struct json_writer *writer, struct buf *out, bool pretty);

void json_begin_object(struct json_writer *writer);
void json_end_object(struct json_writer *writer);
void json_begin_array(struct json_writer *writer);
void json_end_array(struct json_writer *writer);
void json_write_key(struct json_writer *writer, const char *key);
void json_write_text(struct json_writer *writer, const char *text);        /* NULL writes null */
void json_write_text_bytes(struct json_writer *writer, struct bytes text); /* bad UTF-8: U+FFFD */
void json_write_u64(struct json_writer *writer, uint64_t value);
void json_write_i64(struct json_writer *writer, int64_t value);
void json_write_double(struct json_writer *writer, double value); /* not finite: null */
void json_write_bool(struct json_writer *writer, bool value);
void json_write_null(struct json_writer *writer);
void json_write_raw(struct json_writer *writer, struct bytes json); /* must be one JSON value */

/* Key and value in one call. */
void json_put_text(struct json_writer *writer, const char *key, const char *text);
void json_put_u64(struct json_writer *writer, const char *key, uint64_t value);
void json_put_i64(struct json_writer *writer, const char *key, int64_t value);
void json_put_double(struct json_writer *writer, const char *key, double value);
void json_put_bool(struct json_writer *writer, const char *key, bool value);
