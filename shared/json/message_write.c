/* message_write.c - a message as JSON; see message.h. One walk over the descriptor's fields. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/base64.h"
#include "shared/base/check.h"
#include "shared/json/message.h"
#include "shared/json/message_field.h"

const char *message_json_name(const char *name, char out[FIELD_NAME_SIZE])
{
    size_t size = 0;
    bool upper = false;
    for (; *name != '\0'; name++) {
        if (*name == '_') {
            upper = true;
            continue;
        }
        CHECK(size + 1 < FIELD_NAME_SIZE);
        out[size++] = upper && *name >= 'a' && *name <= 'z' ? (char)(*name - 'a' + 'A') : *name;
        upper = false;
    }
    out[size] = '\0';
    return out;
}

size_t message_item_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        return sizeof(uint32_t);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return sizeof(uint64_t);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    }
    CHECK(false);
    return 0;
}

static const void *member_of(const ProtobufCMessage *message, size_t offset)
{
    return (const uint8_t *)message + offset;
}

static void write_real(struct json_writer *writer, double value, bool single)
{
    char text[40];
    if (!isfinite(value)) {
        json_write_text(writer, isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
    } else if (single) {
        for (int digits = 6; digits <= 9; digits++) {
            (void)snprintf(text, sizeof text, "%.*g", digits, value);
            if (strtof(text, NULL) == (float)value) {
                break;
            }
        }
        json_write_raw(writer, bytes_of_text(text));
    } else {
        json_write_double(writer, value);
    }
}

static void write_enum(struct json_writer *writer, const ProtobufCEnumDescriptor *descriptor,
                       int number)
{
    const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(descriptor, number);
    if (value != NULL) {
        json_write_text(writer, value->name);
    } else {
        json_write_i64(writer, number);
    }
}

static void write_base64(struct json_writer *writer, const ProtobufCBinaryData *data)
{
    struct buf text;
    buf_init(&text, BASE64_SIZE(data->len));
    enum err err = base64_encode(bytes_of(data->data, data->len), &text);
    if (err == ERR_OK) {
        json_write_text_bytes(writer, buf_bytes(&text));
    } else if (writer->out->err == ERR_OK) {
        writer->out->err = err;
    }
    buf_deinit(&text);
}

/* NOLINTNEXTLINE(misc-no-recursion): JSON_DEPTH_MAX */
static void write_item(struct json_writer *writer, const ProtobufCFieldDescriptor *field,
                       const void *at, unsigned flags)
{
    char text[24];
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        json_write_i64(writer, *(const int32_t *)at);
        break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        json_write_u64(writer, *(const uint32_t *)at);
        break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        (void)snprintf(text, sizeof text, "%lld", (long long)*(const int64_t *)at);
        json_write_text(writer, text);
        break;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        (void)snprintf(text, sizeof text, "%llu", (unsigned long long)*(const uint64_t *)at);
        json_write_text(writer, text);
        break;
    case PROTOBUF_C_TYPE_FLOAT:
        write_real(writer, (double)*(const float *)at, true);
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        write_real(writer, *(const double *)at, false);
        break;
    case PROTOBUF_C_TYPE_BOOL:
        json_write_bool(writer, *(const protobuf_c_boolean *)at != 0);
        break;
    case PROTOBUF_C_TYPE_ENUM:
        write_enum(writer, field->descriptor, *(const int *)at);
        break;
    case PROTOBUF_C_TYPE_STRING: {
        const char *value = *(const char *const *)at;
        json_write_text(writer, value == NULL ? "" : value);
        break;
    }
    case PROTOBUF_C_TYPE_BYTES:
        write_base64(writer, at);
        break;
    case PROTOBUF_C_TYPE_MESSAGE: {
        const ProtobufCMessage *value = *(const ProtobufCMessage *const *)at;
        if (value == NULL) {
            json_write_null(writer);
        } else {
            json_write_message(writer, value, flags);
        }
        break;
    }
    }
}

/* Is a singular field there and worth writing? */
static bool is_set(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                   bool defaults)
{
    const void *at = member_of(message, field->offset);
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        return *(const uint32_t *)member_of(message, field->quantifier_offset) == field->id;
    }
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        return *(const void *const *)at != NULL;
    }
    if (field->label == PROTOBUF_C_LABEL_OPTIONAL) {
        return field->type == PROTOBUF_C_TYPE_STRING
                   ? *(const void *const *)at != NULL &&
                         *(const void *const *)at != field->default_value
                   : *(const protobuf_c_boolean *)member_of(message, field->quantifier_offset) != 0;
    }
    if (defaults || field->label == PROTOBUF_C_LABEL_REQUIRED) {
        return true;
    }
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        const char *text = *(const char *const *)at;
        return text != NULL && text[0] != '\0';
    }
    if (field->type == PROTOBUF_C_TYPE_BYTES) {
        return ((const ProtobufCBinaryData *)at)->len > 0;
    }
    static const uint8_t ZERO[sizeof(uint64_t)];
    return memcmp(at, ZERO, message_item_size(field->type)) != 0;
}

/* NOLINTNEXTLINE(misc-no-recursion): JSON_DEPTH_MAX */
void json_write_message(struct json_writer *writer, const ProtobufCMessage *message, unsigned flags)
{
    if (writer->depth >= JSON_DEPTH_MAX) { /* a recursive type, filled by a peer */
        writer->out->err = writer->out->err == ERR_OK ? ERR_LIMIT : writer->out->err;
        return;
    }
    json_begin_object(writer);
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        bool defaults = (flags & JSON_MESSAGE_DEFAULTS) != 0;
        char name[FIELD_NAME_SIZE];
        if (field->label != PROTOBUF_C_LABEL_REPEATED) {
            if (is_set(message, field, defaults)) {
                json_write_key(writer, message_json_name(field->name, name));
                write_item(writer, field, member_of(message, field->offset), flags);
            }
            continue;
        }
        size_t count = *(const size_t *)member_of(message, field->quantifier_offset);
        if (count == 0 && !defaults) {
            continue;
        }
        const uint8_t *items = *(const uint8_t *const *)member_of(message, field->offset);
        json_write_key(writer, message_json_name(field->name, name));
        json_begin_array(writer);
        for (size_t k = 0; k < count; k++) {
            write_item(writer, field, items + k * message_item_size(field->type), flags);
        }
        json_end_array(writer);
    }
    json_end_object(writer);
}

enum err json_from_message(const ProtobufCMessage *message, unsigned flags, struct buf *out,
                           struct note *note)
{
    struct json_writer writer;
    json_writer_init(&writer, out, (flags & JSON_MESSAGE_PRETTY) != 0);
    json_write_message(&writer, message, flags);
    enum err err = buf_err(out);
    return err == ERR_OK ? ERR_OK
                         : note_set(note, err, "%s as JSON is larger than %zu bytes",
                                    message->descriptor->short_name, out->limit);
}
