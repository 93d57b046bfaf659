/* pool.h - threads behind shared/base/parallel.h's table.
 *
 * Made for a model that calls run() a few hundred times per step: the caller works along, waiting
 * threads spin for some microseconds before they sleep, and tasks are taken by one atomic add. */
#pragma once

#include <stdint.h>

#include "shared/base/err.h"
#include "shared/base/parallel.h"

#define POOL_WORKERS_MAX 256

struct pool;

/* worker_count counts the caller's thread; 0: one per core this process may use. Starts
 * worker_count - 1 threads. NULL: no memory or no threads. */
MUST_USE struct pool *pool_create(uint32_t worker_count);
void pool_destroy(struct pool *pool); /* NULL is fine; not while run() is going on */

/* The table, valid until pool_destroy. run() may be called from one thread at a time. */
const struct parallel *pool_parallel(const struct pool *pool);

/* Cores this process may run on (>= 1). */
uint32_t pool_cores(void);
