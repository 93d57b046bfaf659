/* parallel.c - the serial table; see parallel.h. */
#include "shared/base/parallel.h"

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
