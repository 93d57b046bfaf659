/* api.h - settlement's RPC methods, and the desk that gathers submissions for one sync. */
#pragma once

#include "services/settlement/cluster.h"
#include "services/settlement/public_log.h"
#include "services/settlement/publish.h"
#include "services/settlement/settlement.h"
#include "shared/crypto/keys.h"
#include "shared/rpc/rpc.h"
#include "shared/service/service.h"

/* A submission that waits for its turn and then for its answer to be final. */
struct desk_waiting {
    struct rpc_call *call;       /* or: */
    struct bus_message *message; /* forwarded by another replica */
    struct bytes signed_tx;      /* in the one or the other */
    struct settlement_result result;
    enum err err; /* taken and refused: why, with note; told once it is sure that we sequence */
    struct note note;
};

/* An account's proof that waits for the end of a block, then for the block's cosignatures. */
struct desk_proof {
    struct rpc_call *call;
    struct account_id account;
    struct buf path;
    uint64_t height; /* of the block whose state the path is of; 0: none yet */
    uint64_t since_ms;
};

/* All that the worker has. */
struct desk {
    struct service *service;
    struct cluster *cluster;
    struct settlement *settlement; /* the cluster's; changes when this replica is deposed */
    struct publisher *publisher;
    struct public_log *public_log;
    uint64_t cosigned_height; /* of the checkpoint that settlement's proofs carry */
    uint32_t cosignatures;    /* on it */
    struct desk_proof *proofs;
    size_t proof_count, proof_capacity;
    struct key_pair *sequencer;
    struct key_pair *operator_keys; /* signs settlement transactions */
    struct account_id operator_id;
    struct pool *pool;
    struct desk_waiting
        *waiting;           /* in the order they came; the first `taken` have had their turn */
    size_t refused_waiting; /* of those */
    size_t taken, waiting_count, waiting_capacity;
    bool flush_posted;
    uint64_t sealed_ms; /* monotonic: when the last block was closed */
    uint64_t seal_ms;
    struct metric *transactions, *blocks, *parked, *refused;
};

/* Binds the methods of openledger.v1.Settlement; the context of rpc_serve is a struct desk *. */
extern const struct rpc_service settlement_rpc;

/* Takes what waits, syncs, answers, publishes. On a disk error the service stops (a restart replays). */
enum err desk_flush(struct desk *desk);
/* Seals when it is time, if this replica sequences. */
void desk_tick(struct desk *desk);
/* What waits for the disk was lost with the old settlement: tells the askers to ask again. */
void desk_forget(struct desk *desk);
/* A SignedTx that another replica sent us; takes message. */
void desk_take_forwarded(struct desk *desk, struct bus_message *message);
/* Offers newer checkpoints to the public log, takes cosigned ones from it, answers who waits for a
 * proof: log_api.c. Every tick. */
void desk_publish(struct desk *desk);
/* Ends the calls that still wait for proofs: we stop. */
void desk_proofs_end(struct desk *desk);
/* Handlers of the method table. */
enum err log_get_checkpoint(void *context, struct rpc_call *call, const void *message);
enum err log_get_file(void *context, struct rpc_call *call, const void *message);
enum err log_prove_account(void *context, struct rpc_call *call, const void *message);
/* Takes a transaction of our own and syncs. */
MUST_USE enum err desk_submit(struct desk *desk, struct bytes signed_tx,
                              struct settlement_result *out_result, struct note *note);

/* The consumers of receipt and share batches: feed.c. */
MUST_USE enum err feed_start(struct desk *desk, struct note *note);
