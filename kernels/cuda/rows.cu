/* rows.cu - norms, rotary positions, losses, elementwise maps, AdamW, lane sums.
 *
 * Elementwise work is the scalar text itself (kernels/cpu/rows.inc.h at width 1), one element to a
 * thread. A lane sum is 16 chains: 16 threads run one each, everything around them is parallel. */
#include "kernels/cuda/device.h"

#define THREADS 256
#define BLOCKS_MAX 65536 /* more work than that: a thread takes several elements */
#define ROWS_PER_BLOCK (THREADS / LANES)
#define TILE (LANES * THREADS) /* numbers of a row in shared memory at a time */
#define WIDE 512               /* rows from here on have a block of their own */

/* A grid for count elements of elementwise work, and the loop over a thread's elements. */
static dim3 map_grid(size_t count)
{
    const size_t blocks = ceil_div(count, THREADS);
    return dim3(grid_of(blocks < BLOCKS_MAX ? blocks : BLOCKS_MAX));
}
#define FOR_ELEMENTS(i, count)                                                                     \
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < (count);                       \
         i += (size_t)gridDim.x * THREADS)

/* The last steps of a lane sum: lanes l and l + 8 are added, then + 4, + 2, + 1. Lane 0 of the 16
 * threads has the result. All of the warp calls. */
static __device__ __forceinline__ float lanes_join_sum(float sum)
{
#pragma unroll
    for (unsigned half = LANES / 2; half > 0; half /= 2) {
        sum = sum + __shfl_down_sync(WARP_ALL, sum, half, LANES);
    }
    return __shfl_sync(WARP_ALL, sum, 0, LANES);
}

static __device__ __forceinline__ float lanes_join_max(float max)
{
#pragma unroll
    for (unsigned half = LANES / 2; half > 0; half /= 2) {
        max = v_max(max, __shfl_down_sync(WARP_ALL, max, half, LANES));
    }
    return __shfl_sync(WARP_ALL, max, 0, LANES);
}

/* ---- norms: 16 threads to a row, or a block to a wide one ---------------------------------------------------------------- */

__global__ void __launch_bounds__(THREADS) rmsnorm_kernel(struct cuda_rmsnorm args)
{
    const size_t row = (size_t)blockIdx.x * ROWS_PER_BLOCK + threadIdx.x / LANES;
    const unsigned lane = threadIdx.x % LANES;
    const size_t width = row < args.rows ? args.width : 0; /* an idle row still shuffles */
    const float *x = args.x + row * args.width;
    float sum = 0.0F;
    for (size_t j = lane; j < width; j += LANES) {
        float value = x[j];
        if (args.add != NULL) {
            value = value + args.add[row * args.width + j];
            args.sum[row * args.width + j] = value;
        }
        sum = fmaf(value, value, sum);
    }
    const float mean = lanes_join_sum(sum) / (float)args.width;
    const float scale = 1.0F / sqrtf(mean + args.eps);
    if (args.add != NULL) {
        x = args.sum + row * args.width; /* each thread reads what it wrote itself */
    }
    for (size_t j = lane; j < width; j += LANES) {
        args.y[row * args.width + j] = (x[j] * scale) * args.weight[j];
    }
    if (args.inv != NULL && width > 0 && lane == 0) {
        args.inv[row] = scale;
    }
}

/* The same for a wide row: a decode step has few, and 16 threads alone would wait for memory at every
 * turn. All fetch, 16 add out of shared memory. */
