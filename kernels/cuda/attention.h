/* attention.h - what forward and backward attention share. Private to kernels/cuda. */
#pragma once

#include "kernels/cuda/device.h"

#define THREADS 256
#define BLOCK KERNELS_BLOCK /* positions; one to a thread while scores are computed */
#define QUERIES 8           /* rows that share one read of the keys */
#define DIM_SLICE 8         /* columns of the keys in shared memory at a time */

static inline void attention_check(const struct kernels_attention *shape)
{
    CHECK(shape->kv_head_count > 0);
    CHECK(shape->head_count % shape->kv_head_count == 0);
    CHECK(shape->head_dim > 0 && shape->head_dim <= KERNELS_HEAD_DIM_MAX);
}

/* Row j of keys or values, contiguous or paged. */
struct paged_rows {
    const float *data;
    size_t stride;
    const uint32_t *pages;
    uint32_t page_size; /* a power of two */
};

static __device__ __forceinline__ const float *paged_row(const struct paged_rows *rows, size_t j)
{
    if (rows->pages != NULL) {
        const unsigned shift = 31 - (unsigned)__clz((int)rows->page_size);
        j = ((size_t)rows->pages[j >> shift] << shift) + (j & (rows->page_size - 1));
    }
    return rows->data + j * rows->stride;
}

/* dots[i] continues the chain over d of x[d][i] * row_d for the thread's position first + threadIdx.x,
 * of the `count` that exist (others get anything). Ends with a barrier. */
static __device__ __forceinline__ void dots_of_block(const struct paged_rows *rows, size_t first,
                                                     unsigned count, unsigned dim,
                                                     const float (*x)[QUERIES], float *dots)
{
    __shared__ float slice[DIM_SLICE][BLOCK + 4]; /* a warp's 8 x 4 writes: 32 banks */
    for (unsigned base = 0; base < dim; base += DIM_SLICE) {
        const unsigned columns = dim - base < DIM_SLICE ? dim - base : DIM_SLICE;
        for (unsigned i = threadIdx.x; i < BLOCK * DIM_SLICE; i += THREADS) {
            const unsigned position = i / DIM_SLICE;
            const unsigned d = i % DIM_SLICE;
            slice[d][position] = position < count && d < columns
                                     ? paged_row(rows, first + position)[base + d]
                                     : 0.0F;
        }
        __syncthreads(); /* x too, the first time */
        for (unsigned d = 0; d < columns; d++) {
            const float value = slice[d][threadIdx.x];
#pragma unroll
            for (unsigned i = 0; i < QUERIES; i++) {
                dots[i] = fmaf(x[base + d][i], value, dots[i]);
            }
        }
        __syncthreads(); /* before the next slice */
    }
}
