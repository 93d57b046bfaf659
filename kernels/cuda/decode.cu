/* decode.cu - products of few rows: a decode step's, and the adapters of a batch.
 *
 * Here memory is the limit, not arithmetic, and 16 x 8 chains are too few threads to keep a memory
 * bus busy. So a block of 128 threads owns 16 columns and up to 8 rows: all its threads keep three
 * slices of the weights on their way to shared memory, each runs one chain. */
#include "kernels/cuda/types.h"

#define ROWS CUDA_ROW_TILE
#define COLUMNS KERNELS_PANEL
#define THREADS (ROWS * COLUMNS)
#define SLICE 128 /* steps of k under way at a time */
#define STAGES 3
#define AHEAD                                                                                      \
    8 /* steps whose numbers are read while the chain does as many others: 4 cycles each */
#define X_STRIDE (SLICE + 4) /* 16-byte aligned, rows in different banks */

/* x[rows x k] times w[k x columns]; either may lie either way. */
struct strip {
    const float *x;
    size_t x_row_stride, x_k_stride;
    size_t rows; /* <= ROWS */
    const void *w;
    size_t w_column_stride, w_k_stride; /* when not packed */
    size_t columns;                     /* <= COLUMNS */
    size_t k;
};

template <enum kernels_type type, bool packed>
static __device__ __forceinline__ void strip_start(const struct strip *strip, size_t first,
                                                   typename stored<type>::number *w,
                                                   float (*x)[X_STRIDE])
{
    typedef typename stored<type>::number number;
    if (first < strip->k) {
        const number *from = static_cast<const number *>(strip->w);
        if (packed) { /* [k][16], one stretch of memory */
            constexpr unsigned wide = 16 / sizeof(number);
            for (unsigned i = threadIdx.x; i < SLICE * COLUMNS / wide; i += THREADS) {
                const bool inside = first + i * wide / COLUMNS < strip->k;
                async_copy16(w + i * wide, from + (inside ? first * COLUMNS + i * wide : 0),
                             inside);
            }
        } else {
            const bool along_k = strip->w_k_stride == 1;
            for (unsigned i = threadIdx.x; i < SLICE * COLUMNS; i += THREADS) {
                const unsigned p = along_k ? i % SLICE : i / COLUMNS;
                const unsigned column = along_k ? i / SLICE : i % COLUMNS;
                const bool inside = first + p < strip->k && column < strip->columns;
                const size_t at = (first + p) * strip->w_k_stride + column * strip->w_column_stride;
                async_copy4(w + p * (COLUMNS + 1) + column, from + (inside ? at : 0), inside);
            }
        }
        const bool along_k = strip->x_k_stride == 1;
        for (unsigned i = threadIdx.x; i < SLICE * ROWS; i += THREADS) {
            const unsigned p = along_k ? i % SLICE : i / ROWS;
            const unsigned row = along_k ? i / SLICE : i % ROWS;
            const bool inside = first + p < strip->k && row < strip->rows;
            const size_t at = row * strip->x_row_stride + (first + p) * strip->x_k_stride;
            async_copy4(&x[row][p], strip->x + (inside ? at : 0), inside);
        }
    }
    async_commit(); /* an empty group too: the count of groups is what async_wait goes by */
}

/* AHEAD steps of a chain, out of shared memory. */
struct steps {
    float x[AHEAD], w[AHEAD];
};

template <enum kernels_type type, unsigned stride>
static __device__ __forceinline__ void
steps_read(const float *x, const typename stored<type>::number *w, struct steps *out)
{
#pragma unroll
    for (unsigned p = 0; p < AHEAD; p += 4) {
        *reinterpret_cast<float4 *>(out->x + p) = *reinterpret_cast<const float4 *>(x + p);
    }
#pragma unroll
    for (unsigned p = 0; p < AHEAD; p++) {
        out->w[p] = widen<type>(w[p * stride]);
    }
}

static __device__ __forceinline__ float steps_chain(const struct steps *steps, float sum)
{
#pragma unroll
    for (unsigned p = 0; p < AHEAD; p++) {
        sum = fmaf(steps->x[p], steps->w[p], sum);
    }
    return sum;
}

