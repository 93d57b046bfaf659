/* engine.h - attribution at work: indexes, answers, batches, on a thread of its own.
 *
 *   1. every adapter on the ledger gets its index: built, stored, published by our bonded account
 *   2. answers from OL_OPENINGS are attributed once their adapter's index is published; an answer is
 *      acknowledged when its evidence and share set are durable, or when it is parked with the reason
 *   3. share sets whose receipts wait on the ledger go out in signed batches (OL_SHARES), and again in
 *      a new batch while the ledger does not take them
 *
 * What needs the ledger is asked of the worker; everything else happens on the engine's thread. */
#pragma once

#include <stdint.h>

#include "openledger/v1/services.pb-c.h"
#include "services/attribution/store.h"
#include "shared/follow/follow.h"
#include "shared/follow/operator.h"
#include "shared/service/service.h"

#define ENGINE_JUDGES_MAX 8U        /* adapters whose model and index are kept in memory */
#define ENGINE_FETCH_MAX 32U        /* answers taken at once */
#define ENGINE_BATCH_MS 300U        /* between two batches */
#define ENGINE_RETRY_MS 1000U       /* before an answer that came too early is looked at again */
#define ENGINE_INDEX_RETRY_MS 5000U /* before an index that could not be built is tried again */
#define ENGINE_DISK_RETRY_MS                                                                       \
    30000U                      /* the same, when a disk is why: the work is done again in full */
#define ENGINE_SUBMIT_MS 10000U /* the worker is held up at most so long by one transaction */
#define ENGINE_DETAIL_SIZE 200

struct engine_options {
    struct service *service; /* borrowed, as all here */
    struct follow *follow;
    struct operator_account *account;
    struct attribution_store *store;
    uint32_t threads; /* for the model; 0: one per core */
};

struct engine;

/* Declares the stream OL_SHARES and starts the thread. */
MUST_USE enum err engine_create(const struct engine_options *options, struct engine **out,
                                struct note *note);
/* NULL is fine. */
void engine_destroy(struct engine *engine);

/* What became of an adapter's index, besides what the ledger says; any thread. */
struct engine_status {
    const char *state; /* "waiting", "building", "failed" */
    char detail[ENGINE_DETAIL_SIZE];
};
void engine_index_status(struct engine *engine, const char *adapter, struct engine_status *out);
