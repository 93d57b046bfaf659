/* fuzz_json.c - whatever text becomes a message must become the same message again through JSON and
 * through protobuf bytes. */
#include <stdlib.h>
#include <string.h>

#include "openledger/v1/ledger.pb-c.h"
#include "shared/base/check.h"
#include "shared/json/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size)
{
    const ProtobufCMessageDescriptor *type = &openledger__v1__tx_body__descriptor;
    ProtobufCMessage *message = NULL;
    ProtobufCMessage *again = NULL;
    struct note note;
    struct buf first;
    struct buf second;
    if (json_to_message(bytes_of(data, data_size), 1 << 16, type, NULL, &message, &note) !=
        ERR_OK) {
        return 0;
    }
    buf_init(&first, 1 << 20);
    buf_init(&second, 1 << 20);
    CHECK(json_from_message(message, 0, &first, &note) == ERR_OK);
    CHECK(json_to_message(buf_bytes(&first), 1 << 20, type, NULL, &again, &note) == ERR_OK);
    CHECK(json_from_message(again, 0, &second, &note) == ERR_OK);
    CHECK(bytes_equal(buf_bytes(&first), buf_bytes(&second)));
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = malloc(size + 1);
    uint8_t *packed_again = malloc(size + 1);
    CHECK(packed != NULL);
    CHECK(packed_again != NULL);
    CHECK(protobuf_c_message_get_packed_size(again) == size);
    CHECK(protobuf_c_message_pack(message, packed) == size);
    CHECK(protobuf_c_message_pack(again, packed_again) == size);
    CHECK(memcmp(packed, packed_again, size) == 0);
    free(packed);
    free(packed_again);
    protobuf_c_message_free_unpacked(message, NULL);
    protobuf_c_message_free_unpacked(again, NULL);
    buf_deinit(&first);
    buf_deinit(&second);
    return 0;
}
