/* cuda.h - the operations of kernels.h on data that lives in a CUDA device's memory.
 *
 * Why: a caller that keeps weights and activations on the device pays for no copies. Every result has
 * the bits that kernels.h lays down: the meaning, shapes and rules of each call here are those of
 * its namesake there, only that every pointer points to device memory (sizes and structs themselves
 * are the host's). `kernels_cuda`, the backend in the table, is this plus copying (backend.c).
 *
 * Order and errors: calls are queued on the context's one stream and return at once. The first call
 * that fails is remembered with its name; everything after it is skipped until cuda_sync reports it.
 * A context belongs to one thread at a time. Shapes are our own business (CHECK).
 *
 * Source of the fragment layouts: PTX ISA 8, "Matrix fragments for mma.m16n8k32". */
#pragma once

#include "kernels/kernels.h"

#define CUDA_ROW_TILE 8   /* rows that share one read of the weights in decode */
#define CUDA_NAME_SIZE 64 /* bytes of a device's name, the terminating zero included */
#define CUDA_PAGE_SIZE_MAX 256

/* What a context is given at birth; it allocates nothing later. */
struct cuda_options {
    size_t arena_size;   /* bytes for the caller's buffers */
    size_t scratch_size; /* bytes for the operations' own partial results (attention) */
};

/* The device, for messages and for the benchmark. */
struct cuda_info {
    char name[CUDA_NAME_SIZE];
    uint32_t multiprocessor_count;
    uint32_t clock_khz;        /* highest clock of the multiprocessors */
    uint32_t memory_clock_khz; /* of the memory bus, both edges count */
    uint32_t bus_bits;
    uint32_t capability; /* 80 or 90 */
};

struct cuda;
struct cuda_graph;

/* True if a driver and a device of capability 8.0 or newer are there; else says why. */
MUST_USE bool cuda_available(struct note *note);

/* ERR_UNAVAILABLE without a device, ERR_LIMIT when its memory does not hold the two sizes. */
MUST_USE enum err cuda_open(const struct cuda_options *options, struct cuda **out_cuda,
                            struct note *note);
/* Waits for the queue. NULL is accepted. Pointers from cuda_take die here. */
void cuda_close(struct cuda *cuda);
void cuda_info(const struct cuda *cuda, struct cuda_info *out_info);

/* Waits for everything queued. Reports the first failure since the last cuda_sync, by the call's
 * name, and forgets it. */
MUST_USE enum err cuda_sync(struct cuda *cuda, struct note *note);

/* Device memory from the arena, 256-byte aligned; NULL and a remembered failure when it is used up.
 * cuda_mark and cuda_release free everything taken in between, as a stack. */
void *cuda_take(struct cuda *cuda, size_t size);
size_t cuda_mark(const struct cuda *cuda);
void cuda_release(struct cuda *cuda, size_t mark);

/* Rows of `width` bytes between host and device; strides in bytes, >= width. The host side must stay
 * as it is until cuda_sync. */
struct cuda_rows {
    size_t row_count, width;
    size_t device_stride, host_stride;
};
void cuda_put(struct cuda *cuda, const struct cuda_rows *rows, const void *host, void *device);
void cuda_fetch(struct cuda *cuda, const struct cuda_rows *rows, const void *device, void *host);

/* Records what is queued between the two calls (no cuda_sync, no copies from or to the host) and
 * replays it with one launch: a decode step is some hundred small kernels. Data may change between
 * replays, addresses and shapes may not. cuda_record_end returns NULL after a failure. */
void cuda_record_begin(struct cuda *cuda);
struct cuda_graph *cuda_record_end(struct cuda *cuda);
void cuda_graph_run(struct cuda *cuda, struct cuda_graph *graph);
void cuda_graph_destroy(struct cuda_graph *graph);

/* ---- products ------------------------------------------------------------------------------- */

void cuda_gemm(struct cuda *cuda, const struct kernels_gemm *gemm);
void cuda_pack(struct cuda *cuda, size_t k, size_t n, struct kernels_matrix b, float *out_packed);
void cuda_pack16(struct cuda *cuda, size_t k, size_t n, struct kernels_matrix16 b,
                 uint16_t *out_packed);
/* x: [rows][stride]. */
void cuda_quantize(struct cuda *cuda, size_t rows, size_t k, const float *x, size_t stride,
                   int8_t *out_codes, float *out_scales);
void cuda_gemm_int8(struct cuda *cuda, const struct kernels_gemm_int8 *gemm);

