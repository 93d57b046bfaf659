/* float_sweep.h - the elementary functions and the 16-bit formats over ranges of all float32 numbers,
 * against libm in double: every one of them by `make exhaustive`, a part by test_kernels_math.
 *
 * The bounds are those that kernels.h states. libm's double functions are off by less than 2^-28 of a
 * float's last place, which the bounds leave room for. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { FLOAT_SWEEP_EXP, FLOAT_SWEEP_LOG, FLOAT_SWEEP_SIN, FLOAT_SWEEP_COS, FLOAT_SWEEP_COUNT };

struct float_sweep {
    double worst[FLOAT_SWEEP_COUNT]; /* errors in units in the last place */
    float at[FLOAT_SWEEP_COUNT];     /* where */
    char failure[160];               /* the first; empty: none */
};

/* Error in units in the last place of a float near want (denormals: of the smallest). */
double float_sweep_ulps(float got, double want);

/* Checks the floats with bits first, first + step, ... below end and adds to sweep (zeroed before the
 * first call). For each: exp, log, sin, cos within their bounds or their value outside the domain; exp
 * of every backend that runs here equal to kernels_expf; bf16 and f16 rounded to nearest even. */
void float_sweep_run(uint64_t first, uint64_t end, uint64_t step, struct float_sweep *sweep);

/* Widening of all 65,536 bf16 and f16 numbers. */
void float_sweep_widening(struct float_sweep *sweep);

/* One line for each function: name, worst error, where. */
void float_sweep_print(const struct float_sweep *sweep);
