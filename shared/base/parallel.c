/* parallel.c - the serial table, and work of one's own beside tasks; see parallel.h. */
#include "shared/base/parallel.h"

#include <stdbool.h>
#include <stddef.h>

static void run_serial(void *context, uint32_t task_count,
                       void (*task)(void *argument, uint32_t index), void *argument)
{
    (void)context;
    for (uint32_t i = 0; i < task_count; i++) {
        task(argument, i);
    }
}

const struct parallel parallel_serial = {.worker_count = 1, .context = NULL, .run = run_serial};

struct beside {
    void (*task)(void *argument, uint32_t index);
    void *argument;
    void (*own)(void *own_argument);
    void *own_argument;
    bool done; /* the caller's thread's alone, as own() is */
};

/* How a task sees that it runs on the thread that called parallel_beside(). */
static _Thread_local const struct beside *called_here;

static void beside_task(void *argument, uint32_t index)
{
    struct beside *beside = argument;
    if (called_here == beside && !beside->done) {
        beside->done = true;
        beside->own(beside->own_argument);
    }
    beside->task(beside->argument, index);
}

void parallel_beside(const struct parallel *parallel, uint32_t task_count,
                     void (*task)(void *argument, uint32_t index), void *argument,
                     void (*own)(void *own_argument), void *own_argument)
{
    struct beside beside = {task, argument, own, own_argument, false};
    called_here = &beside;
    parallel->run(parallel->context, task_count, beside_task, &beside);
    called_here = NULL;
    if (!beside.done) { /* the others were faster */
        own(own_argument);
    }
}
