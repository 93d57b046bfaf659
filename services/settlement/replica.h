/* replica.h - one replica of the ledger: does what epoch.h decides, on journal, state and bus.
 *
 * It owns the struct settlement. While it leads, settlement_sync() blocks until a majority has the entries
 * on disk, working on messages meanwhile; while it follows, it puts the sequencer's entries into its journal
 * and applies those that are final. When it is deposed it opens the settlement again from what is final:
 * pointers into the old one die, `opened` says so. A lone replica (replicas 1) always leads and needs no bus.
 *
 * Time, messages and claims come through hands, so that tests/sim can run this very code. One thread. */
#pragma once

#include "services/settlement/epoch.h"
#include "services/settlement/settlement.h"

struct replica_hands {
    void *context;
    uint64_t (*now_ms)(void *context);   /* monotonic */
    uint64_t (*clock_ms)(void *context); /* the time that entries carry */
    uint64_t (*random)(void *context);
    /* May lose it. */
    void (*send)(void *context, uint32_t to, struct bytes message);
    /* The next message for us, while we wait. ERR_TIMEOUT: none came; ERR_CANCELLED: we are stopping. */
    enum err (*receive)(void *context, uint64_t timeout_ms, struct buf *out);
    /* Claims the next epoch, a number above `above`, for us. ERR_CONFLICT: another did. */
    enum err (*claim)(void *context, uint64_t above, uint64_t *out_epoch);
    /* The settlement is (again) open; what was submitted to the one before and is not final has been
     * forgotten. Called by replica_open, too. */
    void (*opened)(void *context, struct settlement *settlement);
    /* Another replica came to another root: one of the two is wrong. May be NULL. */
    void (*differs)(void *context, uint32_t replica, uint64_t height);
};

struct replica_options {
    struct epoch_config epoch;
    struct settlement_options settlement; /* agreement and final are the replica's to set */
    struct replica_hands hands;
};

struct replica;

/* Strings and genesis must stay until replica_close(). */
MUST_USE enum err replica_open(const struct replica_options *options, struct replica **out_replica,
                               struct note *note);
void replica_close(struct replica *replica); /* NULL is fine */

/* A message that came for us. What is malformed, badly signed or meant for another is ignored. Errors are
 * our own disk's or state's: the process must end and start again. */
MUST_USE enum err replica_receive(struct replica *replica, struct bytes message, struct note *note);
/* Call every heartbeat_ms / 2. */
MUST_USE enum err replica_tick(struct replica *replica, struct note *note);

struct settlement *replica_settlement(struct replica *replica);
bool replica_leads(const struct replica *replica);
/* Who does, as far as we know; 0: nobody. */
uint32_t replica_leader(const struct replica *replica);
/* A block should be closed though it is empty: a newcomer waits for it. */
bool replica_wants_entry(const struct replica *replica);
const struct epoch *replica_epoch(const struct replica *replica);
