/* message.h - proto3 JSON for any protobuf-c message, by reflection over its descriptor.
 *
 * Written: lowerCamelCase names in field order, 64-bit integers as strings, bytes as base64, enums
 * by name, fields that hold their default left out (unless asked for). Read: lowerCamelCase and
 * original names, integers as numbers or strings, enums by name or number, null as absent; an
 * unknown or repeated field, a value of the wrong kind or range, two members of a oneof are refused
 * with the path of the field ("body.transfer.amount"). Maps and google.protobuf well-known types
 * have no special form. */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/json/json.h"

#define JSON_MESSAGE_ITEMS_MAX (1U << 20) /* items of one repeated field */

enum json_message_flags {
    JSON_MESSAGE_PRETTY = 1,   /* indented, for people */
    JSON_MESSAGE_DEFAULTS = 2, /* also fields that are zero or empty */
};

/* Appends the message. Errors: as buf. */
MUST_USE enum err json_from_message(const ProtobufCMessage *message, unsigned flags,
                                    struct buf *out, struct note *note);

/* As a value inside a larger document. */
void json_write_message(struct json_writer *writer, const ProtobufCMessage *message,
                        unsigned flags);

/* Parses text (at most size_max bytes) into a message made by allocator (NULL: malloc); free it with
 * protobuf_c_message_free_unpacked(message, allocator). Nothing is left behind on an error. */
MUST_USE enum err json_to_message(struct bytes text, size_t size_max,
                                  const ProtobufCMessageDescriptor *descriptor,
                                  ProtobufCAllocator *allocator, ProtobufCMessage **out_message,
                                  struct note *note);

/* The same from a parsed node. */
MUST_USE enum err json_node_to_message(const struct json *node,
                                       const ProtobufCMessageDescriptor *descriptor,
                                       ProtobufCAllocator *allocator,
                                       ProtobufCMessage **out_message, struct note *note);
