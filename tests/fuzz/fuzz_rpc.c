/* fuzz_rpc.c - frames, timeouts, percent-encoding and messages from the outside.
 *
 * Oracles: a frame's message lies inside the input and frames never overlap; decoding what was encoded
 * gives it back; a message that decodes, encodes and decodes again encodes to the same bytes. (protobuf-c
 * keeps unknown fields with the number 0 that it refuses when they come back in their short form.) */
#include <stdlib.h>
#include <string.h>

#include "openledger/v1/services.pb-c.h"
#include "shared/base/check.h"
#include "shared/rpc/internal.h"

static void frames(struct bytes in)
{
    uint8_t flags;
    struct bytes message;
    const uint8_t *end = in.data + in.size;
    while (in.size > 0) {
        size_t before = in.size;
        if (rpc_parse_frame(&in, &flags, &message, NULL) != ERR_OK) {
            CHECK(in.size == before);
            return;
        }
        CHECK(in.size + 5 + message.size == before);
        CHECK(message.data >= end - before + 5);
        CHECK(message.data + message.size == end - in.size);
    }
}

static void words(const char *text)
{
    uint32_t ms = 0;
    if (rpc_parse_grpc_timeout(text, &ms) == ERR_OK) {
        CHECK(ms >= 1);
        CHECK(ms <= RPC_DEADLINE_MAX_MS);
    }
    size_t size = 3 * strlen(text) + 1;
    char *encoded = malloc(size);
    char *decoded = malloc(size);
    CHECK(encoded != NULL);
    CHECK(decoded != NULL);
    rpc_percent_encode(text, encoded, size);
    rpc_percent_decode(encoded, decoded, size);
    CHECK(strcmp(decoded, text) == 0);
    rpc_percent_decode(text, decoded, size);
    free(encoded);
    free(decoded);
}

static void messages(struct bytes in)
{
    static struct arena *arena;
    if (arena == NULL) {
        arena = arena_create(RPC_ARENA_MAX);
    }
    CHECK(arena != NULL);
    arena_reset(arena);
    ProtobufCMessage *message = NULL;
    struct bytes once;
    struct bytes twice;
    if (rpc_decode(&openledger__v1__receipt_state__descriptor, in, arena, &message, NULL) !=
            ERR_OK ||
        rpc_encode(message, arena, &once) != ERR_OK ||
        rpc_decode(&openledger__v1__receipt_state__descriptor, once, arena, &message, NULL) !=
            ERR_OK) {
        return;
    }
    CHECK(rpc_encode(message, arena, &twice) == ERR_OK);
    CHECK(once.size == twice.size);
    CHECK(memcmp(once.data, twice.data, once.size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = {.data = data, .size = size};
    frames(in);
    messages(in);
    char *text = malloc(size + 1);
    CHECK(text != NULL);
    if (size > 0) {
        memcpy(text, data, size);
    }
    text[size] = '\0';
    words(text);
    free(text);
    return 0;
}
