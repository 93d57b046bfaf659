/* internal.h - the inside of struct settlement, for the files of this service that are part of it. */
#pragma once

#include "services/settlement/settlement.h"
#include "shared/journal/journal.h"
#include "shared/ledger/proof.h"
#include "shared/platform/file.h"
#include "shared/tlog/store.h"

#define SNAPSHOT_MAX (UINT64_C(1) << 30) /* bytes */

struct block {
    uint64_t last_index;
    struct digest leaf; /* of its header, in the header log */
};

/* recover.c: what our last checkpoint says about the journal. */
struct settlement_vouched {
    uint64_t last_index;                 /* of the block that it ends with; 0: there is none */
    struct ledger_checkpoint checkpoint; /* height 0: none, or not ours */
    bool refuted;                        /* the replay came to another root there */
};

struct settlement {
    struct ledger *ledger;
    struct journal *journal;
    struct settlement_store *store;
    struct blob_store *blobs;
    const struct key_pair *sequencer;
    struct ledger_effects effects;
    struct buf entry;
    struct buf checkpoint;
    struct block *blocks;
    size_t block_count, block_capacity;
    uint64_t snapshot_blocks, snapshot_height;
    uint64_t checkpoint_height;
    uint64_t replayed;
    const struct settlement_agreement *agreement;
    const struct parallel *parallel;
    struct settlement_vouched vouched;
    uint64_t segment_size;   /* of the journal */
    uint64_t final;          /* entries that may be shown */
    uint64_t unindexed_legs; /* whose index is not committed */
    enum err broken; /* state and disk differ, or deposed: nothing may be answered any more */
    char log_folder[FILE_PATH_SIZE];
    char index_folder[FILE_PATH_SIZE];
    char checkpoint_path[FILE_PATH_SIZE];
    char tiles_folder[FILE_PATH_SIZE];
    struct tlog_store *tiles; /* NULL until first used; holds at most checkpoint_height headers */
    struct buf cosigned;      /* a checkpoint with cosignatures over cosigned_height headers */
    uint64_t cosigned_height; /* 0: none */
};

/* Applies the journal's entries up to until; final: they are, so the index may be committed. Stops at
 * the first that cannot be applied, what came before it is. */
MUST_USE enum err settlement_replay(struct settlement *settlement, uint64_t until, bool final,
                                    struct note *note);
void settlement_block_add(struct settlement *settlement, uint64_t last_index, struct bytes header);

/* Nothing may be answered from now on. Returns the error, never ERR_OK. */
enum err settlement_fail(struct settlement *settlement, enum err err, struct note *note);

/* ---- recover.c ---- */

/* Loads the last snapshot if index, snapshot and journal all agree; else starts at genesis with an
 * empty index. ERR_CORRUPT: what the index says was final is not in the journal. */
MUST_USE enum err settlement_state_load(struct settlement *settlement, struct bytes genesis,
                                        struct note *note);
/* Reads the checkpoint and where its last block ends, if both are there and the signature is ours. */
void settlement_vouch_read(struct settlement *settlement);
/* After each entry of the start's replay: ERR_CORRUPT (and vouched.refuted) where the checkpoint's last block ends
 * and the replay's root is not the checkpoint's. */
MUST_USE enum err settlement_vouch_check(struct settlement *settlement, struct note *note);
/* After the start's replay: do the journal's blocks lead to our last checkpoint? ERR_CORRUPT: they do not, or
 * end before it (of a replica only the former: not all of its journal is replayed). */
MUST_USE enum err settlement_lost_check(const struct settlement *settlement, struct note *note);
