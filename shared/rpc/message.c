/* message.c - messages in arenas, and the small text codecs of the transports. */
#include <string.h>

#include "shared/base/check.h"
#include "shared/base/utf8.h"
#include "shared/json/message.h"
#include "shared/rpc/internal.h"

static void *arena_allocate(void *data, size_t size)
{
    return arena_alloc(data, size);
}

static void arena_free(void *data, void *pointer)
{
    (void)data;
    (void)pointer;
}

ProtobufCAllocator rpc_allocator(struct arena *arena)
{
    return (ProtobufCAllocator){
        .alloc = arena_allocate, .free = arena_free, .allocator_data = arena};
}

static bool strings_valid(const ProtobufCMessage *message);

/* NOLINTNEXTLINE(misc-no-recursion): a message nests as deep as protobuf-c could unpack */
static bool field_valid(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const uint8_t *base = (const uint8_t *)message;
    if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE) {
        return true;
    }
    size_t count = 1;
    const void *member = base + field->offset;
    const void *const *items = member;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        memcpy(&count, base + field->quantifier_offset, sizeof count);
        memcpy(&items, member, sizeof items);
    } else if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        uint32_t which;
        memcpy(&which, base + field->quantifier_offset, sizeof which);
        count = which == field->id ? 1 : 0;
    }
    for (size_t i = 0; i < count; i++) {
        if (items[i] != NULL &&
            (field->type == PROTOBUF_C_TYPE_STRING ? !utf8_valid(bytes_of_text(items[i]))
                                                   : !strings_valid(items[i]))) {
            return false;
        }
    }
    return true;
}

/* NOLINTNEXTLINE(misc-no-recursion): as field_valid */
static bool strings_valid(const ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        if (!field_valid(message, &message->descriptor->fields[i])) {
            return false;
        }
    }
    return true;
}

enum err rpc_decode(const ProtobufCMessageDescriptor *descriptor, struct bytes data,
                    struct arena *arena, ProtobufCMessage **out_message, struct note *note)
{
    if (data.size > RPC_MESSAGE_MAX) {
        return note_set(note, ERR_LIMIT, "%s of %zu bytes: the limit is %u", descriptor->short_name,
                        data.size, RPC_MESSAGE_MAX);
    }
    ProtobufCAllocator allocator = rpc_allocator(arena);
    ProtobufCMessage *message =
        protobuf_c_message_unpack(descriptor, &allocator, data.size, data.data);
    if (message == NULL) {
        return note_set(note, ERR_INVALID, "not a well-formed %s", descriptor->short_name);
    }
    if (!strings_valid(message)) {
        return note_set(note, ERR_INVALID, "%s has a string that is not UTF-8",
                        descriptor->short_name);
    }
    *out_message = message;
    return ERR_OK;
}

enum err rpc_encode(const ProtobufCMessage *message, struct arena *arena, struct bytes *out_data)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    if (size > RPC_MESSAGE_MAX) {
        return ERR_LIMIT;
    }
    uint8_t *data = arena_alloc(arena, size);
    if (data == NULL) {
        return ERR_LIMIT;
    }
    CHECK(protobuf_c_message_pack(message, data) == size);
    *out_data = (struct bytes){.data = data, .size = size};
    return ERR_OK;
}

enum err rpc_json_to_bytes(const ProtobufCMessageDescriptor *descriptor, struct bytes json,
                           struct arena *arena, struct bytes *out_data, struct note *note)
{
    ProtobufCAllocator allocator = rpc_allocator(arena);
    ProtobufCMessage *message = NULL;
    enum err err =
        json_to_message(json, 2UL * RPC_MESSAGE_MAX, descriptor, &allocator, &message, note);
    return err == ERR_OK ? rpc_encode(message, arena, out_data) : err;
}

enum err rpc_bytes_to_json(const ProtobufCMessageDescriptor *descriptor, struct bytes data,
                           struct arena *arena, struct buf *out)
{
    ProtobufCMessage *message = NULL;
    enum err err = rpc_decode(descriptor, data, arena, &message, NULL);
    return err == ERR_OK ? json_from_message(message, 0, out, NULL) : err;
}

void rpc_percent_encode(const char *text, char *out, size_t out_size)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t used = 0;
    for (const uint8_t *at = (const uint8_t *)text; *at != 0; at++) {
        bool plain = *at >= 0x20 && *at <= 0x7e && *at != '%';
        if (used + (plain ? 1 : 3) >= out_size) {
            break;
        }
        if (plain) {
            out[used++] = (char)*at;
        } else {
            out[used++] = '%';
            out[used++] = digits[*at >> 4];
            out[used++] = digits[*at & 15];
        }
    }
    out[used] = '\0';
}

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

void rpc_percent_decode(const char *text, char *out, size_t out_size)
{
    size_t used = 0;
    for (; *text != '\0' && used + 1 < out_size; text++) {
        if (text[0] == '%' && hex(text[1]) >= 0 && hex(text[2]) >= 0) {
            out[used++] = (char)(hex(text[1]) * 16 + hex(text[2]));
            text += 2;
        } else {
            out[used++] = *text;
        }
    }
    out[used] = '\0';
}

enum err rpc_parse_grpc_timeout(const char *text, uint32_t *out_ms)
{
    uint64_t value = 0;
    size_t digits = 0;
    for (; *text >= '0' && *text <= '9'; text++) {
        value = value * 10 + (uint64_t)(*text - '0');
        if (++digits > 8) {
            return ERR_INVALID;
        }
    }
    if (digits == 0 || text[0] == '\0' || text[1] != '\0') {
        return ERR_INVALID;
    }
    uint64_t ms;
    switch (text[0]) {
    case 'H':
        ms = value * 3600000;
        break;
    case 'M':
        ms = value * 60000;
        break;
    case 'S':
        ms = value * 1000;
        break;
    case 'm':
        ms = value;
        break;
    case 'u':
        ms = value / 1000;
        break;
    case 'n':
        ms = value / 1000000;
        break;
    default:
        return ERR_INVALID;
    }
    ms = ms == 0 ? 1 : ms;
    *out_ms = ms > RPC_DEADLINE_MAX_MS ? RPC_DEADLINE_MAX_MS : (uint32_t)ms;
    return ERR_OK;
}

enum err rpc_parse_frame(struct bytes *in, uint8_t *out_flags, struct bytes *out_message,
                         struct note *note)
{
    struct bytes rest = *in;
    uint8_t flags = 0;
    uint32_t size = 0;
    struct bytes message = {0};
    if (bytes_take_u8(&rest, &flags) != ERR_OK || bytes_take_u32be(&rest, &size) != ERR_OK) {
        return note_set(note, ERR_INVALID, "message frame of %zu bytes is cut off", in->size);
    }
    if (size > RPC_MESSAGE_MAX) {
        return note_set(note, ERR_LIMIT, "message of %u bytes: the limit is %u", (unsigned)size,
                        RPC_MESSAGE_MAX);
    }
    if (bytes_take(&rest, size, &message) != ERR_OK) {
        return note_set(note, ERR_INVALID, "message frame says %u bytes, %zu are there",
                        (unsigned)size, rest.size);
    }
    *in = rest;
    *out_flags = flags;
    *out_message = message;
    return ERR_OK;
}
