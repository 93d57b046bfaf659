/* json.c - reading; see json.h. struct json is jansson's json_t under another name: a node pointer
 * is only ever cast, never looked into, so no third-party type leaves this room. */
#include "shared/json/json.h"

#include <string.h>

#include <jansson.h>

#include "shared/base/check.h"
#include "shared/base/utf8.h"

static const json_t *inside(const struct json *node)
{
    return (const json_t *)(const void *)node;
}

static const struct json *outside(const json_t *node)
{
    return (const struct json *)(const void *)node;
}

/* Nesting outside of text, before jansson recurses. Bad JSON may be miscounted: it is refused later. */
static uint32_t depth_of(struct bytes text)
{
    uint32_t depth = 0;
    uint32_t deepest = 0;
    bool in_text = false;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (in_text) {
            i += c == '\\' ? 1 : 0;
            in_text = c != '"';
        } else if (c == '"') {
            in_text = true;
        } else if (c == '{' || c == '[') {
            depth++;
            deepest = depth > deepest ? depth : deepest;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return deepest;
}

enum err json_parse(struct bytes text, size_t size_max, struct json **out_root, struct note *note)
{
    CHECK(size_max <= JSON_SIZE_MAX);
    if (text.size > size_max) {
        return note_set(note, ERR_LIMIT, "JSON text has %zu bytes, the limit is %zu", text.size,
                        size_max);
    }
    if (depth_of(text) > JSON_DEPTH_MAX) {
        return note_set(note, ERR_LIMIT, "JSON text is nested deeper than %d", JSON_DEPTH_MAX);
    }
    if (!utf8_valid(text)) {
        return note_set(note, ERR_INVALID, "JSON text is not UTF-8");
    }
    json_error_t error;
    const char *start = text.size == 0 ? "" : (const char *)text.data;
    json_t *root = json_loadb(start, text.size, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        return note_set(note, ERR_INVALID, "not JSON: line %d column %d: %s", error.line,
                        error.column, error.text);
    }
    *out_root = (struct json *)(void *)root;
    return ERR_OK;
}

void json_destroy(struct json *root)
{
    json_decref((json_t *)(void *)root);
}

enum json_kind json_kind(const struct json *node)
{
    switch (json_typeof(inside(node))) {
    case JSON_OBJECT:
        return JSON_KIND_OBJECT;
    case JSON_ARRAY:
        return JSON_KIND_ARRAY;
    case JSON_STRING:
        return JSON_KIND_TEXT;
    case JSON_INTEGER:
        return JSON_KIND_INTEGER;
    case JSON_REAL:
        return JSON_KIND_REAL;
    case JSON_TRUE:
    case JSON_FALSE:
        return JSON_KIND_BOOL;
    case JSON_NULL:
        break;
    }
    return JSON_KIND_NULL;
}

size_t json_count(const struct json *node)
{
    return json_is_object(inside(node)) ? json_object_size(inside(node))
                                        : json_array_size(inside(node));
}

const struct json *json_item(const struct json *array, size_t index)
{
    return outside(json_array_get(inside(array), index));
}

const struct json *json_member(const struct json *object, const char *key)
{
    return outside(json_object_get(inside(object), key));
}

enum err json_each_member(const struct json *object,
                          enum err (*visit)(void *argument, const char *key,
                                            const struct json *value),
                          void *argument)
{
    json_t *node = (json_t *)(uintptr_t)object; /* jansson's iterators are not const */
    for (void *at = json_object_iter(node); at != NULL; at = json_object_iter_next(node, at)) {
        enum err err =
            visit(argument, json_object_iter_key(at), outside(json_object_iter_value(at)));
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

const char *json_as_text(const struct json *node, const char *fallback)
{
    return node != NULL && json_is_string(inside(node)) ? json_string_value(inside(node))
                                                        : fallback;
}

int64_t json_as_i64(const struct json *node, int64_t fallback)
{
    return node != NULL && json_is_integer(inside(node)) ? json_integer_value(inside(node))
                                                         : fallback;
}

double json_as_double(const struct json *node, double fallback)
{
    return node != NULL && json_is_number(inside(node)) ? json_number_value(inside(node))
                                                        : fallback;
}

bool json_as_bool(const struct json *node, bool fallback)
{
    return node != NULL && json_is_boolean(inside(node)) ? json_is_true(inside(node)) : fallback;
}

/* --- members with a check --- */

static enum err refuse(struct note *note, const char *key, const struct json *value,
                       const char *want)
{
    return value == NULL
               ? note_set(note, ERR_INVALID, "\"%.80s\" is missing, must be %s", key, want)
               : note_set(note, ERR_INVALID, "\"%.80s\" must be %s", key, want);
}

/* A null member counts as missing. */
static const struct json *present(const struct json *object, const char *key)
{
    const struct json *value = json_member(object, key);
    return value == NULL || json_kind(value) == JSON_KIND_NULL ? NULL : value;
}

/* For each type: json_get_X and json_opt_X. VALID and VALUE read the node `value`.
 * NOLINTBEGIN(bugprone-macro-parentheses): a type */
#define GETTERS(name, type, want, valid, read)                                                     \
    enum err json_get_##name(const struct json *object, const char *key, type *out,                \
                             struct note *note)                                                    \
    {                                                                                              \
        const struct json *value = present(object, key);                                           \
        if (value == NULL || !(valid)) {                                                           \
            return refuse(note, key, value, want);                                                 \
        }                                                                                          \
        *out = read;                                                                               \
        return ERR_OK;                                                                             \
    }                                                                                              \
    enum err json_opt_##name(const struct json *object, const char *key, type *out,                \
                             struct note *note)                                                    \
    {                                                                                              \
        return present(object, key) == NULL ? ERR_OK : json_get_##name(object, key, out, note);    \
    }
/* NOLINTEND(bugprone-macro-parentheses) */

GETTERS(text, const char *, "text", json_kind(value) == JSON_KIND_TEXT, json_as_text(value, ""))
GETTERS(u64, uint64_t, "a whole number from 0 up",
        json_kind(value) == JSON_KIND_INTEGER && json_as_i64(value, -1) >= 0,
        (uint64_t)json_as_i64(value, 0))
GETTERS(i64, int64_t, "a whole number", json_kind(value) == JSON_KIND_INTEGER,
        json_as_i64(value, 0))
GETTERS(double, double, "a number",
        json_kind(value) == JSON_KIND_INTEGER || json_kind(value) == JSON_KIND_REAL,
        json_as_double(value, 0))
GETTERS(bool, bool, "true or false", json_kind(value) == JSON_KIND_BOOL, json_as_bool(value, false))
GETTERS(array, const struct json *, "an array", json_kind(value) == JSON_KIND_ARRAY, value)
GETTERS(object, const struct json *, "an object", json_kind(value) == JSON_KIND_OBJECT, value)
