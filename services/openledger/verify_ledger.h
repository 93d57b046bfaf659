/* verify_ledger.h - checks a whole ledger from its files alone, trusting no service.
 *
 * Reads the journal's folder and the blob folder, replays from genesis with shared/ledger (the code
 * that settlement runs), recomputes every root, leg and signature, and compares with the checkpoint
 * that the sequencer signed. Then derives from the blobs what the ledger says of them: contributions
 * and versions from their rows, transcripts from their steps; every blob must be what its name says. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/amount.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/ledger/ledger.h"

struct verify_ledger_options {
    const char *log_folder; /* the journal */
    const char *blob_folder;
    const char *genesis_file;
    const char *checkpoint_file; /* NULL or "": log_folder/../checkpoint */
    /* Called after each entry, e.g. to collect what shares are to be derived again; may be NULL. An
     * error of its own stops the run. */
    enum err (*on_entry)(void *context, const struct ledger *ledger,
                         const struct ledger_effects *effects, struct bytes entry,
                         struct note *note);
    void *context;
    /* How far the replay is, now and then, of how many entries; may be NULL. */
    void (*on_progress)(void *context, uint64_t done, uint64_t total);
    void *progress_context;
};

struct verify_ledger_report {
    struct digest chain_id;
    uint64_t entries;
    uint64_t transactions;
    uint64_t blocks;
    uint64_t unsealed; /* entries behind the last seal */
    uint64_t postings;
    uint64_t signatures;    /* Ed25519 signatures checked: transactions, batches, checkpoint */
    uint64_t receipts;      /* charged */
    uint64_t share_sets;    /* settled */
    uint64_t blobs;         /* in the folder, each checked against its name */
    uint64_t contributions; /* accepted: committed root derived again from the rows */
    uint64_t versions;      /* root and contributors derived again */
    uint64_t transcripts;   /* root derived again; the adapter is there */
    struct amount supply;
    struct digest state_root;
    struct digest headers_root;
    uint64_t checkpoint_height;
    uint32_t cosignatures; /* on it, of genesis's witnesses */
};

/* ERR_OK: everything holds. Else the note names the first thing that does not: the entry's index, the
 * blob's digest, and why. *out_report is filled as far as the run came, in both cases. */
MUST_USE enum err verify_ledger(const struct verify_ledger_options *options,
                                struct verify_ledger_report *out_report, struct note *note);
