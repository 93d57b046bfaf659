/* batch.h - published batches of receipts and of shares: build, sign, check. Pure.
 *
 * A batch is signed once over the RFC 6962 root of its items' bytes, so one signature covers up to
 * LEDGER_BATCH_ITEMS_MAX receipts. A receipt's id is the leaf hash of its bytes. */
#pragma once

#include "openledger/v1/ledger.pb-c.h"
#include "shared/base/account_id.h"
#include "shared/base/amount.h"
#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/crypto/keys.h"

/* Id of a serialised Receipt. */
void ledger_receipt_id(struct bytes receipt, struct digest *out_id);

/* SHA-256(domain 0x00 salt ids as u32 LE), domain "openledger/prompt/v1" or "openledger/answer/v1". */
void ledger_prompt_commitment(const struct salt *salt, const uint32_t *ids, size_t count,
                              struct digest *out);
void ledger_answer_commitment(const struct salt *salt, const uint32_t *ids, size_t count,
                              struct digest *out);

/* prompt_tokens * price_prompt + completion_tokens * price_completion. ERR_RANGE: overflow. */
MUST_USE enum err ledger_fee(struct amount price_prompt, struct amount price_completion,
                             uint32_t prompt_tokens, uint32_t completion_tokens,
                             struct amount *out_fee);

/* How a fee is divided: the state machine's own split, for quotes and displays. */
struct ledger_parameters;
struct ledger_fee_split {
    struct amount platform, adapter_developer, base_developer, stakers, contributors;
};
void ledger_split_fee(const struct ledger_parameters *parameters, struct amount fee,
                      struct ledger_fee_split *out_split);

/* What one receipt by itself did, in the order of its life: the ledger's own legs are these, summed per
 * batch, account and reason. The first charge_count are of the entry that charged it, the others of the
 * one that shared it, or of the seal that sent its waiting part to the treasury. */
struct ledger;
struct ledger_leg;
struct ledger_receipt;
struct ledger_receipt_legs {
    struct ledger_leg *items;
    size_t count, charge_count;
};
/* share_set: the serialised ShareSet that settled it; empty: none did. Free with ledger_receipt_legs_free.
 * ERR_INVALID: not a share set of this receipt (note). */
MUST_USE enum err ledger_receipt_legs(const struct ledger *ledger,
                                      const struct ledger_receipt *receipt, struct bytes share_set,
                                      struct ledger_receipt_legs *out_legs, struct note *note);
void ledger_receipt_legs_free(struct ledger_receipt_legs *legs);

/* Appends a serialised, signed ReceiptBatch. receipts: serialised, consecutive numbers from
 * first_number, 1..LEDGER_BATCH_ITEMS_MAX (CHECKed). */
struct ledger_receipt_batch {
    const struct digest *chain_id;
    const struct account_id *gateway;
    const struct digest *grant;
    uint32_t lease;
    uint64_t first_number;
    const struct bytes *receipts;
    size_t count;
};
MUST_USE enum err ledger_receipt_batch_sign(const struct ledger_receipt_batch *batch,
                                            const struct key_pair *keys, struct buf *out);

/* Checks a ReceiptBatch's form, numbers and signature by its own key; whether that key is the
 * gateway's is for the ledger. *out_batch: free with openledger__v1__receipt_batch__free_unpacked. */
MUST_USE enum err ledger_receipt_batch_verify(struct bytes data, const struct digest *chain_id,
                                              Openledger__V1__ReceiptBatch **out_batch,
                                              struct note *note);

/* The same for shares; sets: serialised ShareSets. */
struct ledger_share_batch {
    const struct digest *chain_id;
    const struct account_id *account;
    const struct bytes *sets;
    size_t count;
};
MUST_USE enum err ledger_share_batch_sign(const struct ledger_share_batch *batch,
                                          const struct key_pair *keys, struct buf *out);
MUST_USE enum err ledger_share_batch_verify(struct bytes data, const struct digest *chain_id,
                                            Openledger__V1__ShareBatch **out_batch,
                                            struct note *note);

/* Decode one item of a batch and check its form (lengths, canonical amounts, bounds, ascending
 * accounts, shares that sum to LEDGER_SHARE_TOTAL). Free with ...__free_unpacked. */
MUST_USE enum err ledger_receipt_decode(struct bytes data, Openledger__V1__Receipt **out_receipt,
                                        struct note *note);
MUST_USE enum err ledger_share_set_decode(struct bytes data, Openledger__V1__ShareSet **out_set,
                                          struct note *note);

/* A canonical decimal amount: exactly what amount_format writes. ERR_INVALID names field. */
MUST_USE enum err ledger_amount_parse(const char *text, const char *field, struct amount *out,
                                      struct note *note);
