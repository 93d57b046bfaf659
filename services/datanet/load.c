/* load.c - see load.h. */
#include "services/datanet/load.h"

#include "shared/ledger/tx.h"

enum err load_message(struct blob_store *blobs, const ProtobufCMessageDescriptor *descriptor,
                      const char *what, const struct digest *digest, ProtobufCMessage **out_message,
                      struct note *note)
{
    struct buf bytes;
    buf_init(&bytes, BLOB_SIZE_MAX);
    enum err err = blob_get(blobs, digest, &bytes, note);
    err =
        err != ERR_OK ? err : ledger_unpack(descriptor, what, buf_bytes(&bytes), out_message, note);
    buf_deinit(&bytes);
    return err;
}

enum err load_contribution(struct blob_store *blobs, const struct digest *content,
                           Openledger__V1__Contribution **out, struct note *note)
{
    ProtobufCMessage *message;
    enum err err = load_message(blobs, &openledger__v1__contribution__descriptor, "contribution",
                                content, &message, note);
    if (err == ERR_OK) {
        *out = (Openledger__V1__Contribution *)message;
    }
    return err;
}

void load_free(void *message)
{
    if (message != NULL) {
        protobuf_c_message_free_unpacked(message, NULL);
    }
}
