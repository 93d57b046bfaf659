/* split.h - how the calls of kernels.h are cut into tasks. For kernels/ only.
 *
 * How finely work is split depends on the number of workers, what is computed never does: a task is
 * a range of outputs, and each output's arithmetic is the backend's alone. */
#pragma once

#include "kernels/backend.h"
#include "shared/base/check.h"

#define GRAIN 16384        /* least elements of cheap work per task: about 5 us */
#define TASKS_PER_WORKER 2 /* evens out workers that are disturbed */

static inline size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

/* How to cut `count` items into tasks of equal `step`, a multiple of `align`. */
struct split {
    size_t count, step;
};

/* Tasks of at least `least` items, and so many that every worker has the same number of equal ones: a
 * short last task would leave the others waiting. */
static inline struct split split_make(const struct parallel *parallel, size_t count, size_t least,
                                      size_t align)
{
    const size_t workers = parallel->worker_count;
    const size_t pieces = ceil_div(count, align);
    size_t tasks = workers == 1 ? 1 : workers * TASKS_PER_WORKER;
    const size_t most = count / (least > 0 ? least : 1);
    tasks = tasks < most ? tasks : most;
    tasks = tasks < pieces ? tasks : pieces;
    tasks = tasks > workers ? tasks / workers * workers : tasks;
    const size_t step = ceil_div(pieces, tasks > 0 ? tasks : 1) * align;
    return (struct split){count, step > 0 ? step : align};
}

static inline struct kernels_range split_range(const struct split *split, uint32_t index)
{
    size_t begin = index * split->step;
    size_t left = split->count - begin;
    return (struct kernels_range){begin, begin + (left < split->step ? left : split->step)};
}

/* Runs the tasks of a split; one task needs no thread to be woken. */
static inline void split_run(const struct parallel *parallel, const struct split *split,
                             void (*task)(void *argument, uint32_t index), void *argument)
{
    size_t tasks = ceil_div(split->count, split->step);
    CHECK(tasks <= UINT32_MAX);
    if (tasks == 1) {
        task(argument, 0);
    } else if (tasks > 1) {
        parallel->run(parallel->context, (uint32_t)tasks, task, argument);
    }
}

/* Rows per task so that one task has at least GRAIN elements. */
static inline size_t rows_grain(size_t width)
{
    return GRAIN / (width > 0 ? width : 1) + 1;
}
