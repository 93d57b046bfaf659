/* stage.h - how the `cuda` backend moves host memory to the device and back. Private to kernels/cuda.
 *
 * Why a staging backend: every caller of kernels.h can run on the device, and is held to the scalar
 * bits by the same tests. Weights that a caller says will stay (kernels_keep) are copied once;
 * activations are copied for each call, and that is its speed: who wants the device's keeps everything there
 * (cuda.h). So it is never chosen unless named.
 *
 * One context for the process, behind a lock, made at first use and again when a call needs more
 * memory. A device that fails in the middle of a call leaves no result to return: the process ends,
 * with the failed call's name in the log. */
#pragma once

#include "kernels/backend.h"
#include "kernels/cuda/cuda.h"

/* Takes the lock; the context can hold `size` bytes in up to 16 buffers. */
struct cuda *stage_begin(size_t size);
/* Waits for the results and gives the lock back. */
void stage_end(struct cuda *cuda);

/* kernels_keep and kernels_forget: see kernels.h. */
#define STAGE_KEPT_MAX 64
enum err stage_keep(const void *data, size_t size, struct note *note);
void stage_forget(const void *data);
/* Where the copy of kept bytes lies on the device; NULL: they are not kept, or not 16-byte aligned there,
 * as weights have to be. */
const void *stage_kept(const void *data, size_t size);

/* Device memory until stage_end. Never NULL. */
void *stage_take(struct cuda *cuda, size_t size);

/* Rows of `width` bytes, `stride` apart on the host, close together on the device. */
struct cuda_rows stage_rows(size_t count, size_t width, size_t stride);
void *stage_put(struct cuda *cuda, const void *host, size_t count, size_t width, size_t stride);
void stage_fetch(struct cuda *cuda, const void *device, void *host, size_t count, size_t width,
                 size_t stride);
/* The same for one run of bytes. */
void *stage_put_flat(struct cuda *cuda, const void *host, size_t size);
void stage_fetch_flat(struct cuda *cuda, const void *device, void *host, size_t size);

/* backend_rows.c's part of the table. */
void stage_rmsnorm(struct kernels_range rows, size_t width, float eps, const float *x,
                   const float *weight, float *y, float *inv);
void stage_rmsnorm_dx(const struct kernels_rmsnorm_backward *args, struct kernels_range rows);
void stage_rmsnorm_dweight(const struct kernels_rmsnorm_backward *args,
                           struct kernels_range columns);
void stage_rope(const struct kernels_rope *args, struct kernels_range rows);
void stage_cross_entropy(const struct kernels_cross_entropy *args, struct kernels_range rows);
void stage_swiglu(size_t count, const float *gate, const float *up, float *out);
void stage_swiglu_backward(size_t count, const float *gate, const float *up, const float *dy,
                           float *dgate, float *dup);
void stage_add(size_t count, const float *a, const float *b, float *out);
void stage_scale(size_t count, float scale, const float *x, float *out);
void stage_axpy(size_t count, float scale, const float *x, float *y);
void stage_exp(size_t count, const float *x, float *out);
void stage_adamw(const struct kernels_adamw *args, const struct kernels_adamw_factors *factors,
                 struct kernels_range range);
float stage_sum(size_t count, const float *x);
float stage_sum_squares(size_t count, const float *x);
float stage_max(size_t count, const float *x);
bool stage_all_finite(size_t count, const float *x);

#define STAGE_ROWS_TABLE                                                                           \
    .rmsnorm = stage_rmsnorm, .rmsnorm_dx = stage_rmsnorm_dx,                                      \
    .rmsnorm_dweight = stage_rmsnorm_dweight, .rope = stage_rope,                                  \
    .cross_entropy = stage_cross_entropy, .swiglu = stage_swiglu,                                  \
    .swiglu_backward = stage_swiglu_backward, .add = stage_add, .scale = stage_scale,              \
    .axpy = stage_axpy, .exp = stage_exp, .adamw = stage_adamw, .sum = stage_sum,                  \
    .sum_squares = stage_sum_squares, .max = stage_max, .all_finite = stage_all_finite
