/* internal.h - what the engine's files share: indexes.c, answers.c, outbox.c, engine.c. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "services/attribution/attribution.h"
#include "services/attribution/engine.h"
#include "shared/platform/pool.h"
#include "shared/platform/thread.h"

#define ENGINE_FAILURES_MAX 64U /* indexes that failed and are remembered */

/* An adapter in memory, ready to judge answers. */
struct engine_judge {
    char name[LEDGER_NAME_MAX + 1]; /* "": empty place */
    struct lineage_judge judge;
    struct lm_adapter *adapter; /* owned */
    struct attrib_index *index; /* owned */
    uint64_t used;              /* tick of the last use */
};

struct engine_failure {
    char name[LEDGER_NAME_MAX + 1];
    char detail[ENGINE_DETAIL_SIZE];
    uint64_t retry_at_ms;
    bool permanent;
};

struct engine {
    struct engine_options options;
    struct pool *pool;
    struct thread *thread;
    atomic_bool stop;
    struct lineage_base *base; /* the one used last */
    struct engine_judge judges[ENGINE_JUDGES_MAX];
    uint64_t tick;
    uint64_t index_at_ms, batch_at_ms; /* when to look next, monotonic */
    uint64_t progress_at_ms;
    uint64_t complain_at_ms; /* before it nothing is said of a disk that keeps answers waiting */
    struct digest pending_after; /* the pending set that the outbox looked at last */
    struct metric *answers_total, *parked_total, *batches_total;

    pthread_mutex_t lock; /* guards what follows */
    char building[LEDGER_NAME_MAX + 1];
    char building_detail[ENGINE_DETAIL_SIZE];
    struct engine_failure failures[ENGINE_FAILURES_MAX]; /* a ring */
    uint32_t failure_count;
};

bool engine_stopping(struct engine *engine);
/* service_ask; false: stopping. */
bool engine_ask(struct engine *engine, void (*question)(void *argument), void *argument);

/* indexes.c: builds and publishes one missing index, if there is one. */
void engine_indexes(struct engine *engine);
/* The judge for an adapter whose index is published. ERR_UNAVAILABLE: not yet; ERR_INVALID: never. */
MUST_USE enum err engine_judge_get(struct engine *engine, const char *adapter,
                                   const struct lineage_judge **out, struct note *note);
void engine_judges_clear(struct engine *engine);

/* answers.c: what is to be told to the queue about a message. */
enum engine_outcome { ENGINE_DONE, ENGINE_LATER, ENGINE_PARKED };
enum engine_outcome engine_answer(struct engine *engine, struct bytes data, struct note *note);

/* outbox.c: makes, announces and follows up batches. */
void engine_outbox(struct engine *engine);
