/* tx.c - see tx.h. */
#include "shared/ledger/tx.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/ledger.h"

/* The final NUL of each text is the 0x00 that separates it from what follows. */
static const char TX_DOMAIN[] = "openledger/tx/v1";
static const char TX_ID_DOMAIN[] = "openledger/txid/v1";

ProtobufCBinaryData ledger_binary(const void *data, size_t size)
{
    union { /* protobuf-c has no const in its structs, but does not write either */
        const void *in;
        uint8_t *out;
    } pointer = {.in = data};
    return (ProtobufCBinaryData){.len = size, .data = pointer.out};
}

struct bytes ledger_bytes(ProtobufCBinaryData field)
{
    return (struct bytes){.data = field.data, .size = field.len};
}

enum err ledger_pack(const ProtobufCMessage *message, struct buf *out)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *at = buf_reserve(out, size);
    if (at == NULL) {
        return buf_err(out);
    }
    buf_commit(out, protobuf_c_message_pack(message, at));
    return ERR_OK;
}

/* Fields that the descriptors do not know, at any depth (our messages nest at most three deep). */
static bool has_unknown(const ProtobufCMessage *message) /* NOLINT(misc-no-recursion) */
{
    if (message->n_unknown_fields != 0) {
        return true;
    }
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        if (field->type != PROTOBUF_C_TYPE_MESSAGE) {
            continue;
        }
        const uint8_t *base = (const uint8_t *)message;
        const void *member = base + field->offset;
        const ProtobufCMessage *one = NULL;
        const ProtobufCMessage *const *items = &one;
        size_t count = 1;
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            memcpy(&count, base + field->quantifier_offset, sizeof count);
            memcpy(&items, member, sizeof(void *));
        } else {
            uint32_t chosen = field->id; /* of a oneof only the chosen member is there */
            if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
                memcpy(&chosen, base + field->quantifier_offset, sizeof chosen);
            }
            if (chosen == field->id) {
                memcpy(&one, member, sizeof(void *));
            }
        }
        for (size_t k = 0; k < count; k++) {
            if (items[k] != NULL && has_unknown(items[k])) {
                return true;
            }
        }
    }
    return false;
}

enum err ledger_unpack(const ProtobufCMessageDescriptor *descriptor, const char *what,
                       struct bytes data, ProtobufCMessage **out_message, struct note *note)
{
    ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, NULL, data.size, data.data);
    if (message == NULL) {
        return note_set(note, ERR_INVALID, "%s is not a protobuf message of its kind", what);
    }
    /* Packing again gives other bytes for whatever is not canonical, but keeps unknown fields. */
    enum err err = ERR_OK;
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *again = malloc(size + 1);
    if (again == NULL) {
        err = ERR_NO_MEMORY;
    } else if (has_unknown(message) || size != data.size ||
               protobuf_c_message_pack(message, again) != size ||
               (size > 0 && memcmp(again, data.data, size) != 0)) {
        err = note_set(note, ERR_INVALID, "%s is not in canonical encoding", what);
    }
    free(again);
    if (err != ERR_OK) {
        protobuf_c_message_free_unpacked(message, NULL);
        return err;
    }
    *out_message = message;
    return ERR_OK;
}

struct ledger_tx ledger_tx_at(const struct digest *chain_id, const struct account_id *sender,
                              uint64_t now_ms, uint64_t validity_ms, const uint8_t *nonce)
{
    uint64_t from = now_ms > LEDGER_TX_SKEW_MS ? now_ms - LEDGER_TX_SKEW_MS : 0;
    return (struct ledger_tx){
        .chain_id = chain_id,
        .sender = sender,
        .valid_from_ms = from,
        .valid_until_ms = from + validity_ms,
        .nonce = nonce,
    };
}

enum err ledger_tx_body(const struct ledger_tx *tx, Openledger__V1__TxBody *action, struct buf *out)
{
    CHECK(action->action_case != OPENLEDGER__V1__TX_BODY__ACTION__NOT_SET);
    action->chain_id = ledger_binary(tx->chain_id->bytes, DIGEST_SIZE);
    action->sender = ledger_binary(tx->sender->bytes, ACCOUNT_ID_SIZE);
    action->valid_from_ms = tx->valid_from_ms;
    action->valid_until_ms = tx->valid_until_ms;
    action->nonce = ledger_binary(tx->nonce, LEDGER_NONCE_SIZE);
    return ledger_pack(&action->base, out);
}

