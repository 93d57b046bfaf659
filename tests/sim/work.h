/* work.h - what the simulated clients submit: built and signed once per process, the same for every seed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/blob/blob.h"
#include "tests/harness/ledger_world.h"

#define WORK_TASKS_MAX 1280
#define WORK_TRANSFERS 30
#define WORK_BATCHES 6
#define WORK_BATCH_ITEMS 3
#define WORK_GRANTS 2
#define WORK_WITNESSES 3
#define WORK_DEADLINE 40    /* blocks that a part waits for its shares */
#define WORK_BRIEF_MS 4500  /* how long the second grant lasts, of simulated time */
#define WORK_CLOCK_MS 60000 /* what the simulated clocks are ahead of the world's */

enum work_kind {
    WORK_SETUP,
    WORK_TRANSFER,
    WORK_RECEIPTS,
    WORK_SHARES,
    WORK_GRANT, /* for the gateways; the second expires in the middle of a history */
    WORK_CLOSE, /* of that one */
    /* What gateways and attribution make while a history runs: */
    WORK_LEASE,
    WORK_CHARGE,
    WORK_SHARE,
    WORK_FALSE /* shares that no ledger may take */
};

struct work_task {
    enum work_kind kind;
    struct buf tx; /* SignedTx */
    struct digest id;
    size_t batch;          /* RECEIPTS, SHARES */
    struct digest grant;   /* LEASE, CHARGE */
    uint32_t lease;        /* LEASE */
    struct digest blob;    /* CHARGE, SHARE, FALSE */
    struct digest receipt; /* the first one of the batch: CHARGE, SHARE, FALSE */
};

struct work {
    struct world *world; /* its genesis, keys, clock */
    struct work_task tasks[WORK_TASKS_MAX];
    size_t count, setup_count; /* setup tasks come first, one after the other */
    size_t fixed_count;        /* of every history; the rest is this one's own */
    struct digest grants[WORK_GRANTS];
    struct key_pair *witnesses[WORK_WITNESSES];
    struct blob_store *blobs;
    struct digest receipts[WORK_BATCHES], shares[WORK_BATCHES];
    struct bytes receipt_bytes[WORK_BATCHES], share_bytes[WORK_BATCHES];
};

/* blob_folder: a real one. */
void work_create(struct work *work, const char *blob_folder);
void work_destroy(struct work *work);

/* Adds a task of this history: built and signed now, its nonce drawn from `random`. NULL: no room. */
struct work_task *work_make(struct work *work, enum work_kind kind, enum world_who who,
                            uint64_t random, Openledger__V1__TxBody *body);
/* Forgets those of the last history, and their blobs. */
void work_forget(struct work *work);
