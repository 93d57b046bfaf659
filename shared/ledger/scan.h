/* scan.h - reads published batches of receipts and shares where they lie: no allocation per item.
 *
 * Why: a batch holds a thousand items and settlement takes a hundred such batches a second. Accepts
 * exactly what batch.h's decoders accept (canonical protobuf, the same bounds), which tests hold it to.
 * Pure; any thread. Views borrow the bytes they were scanned from. Internal to this room. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/account_id.h"
#include "shared/base/amount.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/crypto/keys.h"

struct receipt_view {
    struct bytes grant, request_id, profile; /* sizes are right */
    uint32_t lease;
    uint64_t number;
    bool is_void;
    struct bytes adapter; /* a name; no NUL behind it */
    uint32_t prompt_tokens, completion_tokens;
    struct amount fee;
    uint64_t opened_ms;
};
/* ERR_INVALID, ERR_RANGE: the note says what. */
MUST_USE enum err receipt_scan(struct bytes data, struct receipt_view *out, struct note *note);

struct share_view {
    const uint8_t *account; /* ACCOUNT_ID_SIZE bytes */
    uint32_t ppb;
};
struct share_set_view {
    struct bytes receipt, index; /* DIGEST_SIZE bytes each */
    uint32_t unearned_ppb;
    size_t share_count;
    struct bytes shares; /* their encodings, one after the other: take with share_next */
};
MUST_USE enum err share_set_scan(struct bytes data, struct share_set_view *out, struct note *note);
/* The next share of a set that was scanned; false at the end. */
bool share_next(struct bytes *shares, struct share_view *out);

/* What a batch of either sort has around its items. */
struct batch_view {
    struct bytes chain_id, account, grant, key, signature;
    uint32_t lease;        /* receipts */
    uint64_t first_number; /* receipts */
    size_t count;
    struct bytes items; /* their encodings: take with batch_next */
};
MUST_USE enum err receipt_batch_scan(struct bytes data, struct batch_view *out, struct note *note);
MUST_USE enum err share_batch_scan(struct bytes data, struct batch_view *out, struct note *note);
bool batch_next(struct bytes *items, struct bytes *out_item);

/* Is the batch signed by its own key? root: RFC 6962 over the items' bytes. In batch.c. */
enum batch_sort { BATCH_RECEIPTS, BATCH_SHARES };
bool batch_signature_fits(const struct batch_view *batch, enum batch_sort sort,
                          const struct digest *root);
