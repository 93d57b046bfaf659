/* message_field.h - what both directions of message.h know about a field. Private to this room. */
#pragma once

#include <protobuf-c/protobuf-c.h>

enum { FIELD_NAME_SIZE = 128 }; /* of a lowerCamelCase name with its NUL */

/* foo_bar_1 becomes fooBar1, as protoc's json_name does. Returns out. */
const char *message_json_name(const char *name, char out[FIELD_NAME_SIZE]);

/* Bytes of one value of this type inside a message struct or a repeated field's array. */
size_t message_item_size(ProtobufCType type);