enum err ledger_tx_signing_bytes(const struct digest *chain_id, struct bytes body, struct buf *out)
{
    struct digest body_hash;
    sha256(body, &body_hash);
    buf_append(out, TX_DOMAIN, sizeof TX_DOMAIN);
    buf_append(out, chain_id->bytes, DIGEST_SIZE);
    buf_append(out, body_hash.bytes, DIGEST_SIZE);
    return buf_err(out);
}

void ledger_tx_id(const struct digest *chain_id, struct bytes body, struct digest *out_tx)
{
    const struct bytes parts[] = {bytes_of(TX_ID_DOMAIN, sizeof TX_ID_DOMAIN),
                                  digest_bytes(chain_id), body};
    sha256_parts(parts, 3, out_tx);
}

enum err ledger_tx_sign(const struct digest *chain_id, struct bytes body,
                        const struct ledger_signer *signers, size_t signer_count, struct buf *out)
{
    CHECK(signer_count >= 1);
    CHECK(signer_count <= LEDGER_SIGNATURES_MAX);
    struct buf message;
    buf_init(&message, 256);
    enum err err = ledger_tx_signing_bytes(chain_id, body, &message);
    struct signature signatures[LEDGER_SIGNATURES_MAX];
    Openledger__V1__TxSignature entries[LEDGER_SIGNATURES_MAX];
    Openledger__V1__TxSignature *pointers[LEDGER_SIGNATURES_MAX];
    for (size_t i = 0; i < signer_count && err == ERR_OK; i++) {
        key_pair_sign(signers[i].keys, buf_bytes(&message), &signatures[i]);
        openledger__v1__tx_signature__init(&entries[i]);
        entries[i].account = ledger_binary(signers[i].account->bytes, ACCOUNT_ID_SIZE);
        entries[i].key = ledger_binary(key_pair_public(signers[i].keys)->bytes, PUBLIC_KEY_SIZE);
        entries[i].signature = ledger_binary(signatures[i].bytes, SIGNATURE_SIZE);
        pointers[i] = &entries[i];
    }
    if (err == ERR_OK) {
        Openledger__V1__SignedTx signed_tx = OPENLEDGER__V1__SIGNED_TX__INIT;
        signed_tx.body = ledger_binary(body.data, body.size);
        signed_tx.n_signatures = signer_count;
        signed_tx.signatures = pointers;
        err = ledger_pack(&signed_tx.base, out);
    }
    buf_deinit(&message);
    return err;
}

enum err ledger_tx_build(const struct ledger_tx *tx, Openledger__V1__TxBody *action,
                         const struct key_pair *keys, struct buf *out_signed_tx,
                         struct digest *out_tx)
{
    struct buf body;
    buf_init(&body, LEDGER_ENTRY_MAX);
    enum err err = ledger_tx_body(tx, action, &body);
    if (err == ERR_OK) {
        const struct ledger_signer signer = {.account = tx->sender, .keys = keys};
        err = ledger_tx_sign(tx->chain_id, buf_bytes(&body), &signer, 1, out_signed_tx);
    }
    if (err == ERR_OK && out_tx != NULL) {
        ledger_tx_id(tx->chain_id, buf_bytes(&body), out_tx);
    }
    buf_deinit(&body);
    return err;
}

enum err ledger_signed_tx_id(const struct digest *chain_id, struct bytes signed_tx,
                             struct digest *out_tx, struct note *note)
{
    ProtobufCMessage *message = NULL;
    enum err err = ledger_unpack(&openledger__v1__signed_tx__descriptor, "signed transaction",
                                 signed_tx, &message, note);
    if (err == ERR_OK) {
        const Openledger__V1__SignedTx *decoded = (Openledger__V1__SignedTx *)message;
        CHECK(decoded != NULL);
        ledger_tx_id(chain_id, ledger_bytes(decoded->body), out_tx);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    return err;
}
