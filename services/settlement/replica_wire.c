/* replica_wire.c - see replica_wire.h. */
#include "services/settlement/replica_wire.h"

#include <string.h>

#include "openledger/v1/ledger.pb-c.h"
#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/ledger.h"
#include "shared/ledger/tx.h"

static const char DOMAIN[] = "openledger/replica/v1"; /* its NUL is part of it */
enum { SEALED_MAX = 2 * REPLICA_MESSAGE_MAX };

static void signing_bytes(const struct replica_seal *seal, struct bytes message, struct buf *out)
{
    (void)buf_append(out, DOMAIN, sizeof DOMAIN);
    (void)buf_append_bytes(out, digest_bytes(&seal->chain_id));
    (void)buf_append_bytes(out, message);
    CHECK(buf_err(out) == ERR_OK);
}

void replica_wire_close(const struct replica_seal *seal,
                        const Openledger__V1__ReplicaMessage *message, struct buf *out)
{
    struct signature signature;
    struct buf body;
    struct buf text;
    buf_init(&body, SEALED_MAX);
    buf_init(&text, SEALED_MAX);
    CHECK(ledger_pack(&message->base, &body) == ERR_OK);
    signing_bytes(seal, buf_bytes(&body), &text);
    key_pair_sign(seal->keys, buf_bytes(&text), &signature);
    Openledger__V1__SignedReplicaMessage envelope = OPENLEDGER__V1__SIGNED_REPLICA_MESSAGE__INIT;
    envelope.message = ledger_binary(body.data, body.size);
    envelope.signature = ledger_binary(signature.bytes, SIGNATURE_SIZE);
    CHECK(ledger_pack(&envelope.base, out) == ERR_OK);
    buf_deinit(&body);
    buf_deinit(&text);
}

/* The entries that a message carries follow each other and go back in no epoch. */
static bool entries_fit(const Openledger__V1__ReplicaMessage *message)
{
    uint64_t epoch = 0;
    for (size_t i = 0; i < message->n_entries; i++) {
        Openledger__V1__Entry *entry =
            openledger__v1__entry__unpack(NULL, message->entries[i].len, message->entries[i].data);
        bool fits = entry != NULL && message->entries[i].len <= LEDGER_ENTRY_MAX &&
                    entry->index == message->index + i + 1 && entry->epoch >= epoch &&
                    entry->epoch <= message->epoch;
        epoch = entry == NULL ? 0 : entry->epoch;
        if (entry != NULL) {
            openledger__v1__entry__free_unpacked(entry, NULL);
        }
        if (!fits) {
            return false;
        }
    }
    return true;
}

static bool well_formed(const struct replica_seal *seal,
                        const Openledger__V1__ReplicaMessage *message)
{
    const int kind = (int)message->kind;
    bool carries = kind == EPOCH_APPEND || kind == EPOCH_ENTRIES;
    return message->to == seal->self && message->from >= 1 && message->from <= seal->replicas &&
           message->from != seal->self && message->life != 0 && kind > 0 && kind < EPOCH_KIND_END &&
           message->chain.len == (carries ? DIGEST_SIZE : 0) &&
           (carries || message->n_entries == 0) && entries_fit(message);
}

Openledger__V1__ReplicaMessage *replica_wire_open(const struct replica_seal *seal,
                                                  struct bytes bytes)
{
    Openledger__V1__ReplicaMessage *message = NULL;
    if (bytes.size > REPLICA_MESSAGE_MAX) {
        return NULL;
    }
    Openledger__V1__SignedReplicaMessage *envelope =
        openledger__v1__signed_replica_message__unpack(NULL, bytes.size, bytes.data);
    if (envelope == NULL) {
        return NULL;
    }
    if (envelope->signature.len == SIGNATURE_SIZE) {
        struct signature signature;
        struct buf text;
        buf_init(&text, SEALED_MAX);
        memcpy(signature.bytes, envelope->signature.data, SIGNATURE_SIZE);
        signing_bytes(seal, ledger_bytes(envelope->message), &text);
        if (signature_verify(key_pair_public(seal->keys), buf_bytes(&text), &signature)) {
            message = openledger__v1__replica_message__unpack(NULL, envelope->message.len,
                                                              envelope->message.data);
        }
        buf_deinit(&text);
    }
    openledger__v1__signed_replica_message__free_unpacked(envelope, NULL);
    if (message != NULL && !well_formed(seal, message)) {
        openledger__v1__replica_message__free_unpacked(message, NULL);
        message = NULL;
    }
    return message;
}

void replica_wire_promise(const struct epoch_promise *promise, struct buf *out)
{
    Openledger__V1__ReplicaPromise record = OPENLEDGER__V1__REPLICA_PROMISE__INIT;
    struct digest check;
    struct buf body;
    record.epoch = promise->epoch;
    record.claimant = promise->claimant;
    record.life = promise->life;
    record.final = promise->final;
    record.full = promise->full;
    record.formed = promise->formed;
    buf_init(&body, SEALED_MAX);
    CHECK(ledger_pack(&record.base, &body) == ERR_OK);
    sha256(buf_bytes(&body), &check);
    (void)buf_append_bytes(out, digest_bytes(&check));
    (void)buf_append_bytes(out, buf_bytes(&body));
    CHECK(buf_err(out) == ERR_OK);
    buf_deinit(&body);
}

enum err replica_wire_promised(struct bytes file, struct epoch_promise *out)
{
    struct digest check;
    struct digest found;
    if (bytes_take_copy(&file, check.bytes, DIGEST_SIZE) != ERR_OK) {
        return ERR_CORRUPT;
    }
    sha256(file, &found);
    Openledger__V1__ReplicaPromise *record =
        digest_equal(&found, &check)
            ? openledger__v1__replica_promise__unpack(NULL, file.size, file.data)
            : NULL;
    if (record == NULL) {
        return ERR_CORRUPT;
    }
    *out = (struct epoch_promise){.epoch = record->epoch,
                                  .claimant = record->claimant,
                                  .life = record->life,
                                  .final = record->final,
                                  .full = record->full,
                                  .formed = record->formed};
    openledger__v1__replica_promise__free_unpacked(record, NULL);
    return ERR_OK;
}