/* The chain of this thread's output: row threadIdx.x / 16, column threadIdx.x % 16. In shared memory
 * packed weights keep their rows of 16, others get 17 against bank conflicts of the transposing copy. */
template <enum kernels_type type, bool packed>
static __device__ __forceinline__ float strip_chain(const struct strip *strip, float sum)
{
    typedef typename stored<type>::number number;
    constexpr unsigned stride = packed ? COLUMNS : COLUMNS + 1;
    __shared__ __align__(16) number w[STAGES][SLICE * stride];
    __shared__ __align__(16) float x[STAGES][ROWS][X_STRIDE];
    const unsigned row = threadIdx.x / COLUMNS;
    const unsigned column = threadIdx.x % COLUMNS;
    for (unsigned s = 0; s < STAGES - 1; s++) {
        strip_start<type, packed>(strip, s * SLICE, w[s], x[s]);
    }
    unsigned now = 0;
    for (size_t first = 0; first < strip->k; first += SLICE) {
        async_wait<STAGES - 2>();
        __syncthreads(); /* this slice is here; the one before is read to its end */
        const unsigned ahead = (now + STAGES - 1) % STAGES;
        strip_start<type, packed>(strip, first + (STAGES - 1) * SLICE, w[ahead], x[ahead]);
        const number *w_now = w[now] + column;
        const float *x_now = x[now][row];
        const size_t left = strip->k - first;
        if (left >= SLICE) {
            __align__(16) struct steps steps[2];
            steps_read<type, stride>(x_now, w_now, &steps[0]);
#pragma unroll
            for (unsigned p = 0; p < SLICE; p += AHEAD) {
                if (p + AHEAD < SLICE) {
                    steps_read<type, stride>(x_now + p + AHEAD, w_now + (p + AHEAD) * stride,
                                             &steps[p / AHEAD % 2 ^ 1]);
                }
                sum = steps_chain(&steps[p / AHEAD % 2], sum);
            }
        } else {
            for (unsigned p = 0; p < left; p++) {
                sum = fmaf(x_now[p], widen<type>(w_now[p * stride]), sum);
            }
        }
        now = (now + 1) % STAGES;
    }
    async_wait<0>();
    return sum;
}

struct decode {
    struct strip strip; /* of the whole product: columns and rows are all of them */
    float *c;
    size_t c_stride;
    bool accumulate;
};

template <enum kernels_type type, bool packed>
__global__ void __launch_bounds__(THREADS) decode_kernel(struct decode args)
{
    typedef typename stored<type>::number number;
    struct strip strip = args.strip;
    const size_t base = (size_t)blockIdx.x * COLUMNS;
    strip.w = static_cast<const number *>(strip.w) +
              (packed ? base * strip.k : base * strip.w_column_stride);
    strip.columns = strip.columns - base < COLUMNS ? strip.columns - base : COLUMNS;
    const unsigned row = threadIdx.x / COLUMNS;
    const unsigned column = threadIdx.x % COLUMNS;
    const bool mine = row < strip.rows && column < strip.columns;
    float *c = args.c + row * args.c_stride + base + column;
    const float sum = strip_chain<type, packed>(&strip, mine && args.accumulate ? *c : 0.0F);
    if (mine) {
        *c = sum;
    }
}

void decode_gemm(struct cuda *cuda, const struct kernels_gemm *gemm)
{
    const bool packed = gemm->packed != NULL;
    const enum kernels_type type = packed ? gemm->type : KERNELS_F32;
    const struct decode args = {{gemm->a.data, gemm->a.row_stride, gemm->a.column_stride, gemm->m,
                                 packed ? gemm->packed : gemm->b.data, gemm->b.column_stride,
                                 gemm->b.row_stride, gemm->n, gemm->k},
                                gemm->c,
                                gemm->c_stride,
                                gemm->accumulate};
    const dim3 grid(grid_of(ceil_div(gemm->n, COLUMNS)));
    if (!packed) {
        cuda_launch(cuda, "decode", grid, THREADS, decode_kernel<KERNELS_F32, false>, args);
        return;
    }
    switch (type) {
    case KERNELS_F32:
        cuda_launch(cuda, "decode packed", grid, THREADS, decode_kernel<KERNELS_F32, true>, args);
        break;
    case KERNELS_BF16:
        cuda_launch(cuda, "decode bf16", grid, THREADS, decode_kernel<KERNELS_BF16, true>, args);
        break;
    case KERNELS_F16:
        cuda_launch(cuda, "decode f16", grid, THREADS, decode_kernel<KERNELS_F16, true>, args);
        break;
    }
}

