/* engine.h - the thread that computes answers: many sequences, many adapters, one batch.
 *
 * Continuous batching: each step runs one token of every answer that is being written and a chunk of
 * every prompt that is being read, whatever their adapters, through the base's matrices together;
 * answers join and leave between steps. An answer's tokens do not depend on what else is in the batch
 * (DESIGN.md section 5).
 *
 * Threads: the engine owns its thread. A job belongs to it from engine_submit() until done() was
 * called; the callbacks run on the engine's thread and must not block. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "services/lora-gateway/resident.h"
#include "shared/base/buf.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/blob/blob.h"
#include "shared/lm/sample.h"

#define ENGINE_SEQUENCES_MAX 128 /* answers computed at once */
#define ENGINE_JOBS_MAX 2048     /* jobs handed over and not done */
#define ENGINE_CHUNK 128         /* prompt tokens of one sequence in one step */
#define ENGINE_ROWS_MAX 1024     /* tokens in one step */
#define ENGINE_ADAPTERS_MAX 4096
#define ENGINE_TEXT_MAX (8U << 20) /* bytes of one answer */

enum engine_end {
    ENGINE_STOP,      /* an end token or a stop sequence */
    ENGINE_LENGTH,    /* max_tokens */
    ENGINE_CANCELLED, /* the client went away, or we are stopping */
    ENGINE_FAILED     /* err and note say why */
};

/* One answer to compute. The caller fills the first part and keeps everything it points to until
 * done; the engine fills the second, which engine_job_deinit() frees. */
struct engine_job {
    const uint32_t *prompt; /* >= 1 ids */
    uint32_t prompt_count;
    uint32_t max_tokens; /* >= 1; prompt_count + max_tokens <= the model's context */
    struct lm_sampling sampling;
    const char *const *stops; /* texts that end the answer and are not part of it */
    size_t stop_count;
    struct digest adapter; /* content */

    uint32_t *ids; /* the answer, without the end token */
    uint32_t id_count;
    struct buf text; /* what the client is shown */
    enum engine_end end;
    enum err err;
    struct note note;
};
void engine_job_deinit(struct engine_job *job);

struct engine_calls {
    void *context;
    /* The base is resident, or could not be loaded (NULL; note says why). Borrowed for the engine's
     * life. */
    void (*loaded)(void *context, const struct lineage_base *base, const struct note *note);
    /* More text of an answer, whole characters. */
    void (*text)(void *context, struct engine_job *job, struct bytes text);
    /* Asked before every step: has the client gone? */
    bool (*gone)(void *context, struct engine_job *job);
    void (*done)(void *context, struct engine_job *job);
};

struct engine_options {
    struct blob_store *blobs;
    const struct kernels *kernels; /* of the base; NULL: the best of this machine */
    uint32_t workers;              /* threads for the model; 0: one per core */
    uint32_t sequences_max;        /* 1..ENGINE_SEQUENCES_MAX */
    uint32_t adapters_max;         /* resident; raised to sequences_max + 1 */
    struct engine_calls calls;
};

struct engine;

MUST_USE enum err engine_create(const struct engine_options *options, struct engine **out,
                                struct note *note);
/* Ends every job as cancelled (done is called), stops the thread. NULL is fine. */
void engine_destroy(struct engine *engine);

/* Makes the engine load this base model under its registered profile (NULL: as the file says); once,
 * and loaded() answers. After a failed load it may be asked again. Any thread. */
MUST_USE enum err engine_load(struct engine *engine, const struct digest *content,
                              const struct digest *profile);

/* Hands a job over; the base must be loaded. ERR_LIMIT: ENGINE_JOBS_MAX wait. Any thread. */
MUST_USE enum err engine_submit(struct engine *engine, struct engine_job *job);

/* For status pages; any thread. */
struct engine_status {
    uint32_t active;   /* answers being computed */
    uint32_t waiting;  /* jobs that have not started */
    uint32_t adapters; /* resident */
    uint64_t tokens;   /* generated since start */
    uint64_t steps;
};
void engine_status(struct engine *engine, struct engine_status *out);
