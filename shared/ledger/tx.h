/* tx.h - building, signing and checking transactions. Pure: nonce and time are arguments.
 *
 * What is signed is the exact byte string carried:
 *     sign("openledger/tx/v1" 0x00 chain_id SHA-256(body)), id = SHA-256("openledger/txid/v1" 0x00
 *     chain_id body). */
#pragma once

#include "openledger/v1/ledger.pb-c.h"
#include "shared/base/account_id.h"
#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/crypto/keys.h"

#define LEDGER_NONCE_SIZE 16
#define LEDGER_TX_VALIDITY_MS UINT64_C(600000) /* a good default: ten minutes */
#define LEDGER_TX_SKEW_MS UINT64_C(60000)      /* subtracted from now: clocks differ */

/* Who, where and when; action is one of TxBody's oneof, its case in action_case. The messages
 * that it points to are borrowed for the call. */
struct ledger_tx {
    const struct digest *chain_id;
    const struct account_id *sender;
    uint64_t valid_from_ms;
    uint64_t valid_until_ms;
    const uint8_t *nonce; /* LEDGER_NONCE_SIZE random bytes */
};

/* Sets *out to valid [now - skew, now - skew + validity). */
struct ledger_tx ledger_tx_at(const struct digest *chain_id, const struct account_id *sender,
                              uint64_t now_ms, uint64_t validity_ms, const uint8_t *nonce);

/* Appends a serialised TxBody. action: a TxBody in which only action_case and its pointer are set
 * (use OPENLEDGER__V1__TX_BODY__INIT); everything else in it is overwritten. Errors: as buf. */
MUST_USE enum err ledger_tx_body(const struct ledger_tx *tx, Openledger__V1__TxBody *action,
                                 struct buf *out);

struct ledger_signer {
    const struct account_id *account;
    const struct key_pair *keys;
};

/* Appends a serialised SignedTx around body with a signature by each signer. */
MUST_USE enum err ledger_tx_sign(const struct digest *chain_id, struct bytes body,
                                 const struct ledger_signer *signers, size_t signer_count,
                                 struct buf *out);

/* Both at once, signed by the sender alone: what nearly every caller wants. */
MUST_USE enum err ledger_tx_build(const struct ledger_tx *tx, Openledger__V1__TxBody *action,
                                  const struct key_pair *keys, struct buf *out_signed_tx,
                                  struct digest *out_tx);

/* The id of a transaction by its body, and of a serialised SignedTx (ERR_INVALID: not one). */
void ledger_tx_id(const struct digest *chain_id, struct bytes body, struct digest *out_tx);
MUST_USE enum err ledger_signed_tx_id(const struct digest *chain_id, struct bytes signed_tx,
                                      struct digest *out_tx, struct note *note);

/* The bytes a signature is over (113 or less). For wallets and hardware. */
MUST_USE enum err ledger_tx_signing_bytes(const struct digest *chain_id, struct bytes body,
                                          struct buf *out);

/* Decodes hostile bytes into a message whose canonical encoding they are: no unknown or repeated
 * field, nothing non-minimal, so that one meaning has one spelling. Free with
 * protobuf_c_message_free_unpacked(message, NULL). ERR_INVALID names what. */
MUST_USE enum err ledger_unpack(const ProtobufCMessageDescriptor *descriptor, const char *what,
                                struct bytes data, ProtobufCMessage **out_message,
                                struct note *note);

/* Appends a message's encoding. Errors: as buf. */
MUST_USE enum err ledger_pack(const ProtobufCMessage *message, struct buf *out);

/* Borrow: bytes as a protobuf-c field and back. */
ProtobufCBinaryData ledger_binary(const void *data, size_t size);
struct bytes ledger_bytes(ProtobufCBinaryData field);
