/* gpu_bench.h - what the parts of bench_gpu share: the device's ceilings, shapes, measured rows.
 *
 * A kernel's figure is its share of what the chip could do: of the figures on its data sheet, computed
 * from the device's attributes, and of what a plain copy and plain arithmetic reach in the same run. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/cuda/cuda.h"

#define GPU_ROWS_MAX 64
#define GPU_SAMPLES 7         /* medians of so many */
#define GPU_LAUNCHES_MAX 200U /* of one sample, in one graph */

/* What bounds a kernel at best. */
enum gpu_limit {
    GPU_MEMORY, /* bytes per second */
    GPU_FMA,    /* fp32 operations per second: a chain cannot use tensor cores */
    GPU_INT8,   /* int8 operations per second; see gpu_int8_ceiling */
    GPU_LIMIT_COUNT,
};

/* Per second: bytes, operations (a multiply-add is two), operations. 0: not known. */
struct gpu_rates {
    double of[GPU_LIMIT_COUNT];
};

/* The chip's own figures. Cores of a multiprocessor and operations of its tensor cores are those of
 * the capability (CUDA C++ Programming Guide, arithmetic throughput; NVIDIA's data sheets). */
struct gpu_rates gpu_chip(const struct cuda_info *info);

/* Blocks of 32 int8 products go through tensor cores at `tensor` operations per second, then take three
 * fp32 instructions each (the sum becomes a float, scales are multiplied, the chain goes on), of which
 * `fma` / 2 are done per second: the slower of the two bounds the product. */
double gpu_int8_ceiling(double tensor, double fma);

/* Sizes of the operations measured. */
struct gpu_shape {
    size_t hidden, ffn, vocab;
    uint32_t head_count, kv_head_count, head_dim;
    size_t prompt_rows;           /* of prefill and training */
    size_t sequences, positions;  /* of a decode step: so many contexts of this length */
    uint32_t page_size, rank_max; /* rank_max: adapters' ranks go up to it */
    size_t parameters;            /* of an optimiser's step */
    size_t copy_count;            /* floats that the copy moves */
    unsigned rounds;              /* of plain arithmetic */
    size_t arena_size, scratch_size;
};
extern const struct gpu_shape gpu_shape_large; /* a layer of a model of 7 billion weights */
extern const struct gpu_shape gpu_shape_tiny;  /* to see that everything runs */

struct gpu_row {
    const char *name;
    enum gpu_limit limit;
    double seconds;      /* median, of one run */
    double flops, bytes; /* of one run; bytes: every operand once */
    double share_chip, share_measured;
};

struct gpu_bench {
    struct cuda *cuda;
    const struct gpu_shape *shape;
    uint32_t samples; /* up to GPU_SAMPLES */
    double sample_s;  /* about how long one sample should take */
    struct cuda_info info;
    struct gpu_rates chip, measured;
    struct gpu_row rows[GPU_ROWS_MAX];
    uint32_t row_count;
};

/* One kernel, or the few that make one operation. */
struct gpu_case {
    const char *name;
    enum gpu_limit limit;
    double flops, bytes;
    void (*queue)(struct cuda *cuda, void *argument);
    void *argument;
};

/* Times a case and adds its row. ERR_*: the device failed, see note. */
MUST_USE enum err gpu_measure(struct gpu_bench *bench, const struct gpu_case *what,
                              struct note *note);
/* Ceilings first, then every case. */
MUST_USE enum err gpu_bench_run(struct gpu_bench *bench, struct note *note);
MUST_USE enum err gpu_cases_products(struct gpu_bench *bench, struct note *note);
MUST_USE enum err gpu_cases_rows(struct gpu_bench *bench, struct note *note);

struct buf;
void gpu_report_print(const struct gpu_bench *bench);
/* The same as JSON; buf_err says whether it fits. */
void gpu_report_write(const struct gpu_bench *bench, struct buf *out);

/* gpu_ceiling.cu: plain kernels. count is a multiple of 4; out: [blocks][GPU_THREADS]. */
void gpu_copy_queue(struct cuda *cuda, size_t count, const float *from, float *to);
#define GPU_THREADS 256
#define GPU_FMA_BLOCK_FLOPS (2.0 * 16 * GPU_THREADS) /* of a block, per round */
#define GPU_MMA_BLOCK_OPS (2.0 * 4096 * 8 * GPU_THREADS / 32)
void gpu_fma_queue(struct cuda *cuda, unsigned blocks, unsigned rounds, float *out);
void gpu_mma_queue(struct cuda *cuda, unsigned blocks, unsigned rounds, int32_t *out);

#ifdef __cplusplus
}
#endif
