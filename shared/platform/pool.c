/* pool.c - see pool.h.
 *
 * One round of run(): the caller publishes the job and raises `round`, works along, then waits until
 * every helper has reported the round done. Helpers spin on `round` for a while and then sleep in
 * futex(2) on it; the caller does the same on `busy`. A helper that saw a round always reports it,
 * so the job's fields are never read after run() returned. */
#include "shared/platform/pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shared/base/check.h"
#include "shared/platform/thread.h"

enum { SPIN_COUNT = 2000 }; /* some 10-20 us: the gap between two kernels of one model step */

struct pool {
    struct parallel table;
    uint32_t helper_count;
    struct thread *helpers[POOL_WORKERS_MAX];
    void (*task)(void *argument, uint32_t index);
    void *argument;
    uint32_t task_count;
    atomic_bool stop;
    _Alignas(64) _Atomic uint32_t round; /* its own cache lines: everyone spins here */
    _Atomic uint32_t sleeping;           /* helpers inside futex wait */
    _Alignas(64) _Atomic uint32_t next;
    _Alignas(64) _Atomic uint32_t busy; /* helpers not yet done with this round */
    _Atomic uint32_t caller_sleeps;
};

static void futex_wait(_Atomic uint32_t *word, uint32_t expected)
{
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int count)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void work(struct pool *pool)
{
    for (;;) {
        uint32_t index = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (index >= pool->task_count) {
            return;
        }
        pool->task(pool->argument, index);
    }
}

/* Waits until *word differs from value; counts itself in *sleeping while it sleeps. */
static void wait_change(_Atomic uint32_t *word, uint32_t value, _Atomic uint32_t *sleeping)
{
    for (int i = 0; i < SPIN_COUNT; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != value) {
            return;
        }
        relax();
    }
    while (atomic_load(word) == value) {
        (void)atomic_fetch_add(sleeping, 1); /* before the kernel looks at the word again */
        futex_wait(word, value);
        (void)atomic_fetch_sub(sleeping, 1);
    }
}

static void helper(void *argument)
{
    struct pool *pool = argument;
    for (uint32_t seen = 0;;) {
        wait_change(&pool->round, seen, &pool->sleeping);
        seen = atomic_load(&pool->round);
        if (atomic_load(&pool->stop)) {
            return;
        }
        work(pool);
        if (atomic_fetch_sub(&pool->busy, 1) == 1 && atomic_load(&pool->caller_sleeps) != 0) {
            futex_wake(&pool->busy, 1);
        }
    }
}

static void start_round(struct pool *pool)
{
    (void)atomic_fetch_add(&pool->round, 1);
    if (atomic_load(&pool->sleeping) != 0) {
        futex_wake(&pool->round, INT_MAX);
    }
}

static void run(void *context, uint32_t task_count, void (*task)(void *argument, uint32_t index),
                void *argument)
{
    struct pool *pool = context;
    CHECK(task_count <= UINT32_MAX - POOL_WORKERS_MAX); /* `next` runs past it by the workers */
    if (pool->helper_count == 0 || task_count <= 1) {
        for (uint32_t i = 0; i < task_count; i++) {
            task(argument, i);
        }
        return;
    }
    pool->task = task;
    pool->argument = argument;
    pool->task_count = task_count;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->busy, pool->helper_count);
    start_round(pool);
    work(pool);
    for (uint32_t left; (left = atomic_load(&pool->busy)) != 0;) {
        wait_change(&pool->busy, left, &pool->caller_sleeps);
    }
}

uint32_t pool_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) < 1) {
        return 1;
    }
    int count = CPU_COUNT(&set);
    return count > POOL_WORKERS_MAX ? POOL_WORKERS_MAX : (uint32_t)count;
}

struct pool *pool_create(uint32_t worker_count)
{
    worker_count = worker_count == 0 ? pool_cores() : worker_count;
    CHECK(worker_count <= POOL_WORKERS_MAX);
    struct pool *pool = aligned_alloc(64, sizeof *pool);
    if (pool == NULL) {
        return NULL;
    }
    *pool = (struct pool){
        .table = {.worker_count = worker_count, .context = pool, .run = run},
    };
    for (; pool->helper_count + 1 < worker_count; pool->helper_count++) {
        if (thread_start("pool", helper, pool, &pool->helpers[pool->helper_count], NULL) !=
            ERR_OK) {
            pool_destroy(pool);
            return NULL;
        }
    }
    return pool;
}

void pool_destroy(struct pool *pool)
{
    if (pool == NULL) {
        return;
    }
    atomic_store(&pool->stop, true);
    start_round(pool);
    for (uint32_t i = 0; i < pool->helper_count; i++) {
        thread_join(pool->helpers[i]);
    }
    free(pool);
}

const struct parallel *pool_parallel(const struct pool *pool)
{
    return &pool->table;
}