/* ---- adapters ------------------------------------------------------------------------------- */

/* The segment and its first row that this block works on: tiles are counted through the segments in
 * order, so that no plan has to be made and copied. False: nothing is left for this block. */
static __device__ bool lora_tile(const struct cuda_lora *args, struct cuda_lora_segment *out)
{
    size_t tile = blockIdx.x;
    for (size_t i = 0; i < args->segment_count; i++) {
        const struct cuda_lora_segment segment = args->segments[i];
        const size_t tiles = segment.rank == 0 ? 0 : (segment.row_count + ROWS - 1) / ROWS;
        if (tile < tiles) {
            const size_t left = segment.row_count - tile * ROWS;
            *out = segment;
            out->row += tile * ROWS;
            out->row_count = left < ROWS ? left : ROWS;
            return true;
        }
        tile -= tiles;
    }
    return false;
}

/* ax = x A^T */
__global__ void __launch_bounds__(THREADS) lora_shrink_kernel(struct cuda_lora args)
{
    struct cuda_lora_segment segment;
    const size_t base = (size_t)blockIdx.y * COLUMNS;
    if (!lora_tile(&args, &segment) || base >= segment.rank) {
        return;
    }
    const size_t left = segment.rank - base;
    const struct strip strip = {args.x + segment.row * args.in,
                                args.in,
                                1,
                                segment.row_count,
                                segment.a + base * args.in,
                                args.in,
                                1,
                                left < COLUMNS ? left : COLUMNS,
                                args.in};
    const float sum = strip_chain<KERNELS_F32, false>(&strip, 0.0F);
    const unsigned row = threadIdx.x / COLUMNS;
    const unsigned column = threadIdx.x % COLUMNS;
    if (row < strip.rows && column < strip.columns) {
        args.ax[(segment.row + row) * args.rank_max + base + column] = sum;
    }
}

/* y += scale * (ax B^T) */
__global__ void __launch_bounds__(THREADS) lora_expand_kernel(struct cuda_lora args)
{
    struct cuda_lora_segment segment;
    if (!lora_tile(&args, &segment)) {
        return;
    }
    const size_t base = (size_t)blockIdx.y * COLUMNS;
    const size_t left = args.out - base;
    const struct strip strip = {args.ax + segment.row * args.rank_max,
                                args.rank_max,
                                1,
                                segment.row_count,
                                segment.b + base * segment.rank,
                                segment.rank,
                                1,
                                left < COLUMNS ? left : COLUMNS,
                                segment.rank};
    const float sum = strip_chain<KERNELS_F32, false>(&strip, 0.0F);
    const unsigned row = threadIdx.x / COLUMNS;
    const unsigned column = threadIdx.x % COLUMNS;
    if (row < strip.rows && column < strip.columns) {
        float *y = args.y + (segment.row + row) * args.out + base + column;
        *y = fmaf(segment.scale, sum, *y);
    }
}

void cuda_lora(struct cuda *cuda, const struct cuda_lora *args)
{
    if (args->rank_max == 0 || args->in == 0) {
        return;
    }
    const size_t tiles = args->segment_count + args->row_count / ROWS;
    cuda_launch(cuda, "lora shrink",
                dim3(grid_of(tiles), grid_side(ceil_div(args->rank_max, COLUMNS))), THREADS,
                lora_shrink_kernel, *args);
    cuda_launch(cuda, "lora expand", dim3(grid_of(tiles), grid_side(ceil_div(args->out, COLUMNS))),
                THREADS, lora_expand_kernel, *args);
}
