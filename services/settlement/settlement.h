/* settlement.h - the sequencer: checks, numbers and writes entries; seals blocks; signs checkpoints.
 *
 * Truth is the journal in folder/log. A transaction is applied to the state in memory, appended, and
 * answered only after settlement_sync() put it on disk: what was answered survives kill -9, what was
 * not may be submitted again. When writing fails the state is ahead of the disk: every later call
 * gives ERR_IO, and the process must end and start again from the journal.
 *
 * Everything else in folder (index/, checkpoint) is derived and may be deleted. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "services/settlement/store.h"
#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/blob/blob.h"
#include "shared/crypto/keys.h"
#include "shared/ledger/ledger.h"

struct settlement;

/* How replicas agree on what is final: settlement_sync() puts it around its own sync. */
struct settlement_agreement {
    void *context;
    /* Entries up to count are in the journal, not yet on our disk: offer them to the others. */
    void (*offer)(void *context, uint64_t count);
    /* They are on our disk: returns when they are final. An error: we are not the sequencer any more,
     * and nothing beyond what was final before may be shown. */
    enum err (*wait)(void *context, uint64_t count, struct note *note);
    /* Returns when a majority has said, asked from now on, that we are the sequencer. Errors as wait. */
    enum err (*confirm)(void *context, struct note *note);
};

struct parallel;
struct settlement_options {
    const char *folder;               /* made when missing */
    const char *index_folder;         /* of the derived index; NULL: folder/index */
    struct bytes genesis;             /* the file's bytes; copied */
    struct blob_store *blobs;         /* borrowed */
    const struct key_pair *sequencer; /* borrowed; must be the genesis's sequencer_key */
    uint64_t snapshot_blocks;         /* blocks between snapshots; 0: 1,000 */
    uint64_t segment_size;            /* of the journal; 0: its default */
    const struct parallel *parallel;  /* borrowed; NULL: the caller's thread alone */
    /* NULL: the only replica, all of the journal is final. Else borrowed, and entries of the journal
     * beyond `final` (and beyond what the index knows to be final) are not applied at opening. */
    const struct settlement_agreement *agreement;
    uint64_t final;
};

/* Recovers from the journal: loads the last snapshot, replays what follows, rebuilds the index where
 * it does not fit. ERR_CORRUPT, ERR_NOT_FOUND: an entry cannot be replayed (note: which, why).
 * ERR_DENIED: the key is not the genesis's sequencer. */
MUST_USE enum err settlement_open(const struct settlement_options *options,
                                  struct settlement **out_settlement, struct note *note);
void settlement_close(struct settlement *settlement); /* NULL is fine */

const struct ledger *settlement_ledger(const struct settlement *settlement);
struct settlement_store *settlement_index(struct settlement *settlement);
/* Root of the state now. */
void settlement_state_root(struct settlement *settlement, struct digest *out_root);
const char *settlement_log_folder(const struct settlement *settlement);
/* How it started, for the log: entries replayed, bytes of a torn tail that were cut off. */
uint64_t settlement_replayed(const struct settlement *settlement);
uint64_t settlement_torn_size(const struct settlement *settlement);

struct settlement_result {
    struct digest tx;
    uint64_t index;
    bool repeated; /* it was on the ledger already */
};
/* Takes a transaction: the same one again gives the same result. Not durable before
 * settlement_sync(). Errors as ledger_apply(); ERR_IO: see above. */
MUST_USE enum err settlement_submit(struct settlement *settlement, struct bytes signed_tx,
                                    uint64_t now_ms, struct settlement_result *out_result,
                                    struct note *note);

/* Many at once: what needs no state (decoding, hashes, signatures, a batch's bytes) is done on all cores,
 * then each is taken in the order given, as settlement_submit() would. Fills err, result and note. */
struct settlement_submission {
    struct bytes signed_tx; /* borrowed */
    enum err err;
    struct settlement_result result;  /* when ERR_OK */
    struct note note;                 /* else */
    struct ledger_prepared *prepared; /* its own */
};
#define SETTLEMENT_GROUP_MAX 4096 /* submissions at once */
void settlement_submit_many(struct settlement *settlement, struct settlement_submission *items,
                            size_t count, uint64_t now_ms);

