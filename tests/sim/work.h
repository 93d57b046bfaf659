/* work.h - what the simulated clients submit: built and signed once per process, the same for every seed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/blob/blob.h"
#include "tests/harness/ledger_world.h"

#define WORK_TASKS_MAX 160
#define WORK_TRANSFERS 30
#define WORK_BATCHES 6
#define WORK_BATCH_ITEMS 3

enum work_kind { WORK_SETUP, WORK_TRANSFER, WORK_RECEIPTS, WORK_SHARES };

struct work_task {
    enum work_kind kind;
    struct buf tx; /* SignedTx */
    struct digest id;
    size_t batch; /* RECEIPTS, SHARES */
};

struct work {
    struct world *world; /* its genesis, keys, clock */
    struct work_task tasks[WORK_TASKS_MAX];
    size_t count, setup_count; /* setup tasks come first, one after the other */
    struct blob_store *blobs;
    struct digest receipts[WORK_BATCHES], shares[WORK_BATCHES];
    struct bytes receipt_bytes[WORK_BATCHES], share_bytes[WORK_BATCHES];
};

/* blob_folder: a real one. */
void work_create(struct work *work, const char *blob_folder);
void work_destroy(struct work *work);