__global__ void __launch_bounds__(THREADS) rmsnorm_wide_kernel(struct cuda_rmsnorm args)
{
    __shared__ float tile[TILE];
    __shared__ float shared_scale;
    const size_t width = args.width;
    const size_t row = blockIdx.x;
    const float *x = args.x + row * width;
    float *sums = args.add == NULL ? NULL : args.sum + row * width;
    float sum = 0.0F; /* of lane threadIdx.x, for the first 16 threads */
    for (size_t first = 0; first < width; first += TILE) {
        const unsigned count = width - first < TILE ? (unsigned)(width - first) : TILE;
        __syncthreads(); /* the tile before is added */
        for (unsigned j = threadIdx.x; j < count; j += THREADS) {
            float value = x[first + j];
            if (sums != NULL) {
                value = value + args.add[row * width + first + j];
                sums[first + j] = value;
            }
            tile[j] = value;
        }
        __syncthreads();
        if (threadIdx.x < LANES) {
#pragma unroll 8
            for (unsigned j = threadIdx.x; j < count; j += LANES) {
                sum = fmaf(tile[j], tile[j], sum);
            }
        }
    }
    if (threadIdx.x < WARP) {
        sum = lanes_join_sum(sum);
    }
    if (threadIdx.x == 0) {
        shared_scale = 1.0F / sqrtf(sum / (float)width + args.eps);
        if (args.inv != NULL) {
            args.inv[row] = shared_scale;
        }
    }
    __syncthreads();
    const float scale = shared_scale;
    const float *from = width <= TILE ? tile : sums != NULL ? sums : x;
    for (size_t j = threadIdx.x; j < width; j += THREADS) { /* each reads what it wrote itself */
        args.y[row * width + j] = (from[j] * scale) * args.weight[j];
    }
}

void cuda_rmsnorm(struct cuda *cuda, const struct cuda_rmsnorm *args)
{
    if (args->width >= WIDE) {
        cuda_launch(cuda, "rmsnorm", dim3(grid_of(args->rows)), THREADS, rmsnorm_wide_kernel,
                    *args);
        return;
    }
    cuda_launch(cuda, "rmsnorm", dim3(grid_of(ceil_div(args->rows, ROWS_PER_BLOCK))), THREADS,
                rmsnorm_kernel, *args);
}

/* dx may be dy: each thread reads its elements before it writes them, twice in the same order. */
__global__ void __launch_bounds__(THREADS) rmsnorm_dx_kernel(struct kernels_rmsnorm_backward args)
{
    const size_t row = (size_t)blockIdx.x * ROWS_PER_BLOCK + threadIdx.x / LANES;
    const unsigned lane = threadIdx.x % LANES;
    const size_t width = row < args.rows ? args.width : 0;
    const float *x = args.x + row * args.width;
    const float *dy = args.dy + row * args.width;
    float *dx = args.dx + row * args.width;
    float sum = 0.0F;
    for (size_t j = lane; j < width; j += LANES) {
        sum = fmaf(dy[j] * args.weight[j], x[j], sum);
    }
    sum = lanes_join_sum(sum);
    if (width == 0) {
        return;
    }
    const float inv = args.inv[row];
    const float f = sum * inv * inv * inv / (float)args.width;
    for (size_t j = lane; j < width; j += LANES) {
        const float d = fmaf(-f, x[j], (dy[j] * args.weight[j]) * inv);
        dx[j] = args.accumulate ? dx[j] + d : d;
    }
}

void cuda_rmsnorm_dx(struct cuda *cuda, const struct kernels_rmsnorm_backward *args)
{
    cuda_launch(cuda, "rmsnorm dx", dim3(grid_of(ceil_div(args->rows, ROWS_PER_BLOCK))), THREADS,
                rmsnorm_dx_kernel, *args);
}

__global__ void __launch_bounds__(THREADS)
    rmsnorm_dweight_kernel(struct kernels_rmsnorm_backward args)
{
    FOR_ELEMENTS(j, args.width)
    {
        const struct kernels_range column = {j, j + 1};
        rows_rmsnorm_dweight(&args, column);
    }
}

void cuda_rmsnorm_dweight(struct cuda *cuda, const struct kernels_rmsnorm_backward *args)
{
    cuda_launch(cuda, "rmsnorm dweight", map_grid(args->width), THREADS, rmsnorm_dweight_kernel,
                *args);
}

