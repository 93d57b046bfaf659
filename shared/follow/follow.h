/* follow.h - a service's own live copy of the ledger, made by executing every entry itself.
 *
 * Why: services decide on ledger facts (who owns a datanet, what a grant still holds) thousands of
 * times a second and must not ask, nor trust, a peer each time. A follower takes the log from
 * settlement, checks the hash chain, runs shared/ledger over it, and tells its service of each entry.
 *
 * Sources: a background thread catches up by Settlement.GetEntries and then listens to the stream
 * OL_LEDGER; when the stream is silent, gone or has a gap it polls settlement again. Entries that name
 * a batch wait until its blob is in the blob store.
 *
 * Threads: everything here but follow_open's own fetching thread runs on one thread, the service's
 * worker: it calls follow_pump() when woken (and now and then anyway), and only there are entries
 * applied and on_entry called. So the ledger never changes while the worker looks at it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "openledger/v1/ledger.pb-c.h"
#include "shared/base/account_id.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/blob/blob.h"
#include "shared/bus/bus.h"
#include "shared/crypto/keys.h"
#include "shared/ledger/ledger.h"

#define FOLLOW_QUEUE_MAX 4096 /* entries fetched and not yet applied; then fetching waits */

struct follow;

/* Called on the worker after an entry was applied: effects and entry are borrowed for the call, the
 * ledger stands right after the entry. It must not submit. */
typedef void follow_on_entry(void *context, const struct ledger *ledger,
                             const struct ledger_effects *effects, struct bytes entry);

struct follow_options {
    struct bus *bus;             /* borrowed */
    struct blob_store *blobs;    /* borrowed; where batches are found */
    const char *genesis_file;    /* NULL or "": taken from Settlement.GetInfo (trusts it once) */
    follow_on_entry *on_entry;   /* may be NULL */
    void (*wake)(void *context); /* entries wait: called on another thread, must only enqueue a
                                    follow_pump() on the worker; may be NULL: then pump by timer */
    void *context;               /* of both */
};

/* Starts following in the background; returns at once. ERR_INVALID: bad genesis file. */
MUST_USE enum err follow_open(const struct follow_options *options, struct follow **out_follow,
                              struct note *note);
void follow_close(struct follow *follow); /* NULL is fine */

/* Applies what has arrived, at most 256 entries, and calls on_entry for each. Returns how many. Never
 * blocks longer than that work. Aborts when an entry contradicts the chain (our ledger or theirs is
 * wrong: going on would be worse). */
uint32_t follow_pump(struct follow *follow);

/* NULL until the genesis is known (at once with a genesis file). Borrowed until the next pump. */
const struct ledger *follow_ledger(const struct follow *follow);
/* True once we have applied all that settlement had when we last asked. */
bool follow_caught_up(const struct follow *follow);
/* Pumps until caught up or timeout_ms passed. ERR_TIMEOUT. */
MUST_USE enum err follow_wait(struct follow *follow, uint32_t timeout_ms, struct note *note);

/* Signs action by keys, whose owner is sender, submits it (the same transaction again until
 * answered), and pumps until it is applied here. Blocks the worker up to timeout_ms (0: 15 s).
 * action: a TxBody with only its oneof set. Settlement's refusals come back as they are (ERR_FUNDS,
 * ERR_CONFLICT, ... with its note). ERR_TIMEOUT, ERR_UNAVAILABLE: unknown whether it was taken:
 * look at the ledger later. out_tx and out_index may be NULL. */
MUST_USE enum err follow_submit(struct follow *follow, Openledger__V1__TxBody *action,
                                const struct account_id *sender, const struct key_pair *keys,
                                uint32_t timeout_ms, struct digest *out_tx, uint64_t *out_index,
                                struct note *note);
/* The same for bytes that somebody else signed (a SignedTx that a client sent us). */
MUST_USE enum err follow_submit_signed(struct follow *follow, struct bytes signed_tx,
                                       uint32_t timeout_ms, struct digest *out_tx,
                                       uint64_t *out_index, struct note *note);

/* Makes sure that keys' account is open under name: submits OpenAccount when it is not. What a
 * service with its own operator account does after it has caught up. */
MUST_USE enum err follow_ensure_account(struct follow *follow, const struct key_pair *keys,
                                        const char *name, uint32_t timeout_ms, struct note *note);
