/* store.h - what attribution must not forget between taking an answer and seeing it settled.
 *
 *   evidence  receipt -> serialised AnswerAttribution: for people, and so that no answer is done twice
 *   pending   receipt -> serialised ShareSet that no batch carries yet
 *   outbox    number  -> a published batch whose receipts are not all settled yet
 *   parked    receipt or message digest -> why it can never be processed
 *
 * Durable (LMDB with sync). One writer, the engine's thread; any thread may read evidence. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"

#define STORE_BATCH_MAX 1024U /* receipts in one batch */

struct attribution_store;

/* A damaged store, or one of an older format, is set aside (STORE_ASIDE) and made anew, with a line in the log. Nothing in
 * it is the only copy: while the ledger waits for a receipt's shares, its gateway sends the opening again, and the
 * same shares follow from it. */
MUST_USE enum err attribution_store_open(const char *folder, struct attribution_store **out,
                                         struct note *note);
void attribution_store_close(struct attribution_store *store); /* NULL is fine */

struct attribution_counts {
    uint64_t answers, pending, parked;
};
MUST_USE enum err attribution_store_counts(struct attribution_store *store,
                                           struct attribution_counts *out, struct note *note);

/* Appends the evidence of a receipt. ERR_NOT_FOUND. */
MUST_USE enum err attribution_store_evidence(struct attribution_store *store,
                                             const struct digest *receipt, struct buf *out,
                                             struct note *note);
/* Is it answered, or parked? */
MUST_USE enum err attribution_store_known(struct attribution_store *store,
                                          const struct digest *receipt, bool *out,
                                          struct note *note);

/* Keeps an answer: evidence and pending set, in one durable step. */
MUST_USE enum err attribution_store_answer(struct attribution_store *store,
                                           const struct digest *receipt, struct bytes evidence,
                                           struct bytes share_set, struct note *note);
MUST_USE enum err attribution_store_park(struct attribution_store *store, const struct digest *key,
                                         const char *reason, struct note *note);

/* A set that waits for a batch. */
struct attribution_pending {
    struct digest receipt;
    uint8_t *set; /* owned */
    size_t size;
};
/* The first ones after a receipt, in the order of the receipts' ids and from the last one on to the first:
 * at most max, each once, `after` itself last. Into out; they are owned by the caller (free set). So who
 * goes on after the last one that it looked at sees all of them in turn. */
MUST_USE enum err attribution_store_pending(struct attribution_store *store,
                                            const struct digest *after, uint32_t max,
                                            struct attribution_pending *out, uint32_t *out_count,
                                            struct note *note);
/* Forgets pending sets that can never be settled any more (their evidence stays). */
MUST_USE enum err attribution_store_drop(struct attribution_store *store,
                                         const struct digest *receipts, uint32_t count,
                                         struct note *note);

/* A batch that was made of pending sets. */
struct attribution_batch {
    uint64_t number;
    struct digest digest;
    uint64_t announced_ms; /* real time; 0: not announced yet */
    uint32_t count;
    struct digest receipts[STORE_BATCH_MAX];
};
/* Moves receipts from pending to a new outbox entry and writes the batch into their evidence through
 * edit, which appends the changed evidence to out. */
MUST_USE enum err attribution_store_batch(
    struct attribution_store *store, const struct digest *digest, const struct digest *receipts,
    uint32_t count,
    enum err (*edit)(struct bytes evidence, const struct digest *batch, struct buf *out),
    struct note *note);
/* The first outbox entry with number >= from. ERR_NOT_FOUND: no more. */
MUST_USE enum err attribution_store_outbox(struct attribution_store *store, uint64_t from,
                                           struct attribution_batch *out, struct note *note);
MUST_USE enum err attribution_store_announced(struct attribution_store *store,
                                              const struct attribution_batch *batch,
                                              struct note *note);
/* Removes an outbox entry; sets[0..count) (those still not settled) become pending again. */
MUST_USE enum err attribution_store_settle(struct attribution_store *store, uint64_t number,
                                           const struct attribution_pending *sets, uint32_t count,
                                           struct note *note);
