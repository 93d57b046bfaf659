/* parallel.h - how pure code spreads work over cores without knowing about threads.
 *
 * Why: kernels and the model may not start threads (they do no I/O and keep no globals), yet must
 * use every core. They receive this table; shared/platform/pool.h makes one with real threads.
 *
 * Exactness: task i must compute the same bits whoever runs it and whatever runs beside it. So work
 * is split by outputs, never by splitting a sum. */
#pragma once

#include <stdint.h>

struct parallel {
    uint32_t worker_count; /* >= 1; a hint for how finely to split, never for what to compute */
    void *context;
    /* Calls task(argument, i) once for every i in [0, task_count), in any order, on any thread;
     * returns when all have returned. Not reentrant: a task may not call run. */
    void (*run)(void *context, uint32_t task_count, void (*task)(void *argument, uint32_t index),
                void *argument);
};

/* The same, and calls own(own_argument) once, on the caller's thread, while others go on with the tasks:
 * for work that must be done in order by one thread beside work that need not. own() may not call run. */
void parallel_beside(const struct parallel *parallel, uint32_t task_count,
                     void (*task)(void *argument, uint32_t index), void *argument,
                     void (*own)(void *own_argument), void *own_argument);

/* One worker: the caller's thread, ascending. Immutable, usable from any thread. */
extern const struct parallel parallel_serial;