/* ---- rotary positions -------------------------------------------------------------------------- */

__global__ void __launch_bounds__(THREADS) rope_kernel(struct kernels_rope args)
{
    const size_t half = args.head_dim / 2;
    const float sign = args.inverse ? -1.0F : 1.0F;
    FOR_ELEMENTS(index, args.rows * args.head_count * half)
    {
        const size_t i = index % half;
        const size_t head = index / half % args.head_count;
        const size_t row = index / half / args.head_count;
        float *x = args.x + row * args.stride + head * args.head_dim + i;
        const float a = x[0];
        const float b = x[half];
        const float c = args.cos[args.positions[row] * half + i];
        const float s = args.sin[args.positions[row] * half + i] * sign;
        x[0] = fmaf(a, c, -0.0F - b * s);
        x[half] = fmaf(b, c, a * s);
    }
}

void cuda_rope(struct cuda *cuda, const struct kernels_rope *args)
{
    cuda_launch(cuda, "rope", map_grid(args->rows * args->head_count * (args->head_dim / 2)),
                THREADS, rope_kernel, *args);
}

/* ---- cross-entropy: a block to a row ------------------------------------------------------------- */

/* The greatest x[0 .. count), by all threads. Its bits do not matter to the caller beyond its value:
 * the sign of a zero and a NaN missed here change neither loss nor gradient as a class. */
static __device__ float block_max(size_t count, const float *x)
{
    __shared__ float found[THREADS];
    float max = -INFINITY;
    for (size_t j = threadIdx.x; j < count; j += THREADS) {
        max = v_max(max, x[j]);
    }
    found[threadIdx.x] = max;
    __syncthreads();
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            found[threadIdx.x] = v_max(found[threadIdx.x], found[threadIdx.x + half]);
        }
        __syncthreads();
    }
    return found[0];
}

__global__ void __launch_bounds__(THREADS) cross_entropy_kernel(struct kernels_cross_entropy args)
{
    __shared__ float tile[TILE];
    __shared__ float shared_total;
    const size_t row = blockIdx.x;
    const size_t vocab = args.vocab;
    const float *x = args.logits + row * args.stride;
    float *dx = args.out_dlogits == NULL ? NULL : args.out_dlogits + row * args.stride;
    if (args.targets[row] < 0) {
        for (size_t j = threadIdx.x; dx != NULL && j < vocab; j += THREADS) {
            dx[j] = 0.0F;
        }
        if (threadIdx.x == 0) {
            args.out_loss[row] = 0.0F;
        }
        return;
    }
    const size_t target = (size_t)args.targets[row];
    const float max = block_max(vocab, x);
    const float target_logit = x[target]; /* before dx, which may be x, is written */
    float sum = 0.0F;                     /* of lane threadIdx.x, for the first 16 threads */
    for (size_t first = 0; first < vocab; first += TILE) {
        const size_t left = vocab - first;
        const unsigned count = left < TILE ? (unsigned)left : TILE;
        __syncthreads(); /* the tile before is added, the target is read */
        for (unsigned j = threadIdx.x; j < TILE; j += THREADS) {
            const float e = j < count ? v_exp(x[first + j] - max) : 0.0F;
            tile[j] = e;
            if (dx != NULL && j < count) {
                dx[first + j] = e;
            }
        }
        __syncthreads();
        if (threadIdx.x < LANES) {
            for (unsigned j = threadIdx.x; j < count; j += LANES) {
                sum = sum + tile[j];
            }
        }
    }
    if (threadIdx.x < WARP) {
        sum = lanes_join_sum(sum);
    }
    if (threadIdx.x == 0) {
        shared_total = sum;
        args.out_loss[row] = (max + logarithm_float(sum)) - target_logit;
    }
    __syncthreads();
    const float inv = 1.0F / shared_total;
    const float weight = args.weights == NULL ? 1.0F : args.weights[row];
    for (size_t j = threadIdx.x; dx != NULL && j < vocab; j += THREADS) {
        const float p = dx[j] * inv;
        dx[j] = (j == target ? p - 1.0F : p) * weight;
    }
}

