/* attention_backward.cu - the gradients of attention: kernels.h ("attention") states each chain.
 *
 * Three launches: D of every row; dq, a block to 8 queries, over the positions ascending; dk and dv, a
 * block to 16 positions, over query heads and rows ascending. Scores are computed anew in both. */
#include "kernels/cuda/attention.h"

#define TILE 16 /* dk, dv: positions of a block, and rows at a time */

struct backward {
    struct cuda_attention attention;
    float *dots; /* D: [sequence][head][row_max] */
};

static __device__ __forceinline__ size_t dot_index(const struct backward *args, size_t item,
                                                   size_t head, size_t row)
{
    return (item * args->attention.shape.head_count + head) * args->attention.row_max + row;
}

/* dS of one row and position, from q . k, dout . v and D. */
static __device__ __forceinline__ float probability(float scale, float dot, const float *stats)
{
    return v_exp(scale * dot - stats[0]) * stats[1];
}
static __device__ __forceinline__ float score_gradient(float p, float dp, float d, float scale)
{
    return (p * (dp - d)) * scale;
}

/* Grid: x rows, y heads, z sequences. */
__global__ void __launch_bounds__(THREADS) attention_dots_kernel(struct backward args)
{
    const struct kernels_attention *shape = &args.attention.shape;
    const struct kernels_sequence *sequence = &args.attention.sequences[blockIdx.z].rows;
    const size_t row = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (row >= sequence->row_count) {
        return;
    }
    const size_t at = row * shape->out_stride + blockIdx.y * shape->head_dim;
    float sum = 0.0F;
    for (unsigned d = 0; d < shape->head_dim; d++) {
        sum = fmaf(sequence->dout[at + d], sequence->out[at + d], sum);
    }
    args.dots[dot_index(&args, blockIdx.z, blockIdx.y, row)] = sum;
}

/* One operand of 8 rows of a head into shared memory, [dim][row]; missing rows are 0. */
static __device__ __forceinline__ void rows_load(const float *x, size_t stride, unsigned dim,
                                                 unsigned rows, float (*to)[QUERIES])
{
    for (unsigned i = threadIdx.x; i < QUERIES * dim; i += THREADS) {
        const unsigned row = i / dim;
        to[i % dim][row] = row < rows ? x[row * stride + i % dim] : 0.0F;
    }
}

/* Grid: x tiles of 8 rows, y heads, z sequences. A thread owns column d of `per` rows. */
template <unsigned per>
__global__ void __launch_bounds__(THREADS, 2) attention_dq_kernel(struct backward args)
{
    __shared__ __align__(16) float q[KERNELS_HEAD_DIM_MAX][QUERIES];
    __shared__ __align__(16) float dout[KERNELS_HEAD_DIM_MAX][QUERIES];
    __shared__ float ds[QUERIES][BLOCK];
    const struct kernels_attention *shape = &args.attention.shape;
    const struct kernels_sequence *sequence = &args.attention.sequences[blockIdx.z].rows;
    const unsigned dim = shape->head_dim;
    const size_t head = blockIdx.y;
    const size_t kv_at = head / (shape->head_count / shape->kv_head_count) * dim;
    const size_t row = (size_t)blockIdx.x * QUERIES;
    if (row >= sequence->row_count) {
        return;
    }
    const size_t left = sequence->row_count - row;
    const unsigned rows = left < QUERIES ? (unsigned)left : QUERIES;
    rows_load(sequence->q + row * shape->q_stride + head * dim, shape->q_stride, dim, rows, q);
    rows_load(sequence->dout + row * shape->out_stride + head * dim, shape->out_stride, dim, rows,
              dout);
    const struct paged_rows keys = {sequence->k + kv_at, shape->kv_stride, NULL, 1};
    const struct paged_rows values = {sequence->v + kv_at, shape->kv_stride, NULL, 1};
    constexpr unsigned columns = per * THREADS / QUERIES;
    const unsigned d = threadIdx.x % columns;
    const unsigned first = threadIdx.x / columns * per;
    float dq[per] = {};
    for (size_t block = 0; block < row + rows; block += BLOCK) {
        const size_t seen = row + rows - block;
        const unsigned count = seen < BLOCK ? (unsigned)seen : BLOCK;
        float dots[QUERIES] = {};
        float dp[QUERIES] = {};
        dots_of_block(&keys, block, count, dim, q, dots);
        dots_of_block(&values, block, count, dim, dout, dp);
#pragma unroll
        for (unsigned i = 0; i < QUERIES; i++) {
            if (i < rows) {
                const float *stats = sequence->stats + (head * sequence->row_count + row + i) * 2;
                const float p = probability(shape->scale, dots[i], stats);
                ds[i][threadIdx.x] = score_gradient(
                    p, dp[i], args.dots[dot_index(&args, blockIdx.z, head, row + i)], shape->scale);
            }
        }
        __syncthreads();
        for (unsigned j = 0; d < dim && j < count; j++) {
            const float key = keys.data[(block + j) * keys.stride + d];
#pragma unroll
            for (unsigned i = 0; i < per; i++) {
                const bool sees = first + i < rows && block + j <= row + first + i;
                dq[i] = sees ? fmaf(ds[first + i][j], key, dq[i]) : dq[i];
            }
        }
        __syncthreads(); /* before the next block's ds */
    }
#pragma unroll
    for (unsigned i = 0; i < per; i++) {
        if (d < dim && first + i < rows) {
            sequence->dq[(row + first + i) * shape->q_stride + head * dim + d] = dq[i];
        }
    }
}

