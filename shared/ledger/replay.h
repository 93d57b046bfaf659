/* replay.h - applies a log's entries in order, with the part that needs no state done ahead on all cores.
 *
 * Decoding, hashing and checking signatures of a window of entries is spread over `parallel`
 * (ledger_prepare_entry); applying stays one by one, in the order given, on the caller's thread, beside
 * the preparation of the next window. State, effects
 * and errors are those of ledger_apply() called for each. */
#pragma once

#include "shared/base/parallel.h"
#include "shared/ledger/ledger.h"

#define LEDGER_REPLAY_ENTRIES 128      /* prepared at once, at most */
#define LEDGER_REPLAY_BYTES (8U << 20) /* of entries, after which a window is full */

struct ledger_replay_options {
    struct ledger *ledger;
    const struct ledger_blobs *blobs; /* get() is called from many threads */
    const struct parallel *parallel;
    uint64_t signed_until; /* as in ledger_prepare_entry() */
    struct ledger_effects *effects;
    /* After each entry that was applied. An error stops the replay; the entry stays applied. */
    enum err (*applied)(void *context, struct bytes entry, struct note *note);
    void *context;
};

struct ledger_replay;

/* All that options points to must stay until ledger_replay_end(); *options is copied. */
struct ledger_replay *ledger_replay_begin(const struct ledger_replay_options *options);
/* The next entry; bytes are copied. An error is of it or of one given before (see the ledger's head): from
 * then on only ledger_replay_end() may be called. */
MUST_USE enum err ledger_replay_entry(struct ledger_replay *replay, struct bytes entry,
                                      struct note *note);
/* Applies what waits, unless an error came before, and frees. */
MUST_USE enum err ledger_replay_end(struct ledger_replay *replay, struct note *note);
