/* message_read.c - a message from JSON; see message.h. One walk over the object's members. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/base64.h"
#include "shared/base/check.h"
#include "shared/json/message.h"
#include "shared/json/message_field.h"

enum { PATH_SIZE = 200 };

struct reading {
    ProtobufCAllocator *allocator; /* NULL: malloc */
    char path[PATH_SIZE];          /* of the field being read */
    struct note *note;
};

static enum err refuse(struct reading *reading, const char *why)
{
    return note_set(reading->note, ERR_INVALID, "%s: %s", reading->path, why);
}

/* Zeroed memory from the message's allocator; NULL when it has none. */
static void *take(struct reading *reading, size_t size)
{
    ProtobufCAllocator *allocator = reading->allocator;
    void *out =
        allocator == NULL ? malloc(size) : allocator->alloc(allocator->allocator_data, size);
    return out == NULL ? NULL : memset(out, 0, size);
}

static enum err no_memory(struct reading *reading)
{
    return note_set(reading->note, reading->allocator == NULL ? ERR_NO_MEMORY : ERR_LIMIT,
                    "%s: no memory left for this message", reading->path);
}

/* Integers: JSON's own, or text of digits. Both bounds inclusive; unsigned types have low 0. */
static enum err read_signed(struct reading *reading, const struct json *node, int64_t low,
                            int64_t high, int64_t *out)
{
    int64_t value = json_as_i64(node, 0);
    if (json_kind(node) == JSON_KIND_TEXT) {
        const char *text = json_as_text(node, "");
        const char *digits = text[0] == '-' ? text + 1 : text;
        char *end = NULL;
        errno = 0;
        value = strtoll(text, &end, 10);
        if (digits[0] < '0' || digits[0] > '9' || *end != '\0' || errno != 0) {
            return refuse(reading, "must be a whole number");
        }
    } else if (json_kind(node) != JSON_KIND_INTEGER) {
        return refuse(reading, "must be a whole number");
    }
    if (value < low || value > high) {
        return refuse(reading, "is out of range");
    }
    *out = value;
    return ERR_OK;
}

static enum err read_unsigned(struct reading *reading, const struct json *node, uint64_t high,
                              uint64_t *out)
{
    if (json_kind(node) == JSON_KIND_TEXT) {
        const char *text = json_as_text(node, "");
        char *end = NULL;
        errno = 0;
        uint64_t value = strtoull(text, &end, 10);
        if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0) {
            return refuse(reading, "must be a whole number from 0 up");
        }
        if (value > high) {
            return refuse(reading, "is out of range");
        }
        *out = value;
        return ERR_OK;
    }
    int64_t value = 0;
    int64_t signed_high = high > INT64_MAX ? INT64_MAX : (int64_t)high;
    enum err err = read_signed(reading, node, 0, signed_high, &value);
    if (err == ERR_OK) {
        *out = (uint64_t)value;
    }
    return err;
}

static enum err read_real(struct reading *reading, const struct json *node, double *out)
{
    const char *text = json_as_text(node, "");
    if (strcmp(text, "NaN") == 0) {
        *out = (double)NAN;
    } else if (strcmp(text, "Infinity") == 0) {
        *out = (double)INFINITY;
    } else if (strcmp(text, "-Infinity") == 0) {
        *out = -(double)INFINITY;
    } else if (json_kind(node) == JSON_KIND_INTEGER || json_kind(node) == JSON_KIND_REAL) {
        *out = json_as_double(node, 0);
    } else {
        return refuse(reading, "must be a number");
    }
    return ERR_OK;
}

static enum err read_enum(struct reading *reading, const struct json *node,
                          const ProtobufCEnumDescriptor *descriptor, int *out)
{
    if (json_kind(node) == JSON_KIND_TEXT) {
        const ProtobufCEnumValue *value =
            protobuf_c_enum_descriptor_get_value_by_name(descriptor, json_as_text(node, ""));
        if (value == NULL) {
            return refuse(reading, "is not a known name");
        }
        *out = value->value;
        return ERR_OK;
    }
    int64_t number = 0;
    enum err err = read_signed(reading, node, INT32_MIN, INT32_MAX, &number);
    if (err == ERR_OK) {
        *out = (int)number; /* proto3 enums are open */
    }
    return err;
}

