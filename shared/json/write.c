/* write.c - the writer of json.h: our own, so that the bytes do not depend on a library's version. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/base/utf8.h"
#include "shared/json/json.h"

enum { DEPTH_LIMIT = 63 }; /* bits of has_items */

void json_writer_init(struct json_writer *writer, struct buf *out, bool pretty)
{
    *writer = (struct json_writer){.out = out, .pretty = pretty};
}

static void newline(struct json_writer *writer)
{
    if (writer->pretty) {
        (void)buf_printf(writer->out, "\n%*s", (int)writer->depth * 2, "");
    }
}

/* What stands before a value or a key: a comma, a line break, or nothing after a key. */
static void before(struct json_writer *writer)
{
    if (writer->after_key) {
        writer->after_key = false;
        return;
    }
    uint64_t bit = UINT64_C(1) << writer->depth;
    if ((writer->has_items & bit) != 0) {
        (void)buf_append_byte(writer->out, ',');
    }
    writer->has_items |= bit;
    if (writer->depth > 0) {
        newline(writer);
    }
}

static void begin(struct json_writer *writer, uint8_t bracket)
{
    before(writer);
    CHECK(writer->depth < DEPTH_LIMIT);
    (void)buf_append_byte(writer->out, bracket);
    writer->depth++;
    writer->has_items &= ~(UINT64_C(1) << writer->depth);
}

static void end(struct json_writer *writer, uint8_t bracket)
{
    CHECK(writer->depth > 0);
    CHECK(!writer->after_key);
    bool empty = (writer->has_items & UINT64_C(1) << writer->depth) == 0;
    writer->depth--;
    if (!empty) {
        newline(writer);
    }
    (void)buf_append_byte(writer->out, bracket);
}

void json_begin_object(struct json_writer *writer)
{
    begin(writer, '{');
}

void json_end_object(struct json_writer *writer)
{
    end(writer, '}');
}

void json_begin_array(struct json_writer *writer)
{
    begin(writer, '[');
}

void json_end_array(struct json_writer *writer)
{
    end(writer, ']');
}

static void append_text(struct buf *out, struct bytes text)
{
    (void)buf_append_byte(out, '"');
    for (size_t i = 0; i < text.size;) {
        uint8_t c = text.data[i];
        size_t size = utf8_char_size(bytes_of(text.data + i, text.size - i));
        if (c == '"' || c == '\\') {
            (void)buf_append_byte(out, '\\');
            (void)buf_append_byte(out, c);
        } else if (c == '\n') {
            (void)buf_append_text(out, "\\n");
        } else if (c == '\r') {
            (void)buf_append_text(out, "\\r");
        } else if (c == '\t') {
            (void)buf_append_text(out, "\\t");
        } else if (c < 0x20 || c == 0x7f) {
            (void)buf_printf(out, "\\u%04x", c);
        } else if (size == 0) {
            (void)buf_append_text(out, "\xef\xbf\xbd");
            size = 1;
        } else {
            (void)buf_append(out, text.data + i, size);
        }
        i += size;
    }
    (void)buf_append_byte(out, '"');
}

void json_write_key(struct json_writer *writer, const char *key)
{
    CHECK(!writer->after_key);
    CHECK(writer->depth > 0);
    before(writer);
    append_text(writer->out, bytes_of_text(key));
    (void)buf_append_text(writer->out, writer->pretty ? ": " : ":");
    writer->after_key = true;
}

void json_write_text_bytes(struct json_writer *writer, struct bytes text)
{
    before(writer);
    append_text(writer->out, text);
}

void json_write_raw(struct json_writer *writer, struct bytes json)
{
    before(writer);
    (void)buf_append_bytes(writer->out, json);
}

static void write_word(struct json_writer *writer, const char *word)
{
    json_write_raw(writer, bytes_of_text(word));
}

void json_write_text(struct json_writer *writer, const char *text)
{
    if (text == NULL) {
        json_write_null(writer);
    } else {
        json_write_text_bytes(writer, bytes_of_text(text));
    }
}

void json_write_u64(struct json_writer *writer, uint64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRIu64, value);
    write_word(writer, text);
}

void json_write_i64(struct json_writer *writer, int64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRId64, value);
    write_word(writer, text);
}

void json_write_double(struct json_writer *writer, double value)
{
    char text[40];
    if (!isfinite(value)) {
        json_write_null(writer);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
    write_word(writer, text);
}

void json_write_bool(struct json_writer *writer, bool value)
{
    write_word(writer, value ? "true" : "false");
}

void json_write_null(struct json_writer *writer)
{
    write_word(writer, "null");
}

void json_put_text(struct json_writer *writer, const char *key, const char *text)
{
    json_write_key(writer, key);
    json_write_text(writer, text);
}

void json_put_u64(struct json_writer *writer, const char *key, uint64_t value)
{
    json_write_key(writer, key);
    json_write_u64(writer, value);
}

void json_put_i64(struct json_writer *writer, const char *key, int64_t value)
{
    json_write_key(writer, key);
    json_write_i64(writer, value);
}

void json_put_double(struct json_writer *writer, const char *key, double value)
{
    json_write_key(writer, key);
    json_write_double(writer, value);
}

void json_put_bool(struct json_writer *writer, const char *key, bool value)
{
    json_write_key(writer, key);
    json_write_bool(writer, value);
}

static enum err write_member(void *argument, const char *key, const struct json *value)
{
    struct json_writer *writer = argument;
    json_write_key(writer, key);
    json_write_node(writer, value);
    return ERR_OK;
}

/* Recursion is bounded: json_parse lets nothing deeper than JSON_DEPTH_MAX in. */
void json_write_node(struct json_writer *writer, const struct json *node) /* NOLINT */
{
    switch (json_kind(node)) {
    case JSON_KIND_NULL:
        json_write_null(writer);
        break;
    case JSON_KIND_BOOL:
        json_write_bool(writer, json_as_bool(node, false));
        break;
    case JSON_KIND_INTEGER:
        json_write_i64(writer, json_as_i64(node, 0));
        break;
    case JSON_KIND_REAL:
        json_write_double(writer, json_as_double(node, 0));
        break;
    case JSON_KIND_TEXT:
        json_write_text(writer, json_as_text(node, ""));
        break;
    case JSON_KIND_ARRAY:
        json_begin_array(writer);
        for (size_t i = 0; i < json_count(node); i++) {
            json_write_node(writer, json_item(node, i));
        }
        json_end_array(writer);
        break;
    case JSON_KIND_OBJECT: {
        json_begin_object(writer);
        enum err err = json_each_member(node, write_member, writer);
        CHECK(err == ERR_OK);
        json_end_object(writer);
        break;
    }
    }
}
