/* prepare.c - the part of applying an entry that needs no state: see ledger.h. Touches nothing but its
 * arguments, so any number of threads may prepare at once. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/machine.h"
#include "shared/ledger/tx.h"

/* Does each signature fit? Whether its key is a current one of its account is for the state. */
static enum err signatures_try(struct ledger_prepared *prepared, const struct digest *chain_id)
{
    const Openledger__V1__SignedTx *tx = prepared->signed_tx;
    struct buf message;
    buf_init(&message, 256);
    enum err err = ledger_tx_signing_bytes(chain_id, ledger_bytes(tx->body), &message);
    for (size_t i = 0; i < tx->n_signatures && i < LEDGER_SIGNATURES_MAX && err == ERR_OK; i++) {
        const Openledger__V1__TxSignature *entry = tx->signatures[i];
        struct public_key key;
        struct signature signature;
        if (entry->key.len == PUBLIC_KEY_SIZE && entry->signature.len == SIGNATURE_SIZE) {
            memcpy(key.bytes, entry->key.data, PUBLIC_KEY_SIZE);
            memcpy(signature.bytes, entry->signature.data, SIGNATURE_SIZE);
            prepared->signature_fits[i] = signature_verify(&key, buf_bytes(&message), &signature);
        }
    }
    buf_deinit(&message);
    return err;
}

static enum err tx_prepare(struct ledger_prepared *prepared, const struct digest *chain_id,
                           struct bytes signed_tx, const struct ledger_blobs *blobs, bool known)
{
    ProtobufCMessage *outer = NULL;
    ProtobufCMessage *inner = NULL;
    struct note *note = &prepared->note;
    enum err err = ledger_unpack(&openledger__v1__signed_tx__descriptor, "signed transaction",
                                 signed_tx, &outer, note);
    if (err != ERR_OK) {
        return err;
    }
    prepared->signed_size = signed_tx.size;
    prepared->signed_tx = (Openledger__V1__SignedTx *)outer;
    struct bytes body = ledger_bytes(prepared->signed_tx->body);
    ledger_tx_id(chain_id, body, &prepared->tx);
    err =
        ledger_unpack(&openledger__v1__tx_body__descriptor, "transaction body", body, &inner, note);
    if (err != ERR_OK) {
        return err;
    }
    prepared->body = (Openledger__V1__TxBody *)inner;
    settle_prepare(prepared, chain_id, blobs);
    if (known) {
        for (size_t i = 0; i < LEDGER_SIGNATURES_MAX; i++) {
            prepared->signature_fits[i] = true;
        }
        return ERR_OK;
    }
    return signatures_try(prepared, chain_id);
}

static enum err entry_prepare(struct ledger_prepared *prepared, const struct digest *chain_id,
                              struct bytes bytes, const struct ledger_blobs *blobs,
                              uint64_t signed_until)
{
    struct note *note = &prepared->note;
    ProtobufCMessage *message = NULL;
    if (bytes.size > LEDGER_ENTRY_MAX) {
        return note_set(note, ERR_LIMIT, "entry has %zu bytes, the limit is %u", bytes.size,
                        LEDGER_ENTRY_MAX);
    }
    enum err err =
        ledger_unpack(&openledger__v1__entry__descriptor, "entry", bytes, &message, note);
    if (err != ERR_OK) {
        return err;
    }
    prepared->entry = (Openledger__V1__Entry *)message;
    ledger_entry_hash(bytes, &prepared->entry_hash);
    merkle_leaf(bytes.data, bytes.size, &prepared->entry_leaf);
    if (prepared->entry->content_case != OPENLEDGER__V1__ENTRY__CONTENT_SIGNED_TX) {
        return ERR_OK;
    }
    return tx_prepare(prepared, chain_id, ledger_bytes(prepared->entry->signed_tx), blobs,
                      prepared->entry->index <= signed_until);
}

static struct ledger_prepared *prepared_create(bool is_entry)
{
    struct ledger_prepared *prepared = calloc(1, sizeof *prepared);
    CHECK(prepared != NULL);
    prepared->is_entry = is_entry;
    buf_init(&prepared->signed_bytes, LEDGER_ENTRY_MAX);
    return prepared;
}

struct ledger_prepared *ledger_prepare_entry(const struct digest *chain_id, struct bytes entry,
                                             const struct ledger_blobs *blobs,
                                             uint64_t signed_until)
{
    struct ledger_prepared *prepared = prepared_create(true);
    prepared->err = entry_prepare(prepared, chain_id, entry, blobs, signed_until);
    return prepared;
}

struct ledger_prepared *ledger_prepare_tx(const struct digest *chain_id, struct bytes signed_tx,
                                          const struct ledger_blobs *blobs)
{
    struct ledger_prepared *prepared = prepared_create(false);
    enum err err = buf_append_bytes(&prepared->signed_bytes, signed_tx);
    err = err ? note_set(&prepared->note, err, "the transaction has %zu bytes, an entry at most %u",
                         signed_tx.size, LEDGER_ENTRY_MAX)
              : tx_prepare(prepared, chain_id, signed_tx, blobs, false);
    prepared->err = err;
    return prepared;
}

const struct digest *ledger_prepared_tx(const struct ledger_prepared *prepared)
{
    return prepared->signed_tx == NULL ? NULL : &prepared->tx;
}

void ledger_prepared_destroy(struct ledger_prepared *prepared)
{
    if (prepared == NULL) {
        return;
    }
    settle_prepared_free(prepared);
    if (prepared->body != NULL) {
        openledger__v1__tx_body__free_unpacked(prepared->body, NULL);
    }
    if (prepared->signed_tx != NULL) {
        openledger__v1__signed_tx__free_unpacked(prepared->signed_tx, NULL);
    }
    if (prepared->entry != NULL) {
        openledger__v1__entry__free_unpacked(prepared->entry, NULL);
    }
    buf_deinit(&prepared->signed_bytes);
    free(prepared);
}