void cuda_cross_entropy(struct cuda *cuda, const struct kernels_cross_entropy *args)
{
    cuda_launch(cuda, "cross entropy", dim3(grid_of(args->rows)), THREADS, cross_entropy_kernel,
                *args);
}

/* ---- embedding ----------------------------------------------------------------------------------- */

__global__ void __launch_bounds__(THREADS)
    embed_kernel(size_t rows, size_t width, const float *table, const uint32_t *ids, float *out)
{
    FOR_ELEMENTS(i, rows * width)
    {
        out[i] = table[ids[i / width] * width + i % width];
    }
}

void cuda_embed(struct cuda *cuda, size_t rows, size_t width, const float *table,
                const uint32_t *ids, float *out)
{
    cuda_launch(cuda, "embed", map_grid(rows * width), THREADS, embed_kernel, rows, width, table,
                ids, out);
}

/* A column to a thread, rows ascending: an id may come twice. */
__global__ void __launch_bounds__(THREADS)
    embed_backward_kernel(size_t rows, size_t width, const uint32_t *ids, const float *dy,
                          float *dtable)
{
    FOR_ELEMENTS(j, width)
    {
        for (size_t r = 0; r < rows; r++) {
            float *sum = dtable + ids[r] * width + j;
            *sum = *sum + dy[r * width + j];
        }
    }
}

void cuda_embed_backward(struct cuda *cuda, size_t rows, size_t width, const uint32_t *ids,
                         const float *dy, float *dtable)
{
    cuda_launch(cuda, "embed backward", map_grid(width), THREADS, embed_backward_kernel, rows,
                width, ids, dy, dtable);
}

/* ---- elementwise ---------------------------------------------------------------------------------- */

template <enum cuda_elementwise map>
__global__ void __launch_bounds__(THREADS) map_kernel(struct cuda_map_args args)
{
    FOR_ELEMENTS(i, args.count)
    {
        if constexpr (map == CUDA_SWIGLU) {
            rows_swiglu(1, args.in[0] + i, args.in[1] + i, args.out[0] + i);
        } else if constexpr (map == CUDA_SWIGLU_BACKWARD) {
            rows_swiglu_backward(1, args.in[0] + i, args.in[1] + i, args.in[2] + i, args.out[0] + i,
                                 args.out[1] + i);
        } else if constexpr (map == CUDA_ADD) {
            rows_add(1, args.in[0] + i, args.in[1] + i, args.out[0] + i);
        } else if constexpr (map == CUDA_SCALE) {
            rows_scale(1, args.scale, args.in[0] + i, args.out[0] + i);
        } else if constexpr (map == CUDA_AXPY) {
            rows_axpy(1, args.scale, args.in[0] + i, args.out[0] + i);
        } else {
            rows_exp(1, args.in[0] + i, args.out[0] + i);
        }
    }
}

void cuda_map(struct cuda *cuda, enum cuda_elementwise map, const struct cuda_map_args *args)
{
    const dim3 grid = map_grid(args->count);
    switch (map) {
    case CUDA_SWIGLU:
        cuda_launch(cuda, "swiglu", grid, THREADS, map_kernel<CUDA_SWIGLU>, *args);
        break;
    case CUDA_SWIGLU_BACKWARD:
        cuda_launch(cuda, "swiglu backward", grid, THREADS, map_kernel<CUDA_SWIGLU_BACKWARD>,
                    *args);
        break;
    case CUDA_ADD:
        cuda_launch(cuda, "add", grid, THREADS, map_kernel<CUDA_ADD>, *args);
        break;
    case CUDA_SCALE:
        cuda_launch(cuda, "scale", grid, THREADS, map_kernel<CUDA_SCALE>, *args);
        break;
    case CUDA_AXPY:
        cuda_launch(cuda, "axpy", grid, THREADS, map_kernel<CUDA_AXPY>, *args);
        break;
    case CUDA_EXP:
        cuda_launch(cuda, "exp", grid, THREADS, map_kernel<CUDA_EXP>, *args);
        break;
    }
}

