/* jobs.h - the trainer at work: the queue, the one job in hand, its progress.
 *
 * Two threads. The *worker* owns the ledger's copy: it claims, completes and fails jobs, puts jobs on
 * the queue and answers calls. The *job thread* takes one job at a time from the queue, trains on
 * copies, and asks the worker when it needs the ledger.
 *
 *   ledger: queued --claim--> claimed --complete--> completed
 *                                 \----fail-------> failed
 *
 * The queue only says "look at this job": every message may come twice, late, or never. What is true
 * is on the ledger; jobs_tick() puts unfinished jobs that nobody works on back on the queue. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "openledger/v1/services.pb-c.h"
#include "services/trainer/store.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/follow/follow.h"
#include "shared/follow/operator.h"
#include "shared/service/service.h"

#define JOBS_PROGRESS_MAX 64   /* jobs whose latest progress is kept in memory */
#define JOBS_WATCHERS_MAX 256  /* open WatchJob streams; then ERR_LIMIT */
#define JOBS_SUBMIT_MS 10000   /* the worker is held up at most so long by one transaction */
#define JOBS_REQUEUE_MS 30000  /* between two messages for one unfinished job */
#define JOBS_ACK_WAIT_MS 60000 /* the queue gives a job to another trainer after this silence */
#define JOBS_STATE_SIZE 16
#define JOBS_DETAIL_SIZE 160
#define JOBS_SUBJECT "ol.jobs.train"
#define JOBS_PROGRESS_SUBJECT "ol.progress.train"

/* The latest that is known of a job. */
struct jobs_progress {
    struct digest job;
    char state[JOBS_STATE_SIZE];
    uint32_t step, steps;
    double loss, learning_rate, tokens_per_second;
    char detail[JOBS_DETAIL_SIZE];
};

struct kernels;
struct jobs_options {
    struct service *service; /* borrowed, as all here */
    struct follow *follow;
    struct operator_account *operator_account;
    const struct kernels *kernels; /* of the base; NULL: the best of this machine */
    uint32_t threads;              /* for the model; 0: one per core */
    uint32_t save_every;           /* steps between checkpoints */
    uint32_t micro_batch_rows;     /* as struct trainer_hooks', as is recompute */
    bool recompute;
};

struct jobs;

/* Declares the stream and starts the job thread. */
MUST_USE enum err jobs_create(const struct jobs_options *options, struct jobs **out,
                              struct note *note);
/* Stops the job in hand at its next step, with a checkpoint. NULL is fine. */
void jobs_destroy(struct jobs *jobs);

/* ---- worker only ---- */

/* Puts a job on the queue. ERR_UNAVAILABLE: the bus is away; jobs_tick() will do it. */
MUST_USE enum err jobs_enqueue(struct jobs *jobs, const struct digest *job, struct note *note);

/* Housekeeping, several times a second: requeues, ends streams of finished jobs. */
void jobs_tick(struct jobs *jobs, uint64_t now_ms);

/* Takes in an encoded TrainProgress, from any trainer. */
void jobs_on_progress(struct jobs *jobs, struct bytes data);

/* What is known of a job's progress: from memory, else from Redis. False: nothing. */
bool jobs_progress_get(struct jobs *jobs, const struct digest *job, struct jobs_progress *out);

/* Sends call every progress of the job until it is done; takes the call over (rpc_defer). */
MUST_USE enum err jobs_watch(struct jobs *jobs, struct rpc_call *call, const struct digest *job);

/* The encoded form; strings are borrowed from progress. */
Openledger__V1__TrainProgress jobs_progress_message(const struct jobs_progress *progress);