/* A thread's pair of dot products, q . k and dout . v, of row threadIdx.x / 16 and position
 * threadIdx.x % 16 of the tile. */
struct tile_rows {
    const float *q, *dout, *k, *v; /* of the tile's first row, and first position */
    unsigned rows, positions;      /* that exist */
};

static __device__ __forceinline__ void tile_dots(const struct kernels_attention *shape,
                                                 const struct tile_rows *tile, float *out_dot,
                                                 float *out_dp)
{
    __shared__ float slice[4][TILE][TILE + 1]; /* q, dout, k, v: [row][column of dim] */
    const unsigned y = threadIdx.x / TILE;
    const unsigned x = threadIdx.x % TILE;
    float dot = 0.0F;
    float dp = 0.0F;
    for (unsigned base = 0; base < shape->head_dim; base += TILE) {
        const bool column = base + x < shape->head_dim;
        const bool row = y < tile->rows && column;
        const bool position = y < tile->positions && column;
        slice[0][y][x] = row ? tile->q[y * shape->q_stride + base + x] : 0.0F;
        slice[1][y][x] = row ? tile->dout[y * shape->out_stride + base + x] : 0.0F;
        slice[2][y][x] = position ? tile->k[y * shape->kv_stride + base + x] : 0.0F;
        slice[3][y][x] = position ? tile->v[y * shape->kv_stride + base + x] : 0.0F;
        __syncthreads();
        const unsigned left = shape->head_dim - base;
        for (unsigned d = 0; d < (left < TILE ? left : TILE); d++) {
            dot = fmaf(slice[0][y][d], slice[2][x][d], dot);
            dp = fmaf(slice[1][y][d], slice[3][x][d], dp);
        }
        __syncthreads(); /* before the next slice */
    }
    *out_dot = dot;
    *out_dp = dp;
}