__global__ void __launch_bounds__(THREADS)
    adamw_kernel(struct kernels_adamw args, struct kernels_adamw_factors factors)
{
    FOR_ELEMENTS(i, args.count)
    {
        const struct kernels_range one = {i, i + 1};
        rows_adamw(&args, &factors, one);
    }
}

void cuda_adamw(struct cuda *cuda, const struct kernels_adamw *args,
                const struct kernels_adamw_factors *factors)
{
    cuda_launch(cuda, "adamw", map_grid(args->count), THREADS, adamw_kernel, *args, *factors);
}

/* ---- lane sums: 16 threads to a block of elements --------------------------------------------------- */

template <enum cuda_reduction what>
__global__ void __launch_bounds__(THREADS)
    lanes_kernel(size_t count, size_t block, const float *x, float *out)
{
    const size_t index = (size_t)blockIdx.x * ROWS_PER_BLOCK + threadIdx.x / LANES;
    const unsigned lane = threadIdx.x % LANES;
    const size_t first = index * block;
    const size_t left = first < count ? count - first : 0;
    const size_t length = left < block ? left : block;
    float value = what == CUDA_MAX ? -INFINITY : 0.0F;
    /* What is missing in the last 16 is +0, or -inf: kernels.h, "lane sum". */
    for (size_t j = lane; j < (length + LANES - 1) / LANES * LANES; j += LANES) {
        const float fill = what == CUDA_MAX ? -INFINITY : 0.0F;
        const float a = j < length ? x[first + j] : fill;
        if constexpr (what == CUDA_SUM) {
            value = value + a;
        } else if constexpr (what == CUDA_SUM_SQUARES) {
            value = fmaf(a, a, value);
        } else {
            value = v_max(value, a);
        }
    }
    value = what == CUDA_MAX ? lanes_join_max(value) : lanes_join_sum(value);
    if (lane == 0 && (length > 0 || index == 0)) {
        out[index] = value;
    }
}

void cuda_lanes(struct cuda *cuda, enum cuda_reduction what, size_t count, size_t block,
                const float *x, float *out)
{
    CHECK(block > 0);
    const size_t sums = count == 0 ? 1 : ceil_div(count, block);
    const dim3 grid(grid_of(ceil_div(sums, ROWS_PER_BLOCK)));
    switch (what) {
    case CUDA_SUM:
        cuda_launch(cuda, "sum", grid, THREADS, lanes_kernel<CUDA_SUM>, count, block, x, out);
        break;
    case CUDA_SUM_SQUARES:
        cuda_launch(cuda, "sum of squares", grid, THREADS, lanes_kernel<CUDA_SUM_SQUARES>, count,
                    block, x, out);
        break;
    case CUDA_MAX:
        cuda_launch(cuda, "max", grid, THREADS, lanes_kernel<CUDA_MAX>, count, block, x, out);
        break;
    }
}

__global__ void all_finite_set_kernel(uint32_t *out)
{
    *out = 1;
}

__global__ void __launch_bounds__(THREADS)
    all_finite_kernel(size_t count, const float *x, uint32_t *out)
{
    FOR_ELEMENTS(i, count)
    {
        if (!rows_all_finite(1, x + i)) {
            *out = 0; /* whoever comes first: all write the same */
        }
    }
}

void cuda_all_finite(struct cuda *cuda, size_t count, const float *x, uint32_t *out)
{
    cuda_launch(cuda, "all finite", dim3(1), WARP, all_finite_set_kernel, out);
    cuda_launch(cuda, "all finite", map_grid(count), THREADS, all_finite_kernel, count, x, out);
}
