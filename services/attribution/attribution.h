/* attribution.h - the domain: from a finished answer to its evidence record. Pure.
 *
 * The shares themselves come from shared/lineage and shared/attrib, which the verifier runs too; here
 * is what is said about them to people. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "openledger/v1/events.pb-c.h"
#include "openledger/v1/services.pb-c.h"
#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/lineage/shares.h"

#define ATTRIBUTION_EXCERPT_TOKENS 40U      /* of a row, in its evidence */
#define ATTRIBUTION_EVIDENCE_MAX (1U << 20) /* bytes of one evidence record */

/* A finished answer, taken apart and checked; free with attribution_answer_deinit. */
struct attribution_answer {
    Openledger__V1__AnswerFinished *message;
    Openledger__V1__Receipt *receipt;
    struct digest receipt_id;
};

/* ERR_INVALID: malformed, or the opening does not open the receipt. */
MUST_USE enum err attribution_answer_read(struct bytes data, struct attribution_answer *out,
                                          struct note *note);
void attribution_answer_deinit(struct attribution_answer *answer); /* a zeroed one is fine */

/* Can an index that came to this error never be made? Its answers are then parked, for good: so only what
 * is wrong in the objects themselves counts, never what a disk (full, read-only, decayed), a peer or the ledger (no
 * bond at the moment) refuses. */
bool attribution_hopeless(enum err err);

/* Is it a disk that is in the way, ours or the blob store's? Somebody should know; it passes. */
bool attribution_disk(enum err err);

/* Appends the answer's AnswerAttribution: its ShareSet and the rows behind it with excerpts. */
MUST_USE enum err attribution_evidence(const struct lineage_judge *judge,
                                       const struct attribution_answer *answer,
                                       const struct attrib_result *result, struct bytes share_set,
                                       struct buf *out, struct note *note);

/* Appends the same record with its batch filled in (for attribution_store_batch). */
MUST_USE enum err attribution_set_batch(struct bytes evidence, const struct digest *batch,
                                        struct buf *out);

/* Appends the ShareSet inside a record, in the bytes that were signed. */
MUST_USE enum err attribution_share_set(struct bytes evidence, struct buf *out);

#define ATTRIBUTION_BATCH_BYTES                                                                    \
    (6U << 20) /* of share sets in a batch; below LEDGER_BATCH_BLOB_MAX */

/* How a receipt stands on the ledger: not there (yet), waiting for shares, or past that. */
enum attribution_standing { ATTRIBUTION_UNKNOWN, ATTRIBUTION_WAITING, ATTRIBUTION_CLOSED };

/* Which of count pending sets of these sizes (each at most ATTRIBUTION_BATCH_BYTES) go into the next batch:
 * their places into ready, in order, *ready_count of them. Returns how many were looked at: all, or those
 * before the first that waits and finds no more room. */
uint32_t attribution_batch_pick(const enum attribution_standing *standings, const size_t *sizes,
                                uint32_t count, uint32_t *ready, uint32_t *ready_count);

#define ATTRIBUTION_REBATCH_MS 30000U /* before what the ledger did not take goes out again */

/* Is an announced batch done with? closed: how many of its receipts do not wait for shares
 * on the ledger any more; age_ms: since it was announced. A batch counts whole or not at all: so once any
 * of its receipts is closed it was taken, or (one was overdue, or another's) never will be, and what still
 * waits can go out in a new one at once. Else it may have been lost with its stream. */
bool attribution_batch_over(uint32_t closed, uint64_t age_ms);
