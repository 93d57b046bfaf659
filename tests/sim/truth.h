/* truth.h - what has become final, once and for all, and a witness that executes it by itself. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "services/settlement/replica.h"
#include "tests/sim/sim.h"

#define TRUTH_ENTRIES_MAX 4096
#define TRUTH_RECEIPTS_MAX 2048

struct truth_receipt {
    struct digest id;
    bool waiting; /* for its shares */
};

struct truth {
    struct work *work;
    struct sim_report *report;
    struct ledger *witness;
    struct ledger_effects effects;
    uint64_t count;                                /* entries */
    struct digest hashes[TRUTH_ENTRIES_MAX];       /* of entry i + 1 */
    struct digest headers[TRUTH_ENTRIES_MAX];      /* leaf of block i + 1 */
    struct digest headers_root[TRUTH_ENTRIES_MAX]; /* over the first i + 1 */
    uint64_t height;
    uint64_t promised[WORK_TASKS_MAX]; /* index that was acknowledged to a client; 0: none */
    uint64_t placed[WORK_TASKS_MAX];   /* index that it has in the final log; 0: none */
    bool charged[WORK_BATCHES][WORK_BATCH_ITEMS];
    uint32_t charges, payouts;
    struct truth_receipt receipts[TRUTH_RECEIPTS_MAX]; /* charged; each once */
    size_t receipt_count, waiting;
    uint32_t overdue; /* sent to a treasury */
    uint64_t epoch, epochs;
};

void truth_start(struct truth *truth, struct work *work, struct sim_report *report);
void truth_end(struct truth *truth);

/* What a node has been checked for, in this life of its process. */
struct truth_view {
    uint64_t entries, headers, checkpoint;
};
/* Compares all that a replica shows. unreadable: its disk is failing, what cannot be read is passed over. */
void truth_check(struct truth *truth, uint32_t node, struct replica *replica,
                 struct truth_view *view, bool unreadable);
/* A client was told: task is final at index. */
void truth_promise(struct truth *truth, size_t task, uint64_t index);
/* Is the receipt charged? */
bool truth_charged(const struct truth *truth, const struct digest *receipt);
/* At the end: everything that was promised is there; totals fit. */
void truth_conclude(struct truth *truth);
