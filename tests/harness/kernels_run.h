/* kernels_run.h - runs one operation on every backend and every number of workers and compares bits:
 * odd shapes, odd numbers, nothing written outside the outputs. For test_kernels_*.c. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

#define POOL 1000000 /* input numbers */

/* What an operation under test is given. */
struct run {
    const struct kernels *kernels;
    const struct parallel *parallel;
    size_t size; /* what the case makes of it */
    const float *pool;
    size_t pool_used;
    uint32_t inputs; /* handed out */
    uint32_t *area;  /* bits, so that sentinels survive copying */
    size_t area_used;
};
typedef void op_fn(struct run *run);

extern float pool_plain[POOL]; /* in [-2, 2) */
extern float pool_odd[POOL];   /* with zeros, denormals, infinities and NaN among them */
void pools_fill(void);         /* before anything else */

/* The next `count` numbers of the pool, copied so that they end where readable memory ends. An operation
 * that changes them, or reads past them, is found. */
const float *in(struct run *run, size_t count);

/* An output with gaps on both sides, filled with numbers from the pool; or with zeros, as gradients
 * and moments are. */
float *out(struct run *run, size_t count);
float *out_zero(struct run *run, size_t count);

/* Runs op on every backend, workers 1, 2, 3, 7 in an odd order, plain and odd numbers; aborts the
 * check unless all give the bits of scalar with one worker (NaNs are one class). */
void same_everywhere(op_fn *op, size_t size, bool odd_too);