/* Grid: x tiles of 16 positions, y kv heads, z sequences. A thread owns column d of `per` positions. */
template <unsigned per>
__global__ void __launch_bounds__(THREADS) attention_dkv_kernel(struct backward args)
{
    __shared__ float p_tile[TILE][TILE], ds_tile[TILE][TILE]; /* [row][position] */
    const struct kernels_attention *shape = &args.attention.shape;
    const struct kernels_sequence *sequence = &args.attention.sequences[blockIdx.z].rows;
    const unsigned dim = shape->head_dim;
    const size_t group = shape->head_count / shape->kv_head_count;
    const size_t position = (size_t)blockIdx.x * TILE;
    const size_t row_count = sequence->row_count;
    if (position >= row_count) {
        return;
    }
    const size_t kv_at = position * shape->kv_stride + blockIdx.y * dim;
    struct tile_rows tile;
    tile.k = sequence->k + kv_at;
    tile.v = sequence->v + kv_at;
    tile.positions = row_count - position < TILE ? (unsigned)(row_count - position) : TILE;
    constexpr unsigned columns = per * TILE; /* 256 / columns threads groups, 16 positions */
    const unsigned d = threadIdx.x % columns;
    const unsigned first = threadIdx.x / columns * per;
    float dk[per] = {};
    float dv[per] = {};
    for (size_t head = blockIdx.y * group; head < (blockIdx.y + 1) * group; head++) {
        for (size_t row = position; row < row_count; row += TILE) {
            tile.q = sequence->q + row * shape->q_stride + head * dim;
            tile.dout = sequence->dout + row * shape->out_stride + head * dim;
            tile.rows = row_count - row < TILE ? (unsigned)(row_count - row) : TILE;
            float dot, dp;
            tile_dots(shape, &tile, &dot, &dp);
            const unsigned y = threadIdx.x / TILE;
            if (y < tile.rows) {
                const float *stats = sequence->stats + (head * row_count + row + y) * 2;
                const float p = probability(shape->scale, dot, stats);
                p_tile[y][threadIdx.x % TILE] = p;
                ds_tile[y][threadIdx.x % TILE] = score_gradient(
                    p, dp, args.dots[dot_index(&args, blockIdx.z, head, row + y)], shape->scale);
            }
            __syncthreads();
            for (unsigned i = 0; d < dim && i < tile.rows; i++) {
                const float q = tile.q[i * shape->q_stride + d];
                const float dout = tile.dout[i * shape->out_stride + d];
#pragma unroll
                for (unsigned j = 0; j < per; j++) {
                    if (position + first + j <= row + i) { /* the row sees the position */
                        dk[j] = fmaf(ds_tile[i][first + j], q, dk[j]);
                        dv[j] = fmaf(p_tile[i][first + j], dout, dv[j]);
                    }
                }
            }
            __syncthreads(); /* before the next tile's p and ds */
        }
    }
#pragma unroll
    for (unsigned j = 0; j < per; j++) {
        if (d < dim && first + j < tile.positions) {
            const size_t at = (position + first + j) * shape->kv_stride + blockIdx.y * dim + d;
            sequence->dk[at] = dk[j];
            sequence->dv[at] = dv[j];
        }
    }
}

static void dq_launch(struct cuda *cuda, dim3 grid, const struct backward *args)
{
    const char *name = "attention dq";
    const uint32_t dim = args->attention.shape.head_dim;
    if (dim <= THREADS / QUERIES) {
        cuda_launch(cuda, name, grid, THREADS, attention_dq_kernel<1>, *args);
    } else if (dim <= 2 * THREADS / QUERIES) {
        cuda_launch(cuda, name, grid, THREADS, attention_dq_kernel<2>, *args);
    } else if (dim <= 4 * THREADS / QUERIES) {
        cuda_launch(cuda, name, grid, THREADS, attention_dq_kernel<4>, *args);
    } else {
        cuda_launch(cuda, name, grid, THREADS, attention_dq_kernel<8>, *args);
    }
}

static void dkv_launch(struct cuda *cuda, dim3 grid, const struct backward *args)
{
    const char *name = "attention dk dv";
    const uint32_t dim = args->attention.shape.head_dim;
    if (dim <= 2 * TILE) {
        cuda_launch(cuda, name, grid, THREADS, attention_dkv_kernel<2>, *args);
    } else if (dim <= 4 * TILE) {
        cuda_launch(cuda, name, grid, THREADS, attention_dkv_kernel<4>, *args);
    } else if (dim <= 8 * TILE) {
        cuda_launch(cuda, name, grid, THREADS, attention_dkv_kernel<8>, *args);
    } else {
        cuda_launch(cuda, name, grid, THREADS, attention_dkv_kernel<16>, *args);
    }
}

void cuda_attention_backward(struct cuda *cuda, const struct cuda_attention *attention)
{
    const struct kernels_attention *shape = &attention->shape;
    attention_check(shape);
    const size_t dots = shape->sequence_count * shape->head_count * attention->row_max;
    if (dots == 0) {
        return;
    }
    if (dots > cuda->scratch_count) {
        cuda_refuse(cuda, "attention scratch", dots * sizeof(float),
                    cuda->scratch_count * sizeof(float));
        return;
    }
    const struct backward args = {*attention, cuda->scratch};
    const unsigned sequences = grid_side(shape->sequence_count);
    const size_t rows = attention->row_max;
    cuda_launch(cuda, "attention dots",
                dim3(grid_of(ceil_div(rows, THREADS)), grid_side(shape->head_count), sequences),
                THREADS, attention_dots_kernel, args);
    dq_launch(cuda, dim3(grid_of(ceil_div(rows, QUERIES)), grid_side(shape->head_count), sequences),
              &args);
    dkv_launch(cuda,
               dim3(grid_of(ceil_div(rows, TILE)), grid_side(shape->kv_head_count), sequences),
               &args);
}