static enum err read_bytes(struct reading *reading, const struct json *node,
                           ProtobufCBinaryData *out)
{
    const char *text = json_as_text(node, NULL);
    if (text == NULL) {
        return refuse(reading, "must be base64 text");
    }
    struct buf data;
    buf_init(&data, strlen(text));
    enum err err = base64_decode(bytes_of_text(text), true, &data);
    if (err == ERR_INVALID) {
        err = refuse(reading, "is not base64");
    } else if (err == ERR_OK && data.size > 0) {
        uint8_t *copy = take(reading, data.size);
        err = copy == NULL ? no_memory(reading) : ERR_OK;
        if (copy != NULL) {
            memcpy(copy, data.data, data.size);
            *out = (ProtobufCBinaryData){.len = data.size, .data = copy};
        }
    }
    buf_deinit(&data);
    return err;
}

static enum err read_message(struct reading *reading, const struct json *node,
                             const ProtobufCMessageDescriptor *descriptor,
                             ProtobufCMessage **out_message);

/* Reads one value into zeroed memory of message_item_size. On success the message owns what it points to. */
static enum err read_item(struct reading *reading, const struct json *node,
                          const ProtobufCFieldDescriptor *field,
                          void *at) /* NOLINT(misc-no-recursion) */
{
    enum err err = ERR_OK;
    int64_t number = 0;
    uint64_t count = 0;
    double real = 0;
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        err = read_signed(reading, node, INT32_MIN, INT32_MAX, &number);
        *(int32_t *)at = (int32_t)number;
        break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        err = read_signed(reading, node, INT64_MIN, INT64_MAX, (int64_t *)at);
        break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        err = read_unsigned(reading, node, UINT32_MAX, &count);
        *(uint32_t *)at = (uint32_t)count;
        break;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        err = read_unsigned(reading, node, UINT64_MAX, (uint64_t *)at);
        break;
    case PROTOBUF_C_TYPE_FLOAT:
        err = read_real(reading, node, &real);
        *(float *)at = (float)real;
        if (err == ERR_OK && isfinite(real) && !isfinite(*(float *)at)) {
            err = refuse(reading, "is out of range");
        }
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        err = read_real(reading, node, (double *)at);
        break;
    case PROTOBUF_C_TYPE_BOOL:
        if (json_kind(node) != JSON_KIND_BOOL) {
            return refuse(reading, "must be true or false");
        }
        *(protobuf_c_boolean *)at = json_as_bool(node, false);
        break;
    case PROTOBUF_C_TYPE_ENUM:
        err = read_enum(reading, node, field->descriptor, (int *)at);
        break;
    case PROTOBUF_C_TYPE_STRING: {
        const char *text = json_as_text(node, NULL);
        if (text == NULL) {
            return refuse(reading, "must be text");
        }
        char *copy = take(reading, strlen(text) + 1);
        if (copy == NULL) {
            return no_memory(reading);
        }
        memcpy(copy, text, strlen(text) + 1);
        *(char **)at = copy;
        break;
    }
    case PROTOBUF_C_TYPE_BYTES:
        err = read_bytes(reading, node, at);
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        err = read_message(reading, node, field->descriptor, at);
        break;
    }
    return err;
}

static enum err read_repeated(struct reading *reading, const struct json *node,
                              const ProtobufCFieldDescriptor *field, ProtobufCMessage *message)
/* NOLINTNEXTLINE(misc-no-recursion) */
{
    if (json_kind(node) != JSON_KIND_ARRAY) {
        return refuse(reading, "must be an array");
    }
    size_t count = json_count(node);
    if (count > JSON_MESSAGE_ITEMS_MAX) {
        return note_set(reading->note, ERR_LIMIT, "%s has %zu items, the limit is %u",
                        reading->path, count, JSON_MESSAGE_ITEMS_MAX);
    }
    if (count == 0) {
        return ERR_OK;
    }
    uint8_t *items = take(reading, count * message_item_size(field->type));
    if (items == NULL) {
        return no_memory(reading);
    }
    *(void **)((uint8_t *)message + field->offset) = items;
    size_t *read_count = (size_t *)(void *)((uint8_t *)message + field->quantifier_offset);
    size_t path_size = strlen(reading->path);
    enum err err = ERR_OK;
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        const struct json *item = json_item(node, i);
        (void)snprintf(reading->path + path_size, PATH_SIZE - path_size, "[%zu]", i);
        err = read_item(reading, item, field, items + i * message_item_size(field->type));
        *read_count += err == ERR_OK ? 1 : 0;
    }
    reading->path[path_size] = err == ERR_OK ? '\0' : reading->path[path_size];
    return err;
}