/* Puts everything taken so far on disk, waits until it is final, and signs the checkpoint of the last
 * block. ERR_UNAVAILABLE: deposed; close and open again. */
MUST_USE enum err settlement_sync(struct settlement *settlement, struct note *note);
/* As settlement_sync(), and what was seen of the state before the call was the newest: no other replica had
 * become the sequencer. A refusal must not be told before: it may be of a state that others have left behind. */
MUST_USE enum err settlement_confirm(struct settlement *settlement, struct note *note);
/* Entries that are final: on disk here, or at a majority of replicas. */
uint64_t settlement_durable(const struct settlement *settlement);

/* ---- as one of several replicas ---- */

/* Its journal, for replication; borrowed. */
struct journal *settlement_journal(struct settlement *settlement);
/* Applies the journal's entries up to index: they are final. ERR_NOT_FOUND: a batch's blob is not at
 * hand yet, what came before it is applied; any other error: this replica's state cannot be right. */
MUST_USE enum err settlement_follow(struct settlement *settlement, uint64_t index,
                                    struct note *note);
/* Becomes the sequencer of epoch: applies the rest of the journal and closes a block in the new epoch,
 * whose seal makes all of it final. ERR_UNAVAILABLE: deposed again. */
MUST_USE enum err settlement_lead(struct settlement *settlement, uint64_t epoch, uint64_t now_ms,
                                  struct note *note);
/* RFC 6962 leaf of the header of a block, 1..height: what replicas compare. */
const struct digest *settlement_header_leaf(const struct settlement *settlement, uint64_t height);

/* Should a block be closed: are there transactions in it, or do parts wait for a deadline? */
bool settlement_wants_seal(const struct settlement *settlement);
/* Closes the block, and syncs. */
MUST_USE enum err settlement_seal(struct settlement *settlement, uint64_t now_ms,
                                  struct note *note);

/* Appends the bytes of entry index (from 1). ERR_RANGE; ERR_LIMIT: out's ceiling. */
MUST_USE enum err settlement_entry(struct settlement *settlement, uint64_t index, struct buf *out,
                                   struct note *note);
/* The signed note over all blocks so far; empty before the first. Borrowed until the next seal. */
struct bytes settlement_checkpoint(const struct settlement *settlement);
/* The block that entry index is in; 0: not sealed yet. */
uint64_t settlement_height_of(const struct settlement *settlement, uint64_t index);

/* ---- the public log and proofs: prove.c ---- */

/* Brings the tiles of the header log (folder/tiles) up to the newest checkpoint and writes the partial
 * ones. *out_size: headers in them. They are derived: what does not fit the ledger is made anew. */
MUST_USE enum err settlement_tiles(struct settlement *settlement, uint64_t *out_size,
                                   struct note *note);
const char *settlement_tiles_folder(const struct settlement *settlement);
/* A checkpoint of ours over the first height headers, with the cosignatures it got (copied): proofs of what
 * is under it carry it from now on. */
void settlement_cosigned(struct settlement *settlement, uint64_t height, struct bytes checkpoint);

/* Appends a serialised InclusionProof of entry index, or of its leg. ERR_UNAVAILABLE: not sealed. */
MUST_USE enum err settlement_prove_entry(struct settlement *settlement, uint64_t index,
                                         struct buf *out, struct note *note);
MUST_USE enum err settlement_prove_leg(struct settlement *settlement, uint64_t index, uint32_t leg,
                                       struct buf *out, struct note *note);
/* A proof of an account's state is made in two steps, as the state moves on while the checkpoint over
 * its block waits for cosignatures. First the way through the state: *out_height is the block whose
 * state it is. ERR_UNAVAILABLE: entries came after the last seal; seal, then ask again. */
MUST_USE enum err settlement_account_path(struct settlement *settlement,
                                          const struct account_id *account, struct buf *out_path,
                                          uint64_t *out_height, struct note *note);
/* Then, at any time later, the rest: appends a serialised StateProof. */
MUST_USE enum err settlement_account_proof(struct settlement *settlement, struct bytes path,
                                           uint64_t height, struct buf *out, struct note *note);