/* One run of rows with one adapter: y += scale * (B (A x)). */
struct cuda_lora_segment {
    size_t row, row_count;
    uint32_t rank; /* 0: no adapter here */
    float scale;
    const float *a; /* [rank][in] */
    const float *b; /* [out][rank] */
};

/* Adapters of different ranks in one launch each for A and B, nothing padded: a segment's row takes
 * rank numbers of ax and rank steps of time. As kernels_gemm, kernels_gemm, kernels_axpy. */
struct cuda_lora {
    size_t in, out;
    size_t row_count;  /* of x and y: segments lie inside and do not overlap */
    uint32_t rank_max; /* of the segments */
    const struct cuda_lora_segment *segments; /* device memory too */
    size_t segment_count;
    const float *x; /* [row_count][in] */
    float *ax;      /* [row_count][rank_max]: overwritten */
    float *y;       /* [row_count][out] */
};
void cuda_lora(struct cuda *cuda, const struct cuda_lora *args);

/* ---- attention ------------------------------------------------------------------------------ */

/* A sequence whose keys and values may lie in pages: position j is row pages[j / page_size] *
 * page_size + j % page_size of k and v. pages NULL: row j. */
struct cuda_sequence {
    struct kernels_sequence rows;
    const uint32_t *pages;
};

struct cuda_attention {
    struct kernels_attention shape;        /* its sequences are not read */
    const struct cuda_sequence *sequences; /* device memory too */
    size_t row_max;                        /* no sequence has more rows */
    size_t position_max;                   /* nor more positions (start + row_count) */
    uint32_t page_size; /* a power of two up to CUDA_PAGE_SIZE_MAX; without pages 1 */
};
/* Uses the scratch; ERR_LIMIT is remembered when one row does not fit: 4 * heads * sequences *
 * blocks * (dim + 2) bytes. */
void cuda_attention(struct cuda *cuda, const struct cuda_attention *attention);
/* Without pages. Scratch: 4 * heads * sequences * row_max bytes. */
void cuda_attention_backward(struct cuda *cuda, const struct cuda_attention *attention);

/* ---- rows ----------------------------------------------------------------------------------- */

struct cuda_rmsnorm {
    size_t rows, width;
    float eps;
    const float *x;
    const float *add; /* x is replaced by x + add first (residual); NULL: nothing is added */
    float *sum;       /* where x + add goes; may be x */
    const float *weight;
    float *y;
    float *inv; /* may be NULL */
};
/* As kernels_add into sum, then kernels_rmsnorm of it. */
void cuda_rmsnorm(struct cuda *cuda, const struct cuda_rmsnorm *args);
void cuda_rmsnorm_dx(struct cuda *cuda, const struct kernels_rmsnorm_backward *args);
void cuda_rmsnorm_dweight(struct cuda *cuda, const struct kernels_rmsnorm_backward *args);
void cuda_rope(struct cuda *cuda, const struct kernels_rope *args);
void cuda_cross_entropy(struct cuda *cuda, const struct kernels_cross_entropy *args);
void cuda_embed(struct cuda *cuda, size_t rows, size_t width, const float *table,
                const uint32_t *ids, float *out);
void cuda_embed_backward(struct cuda *cuda, size_t rows, size_t width, const uint32_t *ids,
                         const float *dy, float *dtable);

/* ---- elementwise, optimiser, checks --------------------------------------------------------- */

/* Operands: in[] and out[] in the order of the namesake's parameters. */
enum cuda_elementwise {
    CUDA_SWIGLU,
    CUDA_SWIGLU_BACKWARD,
    CUDA_ADD,
    CUDA_SCALE,
    CUDA_AXPY,
    CUDA_EXP,
};
struct cuda_map_args {
    size_t count;
    float scale;
    const float *in[3];
    float *out[2];
};
void cuda_map(struct cuda *cuda, enum cuda_elementwise map, const struct cuda_map_args *args);

struct kernels_adamw_factors;
void cuda_adamw(struct cuda *cuda, const struct kernels_adamw *args,
                const struct kernels_adamw_factors *factors);

/* Lane sums of x: of each block of `block` elements (the last one shorter), out[block index]. */
enum cuda_reduction {
    CUDA_SUM,
    CUDA_SUM_SQUARES,
    CUDA_MAX,
};
void cuda_lanes(struct cuda *cuda, enum cuda_reduction what, size_t count, size_t block,
                const float *x, float *out);
/* *out becomes 0 if an element is infinite or NaN, else 1. */
void cuda_all_finite(struct cuda *cuda, size_t count, const float *x, uint32_t *out);
