/* store.h - what is looked up by name: API keys, receipts, idempotency keys; an LMDB index.
 *
 * Everything here follows from the journal and is rebuilt from it when missing or behind. The only
 * thing of its own is how far the journal has been published and settled, and losing that costs a
 * repetition that all readers recognise. One thread (the desk's). */
#pragma once

#include <stdint.h>

#include "openledger/v1/gateway.pb-c.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/journal/journal.h"

struct gateway_store;

/* A damaged store, or one of an older format, is made anew with a line in the log. */
MUST_USE enum err gateway_store_open(const char *folder, struct gateway_store **out,
                                     struct note *note);
void gateway_store_close(struct gateway_store *store); /* NULL is fine */

/* Takes in the journal's records that are durable and not yet here. A store that is ahead of its
 * journal belongs to another one and starts over. */
MUST_USE enum err gateway_store_follow(struct gateway_store *store, struct journal *journal,
                                       struct note *note);

/* ERR_NOT_FOUND: no such key, or revoked. hash: SHA-256 of the key's text. */
MUST_USE enum err gateway_store_key(struct gateway_store *store, const struct digest *hash,
                                    struct digest *out_grant, struct note *note);
/* The journal index of the Finished record of a receipt. ERR_NOT_FOUND. */
MUST_USE enum err gateway_store_receipt(struct gateway_store *store, const struct digest *receipt,
                                        uint64_t *out_index, struct note *note);
/* The charge that an idempotency key led to, and the digest of the body that asked. */
MUST_USE enum err gateway_store_idempotent(struct gateway_store *store,
                                           const struct digest *idempotency,
                                           struct digest *out_body, uint64_t *out_index,
                                           struct note *note);

/* How far the outbox came. */
struct gateway_progress {
    uint64_t published; /* journal records before this index are published */
    uint64_t settled;   /* and before this one the ledger shows what came of them; <= published */
};
struct gateway_progress gateway_store_progress(const struct gateway_store *store);
MUST_USE enum err gateway_store_set_progress(struct gateway_store *store,
                                             const struct gateway_progress *progress,
                                             struct note *note);

/* Reads a record of the journal and decodes it; free with
 * openledger__v1__gateway_record__free_unpacked. ERR_CORRUPT, or as journal_read. */
MUST_USE enum err gateway_record_read(struct journal *journal, uint64_t index,
                                      Openledger__V1__GatewayRecord **out, struct note *note);
MUST_USE enum err gateway_record_decode(struct bytes data, Openledger__V1__GatewayRecord **out,
                                        struct note *note);