struct member_reading {
    struct reading *reading;
    const struct json *object;
    ProtobufCMessage *message;
};

/* The field of that name in either spelling, or NULL. */
static const ProtobufCFieldDescriptor *field_of(const ProtobufCMessageDescriptor *descriptor,
                                                const char *key)
{
    char name[FIELD_NAME_SIZE];
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        if (strcmp(field->name, key) == 0 ||
            strcmp(message_json_name(field->name, name), key) == 0) {
            return field;
        }
    }
    return NULL;
}

static enum err read_field(struct member_reading *at, const ProtobufCFieldDescriptor *field,
                           const struct json *value) /* NOLINT(misc-no-recursion) */
{
    struct reading *reading = at->reading;
    char name[FIELD_NAME_SIZE];
    if (strcmp(message_json_name(field->name, name), field->name) != 0 &&
        json_member(at->object, name) != NULL && json_member(at->object, field->name) != NULL) {
        return refuse(reading, "is given under two names");
    }
    if (json_kind(value) == JSON_KIND_NULL) {
        return ERR_OK;
    }
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        return read_repeated(reading, value, field, at->message);
    }
    uint8_t *base = (uint8_t *)at->message;
    uint32_t *chosen = NULL;
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        chosen = (uint32_t *)(void *)(base + field->quantifier_offset);
        if (*chosen != 0) {
            return refuse(reading, "only one of its kind is allowed");
        }
    }
    union { /* what any single item needs */
        uint64_t number;
        void *pointer;
        ProtobufCBinaryData data;
    } item = {.data = {0}};
    enum err err = read_item(reading, value, field, &item);
    if (err != ERR_OK) {
        return err;
    }
    memcpy(base + field->offset, &item, message_item_size(field->type));
    if (chosen != NULL) {
        *chosen = field->id;
    } else if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->quantifier_offset != 0) {
        *(protobuf_c_boolean *)(base + field->quantifier_offset) = 1;
    }
    return ERR_OK;
}

static enum err visit_member(void *argument, const char *key,
                             const struct json *value) /* NOLINT(misc-no-recursion) */
{
    struct member_reading *at = argument;
    struct reading *reading = at->reading;
    size_t path_size = strlen(reading->path);
    (void)snprintf(reading->path + path_size, PATH_SIZE - path_size, "%s%s",
                   path_size > 0 ? "." : "", key);
    const ProtobufCFieldDescriptor *field = field_of(at->message->descriptor, key);
    enum err err = field == NULL ? refuse(reading, "no such field") : read_field(at, field, value);
    if (err == ERR_OK) {
        reading->path[path_size] = '\0';
    }
    return err;
}

static enum err read_message(struct reading *reading, const struct json *node,
                             const ProtobufCMessageDescriptor *descriptor,
                             ProtobufCMessage **out_message) /* NOLINT(misc-no-recursion) */
{
    if (json_kind(node) != JSON_KIND_OBJECT) {
        return reading->path[0] == '\0'
                   ? note_set(reading->note, ERR_INVALID, "%s must be a JSON object",
                              descriptor->short_name)
                   : refuse(reading, "must be an object");
    }
    ProtobufCMessage *message = take(reading, descriptor->sizeof_message);
    if (message == NULL) {
        return no_memory(reading);
    }
    protobuf_c_message_init(descriptor, message);
    struct member_reading at = {.reading = reading, .object = node, .message = message};
    enum err err = json_each_member(node, visit_member, &at);
    if (err != ERR_OK) {
        protobuf_c_message_free_unpacked(message, reading->allocator);
        return err;
    }
    *out_message = message;
    return ERR_OK;
}

enum err json_node_to_message(const struct json *node, const ProtobufCMessageDescriptor *descriptor,
                              ProtobufCAllocator *allocator, ProtobufCMessage **out_message,
                              struct note *note)
{
    struct reading reading = {.allocator = allocator, .note = note};
    return read_message(&reading, node, descriptor, out_message);
}

enum err json_to_message(struct bytes text, size_t size_max,
                         const ProtobufCMessageDescriptor *descriptor,
                         ProtobufCAllocator *allocator, ProtobufCMessage **out_message,
                         struct note *note)
{
    struct json *root = NULL;
    enum err err = json_parse(text, size_max, &root, note);
    if (err == ERR_OK) {
        err = json_node_to_message(root, descriptor, allocator, out_message, note);
        json_destroy(root);
    }
    return err;
}
