/* store.h - what settlement derives from its journal to answer questions: indexes and snapshots.
 *
 * Everything here can be deleted: it is rebuilt from the journal at the next start. Writes collect in
 * one transaction until settlement_store_commit(); reads see them. The worker's own: no locks. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/ledger/ledger.h"

struct settlement_store;

MUST_USE enum err settlement_store_open(const char *folder, struct settlement_store **out_store,
                                        struct note *note);
void settlement_store_close(struct settlement_store *store); /* NULL is fine */
MUST_USE enum err settlement_store_clear(struct settlement_store *store, struct note *note);
/* Commits everything: the mark may say so. */
MUST_USE enum err settlement_store_commit(struct settlement_store *store, struct note *note);
/* Commits only what is cheap to, so that little waits in memory: the mark stays. */
MUST_USE enum err settlement_store_spill(struct settlement_store *store, struct note *note);

/* Indexes what an entry did: its transaction, legs, accounts, header. */
MUST_USE enum err settlement_store_index(struct settlement_store *store,
                                         const struct ledger_effects *effects, struct note *note);

/* Up to where the index goes; ERR_NOT_FOUND when it is empty. */
struct settlement_store_mark {
    struct digest chain_id;
    uint64_t index;
    struct digest entry_hash;
};
MUST_USE enum err settlement_store_mark_get(struct settlement_store *store,
                                            struct settlement_store_mark *out_mark);
MUST_USE enum err settlement_store_mark_put(struct settlement_store *store,
                                            const struct settlement_store_mark *mark,
                                            struct note *note);

/* The last snapshot of the state. ERR_NOT_FOUND. */
MUST_USE enum err settlement_store_snapshot_get(struct settlement_store *store, struct buf *out);
MUST_USE enum err settlement_store_snapshot_put(struct settlement_store *store,
                                                struct bytes snapshot, struct note *note);

/* Questions. ERR_NOT_FOUND where there is nothing. */
/* Where a transaction is, in the entries from `newest` (the log's last) back by `back` at least. Cost: one
 * look-up for each 65,536 entries. */
MUST_USE enum err settlement_store_tx(struct settlement_store *store, const struct digest *tx,
                                      uint64_t newest, uint64_t back, uint64_t *out_index);
MUST_USE enum err settlement_store_header(struct settlement_store *store, uint64_t height,
                                          struct buf *out);
/* Calls visit with each serialised Posting of entries first..last, in order; stops at its error. */
typedef enum err settlement_store_visit(void *context, uint64_t index, uint32_t leg,
                                        struct bytes posting);
MUST_USE enum err settlement_store_legs(struct settlement_store *store, uint64_t first,
                                        uint64_t last, settlement_store_visit *visit,
                                        void *context);
/* Entries that moved the account's money or that it sent, newest first, before index `before` (0: from the
 * newest), at most max. account: as the state has it (NULL: nothing yet); its last_index is where the
 * history begins, each entry's legs say where it goes on. Cost: the entries given, and, unless `before` is
 * one of them, those after it. */
MUST_USE enum err settlement_store_account(struct settlement_store *store,
                                           const struct ledger_account *account, uint64_t before,
                                           uint64_t *out_indexes, size_t max, size_t *out_count);

/* Batches that can never be applied, with why. */
MUST_USE enum err settlement_store_park(struct settlement_store *store, const struct digest *batch,
                                        const char *reason, struct note *note);
uint64_t settlement_store_parked(struct settlement_store *store);
