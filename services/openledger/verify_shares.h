/* verify_shares.h - derives every opened answer's shares again and compares them with what was paid.
 *
 * The second half of `openledger verify`. While verify_ledger() replays the log, verify_shares_entry()
 * collects the published indexes, receipts and share sets. Then, from base model, adapter and rows
 * alone, each index is built again and must have the digest on the ledger; and each opening (a file
 * with a serialised Opening, published by whoever paid for the answer) must give the very ShareSet
 * bytes that were settled. Uses the code that the attribution service runs, and nothing it says. */
#pragma once

#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/ledger/ledger.h"

#define VERIFY_OPENINGS_MAX 100000U        /* files in the openings' folder */
#define VERIFY_OPENING_SIZE_MAX (4U << 20) /* bytes of one opening */

struct verify_shares_options {
    const char *blob_folder;
    const char *openings_folder;
    uint32_t threads; /* for the model; 0: one per core */
    /* Called with each thing that is being done ("index of adapter x"); may be NULL. */
    void (*progress)(void *context, const char *what, uint32_t done, uint32_t total);
    void *context;
};

struct verify_shares_report {
    uint32_t indexes;    /* built again, digests equal */
    uint32_t rows;       /* in them */
    uint32_t openings;   /* read, and opening their receipts */
    uint32_t share_sets; /* derived again, bytes equal */
    uint32_t unshared; /* openings of receipts whose part went to the treasury for want of shares */
    uint32_t unopened; /* share sets on the ledger that no opening is given for */
};

struct verify_shares;

/* options is kept (borrowed). */
MUST_USE enum err verify_shares_create(const struct verify_shares_options *options,
                                       struct verify_shares **out, struct note *note);
void verify_shares_destroy(struct verify_shares *shares); /* NULL is fine */

/* A verify_ledger_options.on_entry; context is the struct verify_shares. */
MUST_USE enum err verify_shares_entry(void *context, const struct ledger *ledger,
                                      const struct ledger_effects *effects, struct bytes entry,
                                      struct note *note);

/* After the replay. ERR_OK: everything agrees. Else the note names the first thing that does not:
 * which adapter's index, which receipt, which contributor got what instead of what. *out_report is
 * filled as far as the run came, in both cases. */
MUST_USE enum err verify_shares_run(struct verify_shares *shares,
                                    struct verify_shares_report *out_report, struct note *note);
