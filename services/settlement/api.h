/* api.h - settlement's RPC methods, and the desk that gathers submissions for one sync. */
#pragma once

#include "services/settlement/publish.h"
#include "services/settlement/settlement.h"
#include "shared/crypto/keys.h"
#include "shared/rpc/rpc.h"
#include "shared/service/service.h"

/* A submission that waits for its entry to be on disk. */
struct desk_waiting {
    struct rpc_call *call;
    struct settlement_result result;
};

/* All that the worker has. */
struct desk {
    struct service *service;
    struct settlement *settlement;
    struct publisher *publisher;
    struct key_pair *sequencer;
    struct key_pair *operator_keys; /* signs settlement transactions */
    struct account_id operator_id;
    struct desk_waiting *waiting;
    size_t waiting_count, waiting_capacity;
    bool flush_posted;
    uint64_t sealed_ms; /* monotonic: when the last block was closed */
    uint64_t seal_ms;
    struct metric *transactions, *blocks, *parked, *refused;
};

/* Binds the methods of openledger.v1.Settlement; the context of rpc_serve is a struct desk *. */
extern const struct rpc_service settlement_rpc;

/* Syncs, answers who waits, publishes. On a disk error the service stops (a restart replays). */
enum err desk_flush(struct desk *desk);
/* Seals when it is time. */
void desk_tick(struct desk *desk);
/* Takes a transaction of our own and syncs. */
MUST_USE enum err desk_submit(struct desk *desk, struct bytes signed_tx,
                              struct settlement_result *out_result, struct note *note);

/* The consumers of receipt and share batches: feed.c. */
MUST_USE enum err feed_start(struct desk *desk, struct note *note);
