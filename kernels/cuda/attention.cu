/* attention.cu - causal attention over contiguous or paged keys and values, forward. kernels.h
 * ("attention") states the order of every sum; backward is in attention_backward.cu.
 *
 * A block takes 8 queries and one block of 256 positions; a query is a pair (row, head of the group),
 * so a decode step's heads share one read of the keys. Three launches: row maxima of each block of
 * positions; sums and o of each block, under the maximum of all; then blocks are combined, ascending.
 * Scores are computed twice rather than stored. So a long context spreads over the whole device. */
#include "kernels/cuda/attention.h"

/* Floats of scratch for one query and one block of positions: o[dim], its sum, and a maximum. */
#define PARTIAL_EXTRA 2
#define VALUES_AHEAD 8 /* rows of v on their way at once: memory's latency is paid once for all */

struct forward {
    struct cuda_attention attention;
    float *partial;   /* [sequence][query][block][dim + 1]: o, then the sum */
    float *maxima;    /* [sequence][query][block] */
    size_t row_first; /* this launch does rows [row_first, row_first + row_count) */
    size_t row_count;
    size_t block_count; /* of positions, at most */
};

/* What one block works on. */
struct work {
    const struct cuda_sequence *sequence;
    size_t kv_head, group;
    size_t query;    /* first of the 8: row * group + head, from row_first on */
    size_t queries;  /* how many exist, up to 8 */
    size_t slot;     /* of the first query in partial and maxima, before [block] */
    size_t position; /* first of the block of positions */
};

static __device__ __forceinline__ size_t work_row(const struct forward *args,
                                                  const struct work *work, unsigned i)
{
    return args->row_first + (work->query + i) / work->group;
}

static __device__ __forceinline__ size_t work_head(const struct work *work, unsigned i)
{
    return work->kv_head * work->group + (work->query + i) % work->group;
}

/* How many positions of the block query i sees: 0 .. 256. */
static __device__ __forceinline__ unsigned work_keys(const struct forward *args,
                                                     const struct work *work, unsigned i)
{
    const size_t seen = work->sequence->rows.start + work_row(args, work, i) + 1;
    return seen <= work->position          ? 0
           : seen - work->position < BLOCK ? (unsigned)(seen - work->position)
                                           : BLOCK;
}

/* Grid: x tiles of queries, y blocks of positions, z sequence and kv head. False: nothing to do. */
static __device__ bool work_find(const struct forward *args, struct work *work)
{
    const struct kernels_attention *shape = &args->attention.shape;
    const size_t item = blockIdx.z / shape->kv_head_count;
    work->sequence = &args->attention.sequences[item];
    work->kv_head = blockIdx.z % shape->kv_head_count;
    work->group = shape->head_count / shape->kv_head_count;
    work->query = (size_t)blockIdx.x * QUERIES;
    work->position = (size_t)blockIdx.y * BLOCK;
    const size_t rows = work->sequence->rows.row_count;
    const size_t left = rows > args->row_first ? rows - args->row_first : 0;
    const size_t count = (left < args->row_count ? left : args->row_count) * work->group;
    if (work->query >= count) {
        return false;
    }
    work->queries = count - work->query < QUERIES ? count - work->query : QUERIES;
    work->slot = ((item * shape->kv_head_count + work->kv_head) * args->row_count * work->group +
                  work->query) *
                 args->block_count;
    return work_keys(args, work, (unsigned)work->queries - 1) > 0;
}

/* q of the 8 queries into shared memory, [dim][query]; what does not exist is 0. */
static __device__ __forceinline__ void queries_load(const struct forward *args,
                                                    const struct work *work, float (*to)[QUERIES])
{
    const struct kernels_attention *shape = &args->attention.shape;
    for (unsigned i = threadIdx.x; i < QUERIES * shape->head_dim; i += THREADS) {
        const unsigned query = i / shape->head_dim;
        const unsigned d = i % shape->head_dim;
        to[d][query] = query < work->queries
                           ? work->sequence->rows.q[work_row(args, work, query) * shape->q_stride +
                                                    work_head(work, query) * shape->head_dim + d]
                           : 0.0F;
    }
}

/* s[query][key] = scale * q . k of the 8 queries and the 256 positions, as far as any query sees. */
static __device__ __forceinline__ void scores(const struct forward *args, const struct work *work,
                                              float (*s)[BLOCK])
{
    __shared__ __align__(16) float q[KERNELS_HEAD_DIM_MAX][QUERIES];
    const struct kernels_attention *shape = &args->attention.shape;
    const struct paged_rows keys = {work->sequence->rows.k + work->kv_head * shape->head_dim,
                                    shape->kv_stride, work->sequence->pages,
                                    args->attention.page_size};
    float dots[QUERIES] = {};
    queries_load(args, work, q);
    dots_of_block(&keys, work->position, work_keys(args, work, (unsigned)work->queries - 1),
                  shape->head_dim, q, dots);
#pragma unroll
    for (unsigned i = 0; i < QUERIES; i++) {
        s[i][threadIdx.x] = shape->scale * dots[i];
    }
    __syncthreads();
}

/* Lane maxima, so that zeros keep their sign and NaNs their place: kernels.h, "lane sum". */
__global__ void __launch_bounds__(THREADS) attention_maxima_kernel(struct forward args)
{
    __shared__ float s[QUERIES][BLOCK];
    struct work work;
    if (!work_find(&args, &work)) {
        return;
    }
    scores(&args, &work, s);
    const unsigned query = threadIdx.x / LANES;
    const unsigned lane = threadIdx.x % LANES;
    if (query >= QUERIES) {
        return; /* whole warps */
    }
    const unsigned keys = query < work.queries ? work_keys(&args, &work, query) : 0;
    float max = -INFINITY;
    for (unsigned j = lane; j < (keys + LANES - 1) / LANES * LANES; j += LANES) {
        max = v_max(max, j < keys ? s[query][j] : -INFINITY);
    }
#pragma unroll
    for (unsigned half = LANES / 2; half > 0; half /= 2) {
        max = v_max(max, __shfl_down_sync(WARP_ALL, max, half, LANES));
    }
    if (keys > 0 && lane == 0) {
        args.maxima[work.slot + query * args.block_count + blockIdx.y] = max;
    }
}

/* The greatest of a query's first `blocks` maxima, in kernels.h's order. */
static __device__ __forceinline__ float maximum(const float *maxima, size_t blocks)
{
    float max = maxima[0];
    for (size_t b = 1; b < blocks; b++) {
        max = v_max(max, maxima[b]);
    }
    return max;
}

/* The chains of `per` queries go on with position j of the block, whose value is v. */
template <unsigned per>
static __device__ __forceinline__ void values_add(const float (*s)[BLOCK], unsigned j, float v,
                                                  const unsigned *keys, float *o)
{
#pragma unroll
    for (unsigned i = 0; i < per; i++) {
        o[i] = j < keys[i] ? fmaf(s[i][j], v, o[i]) : o[i];
    }
}

/* Each thread owns column d of `per` queries; neighbouring threads read neighbouring numbers of v. */
template <unsigned per>
__global__ void __launch_bounds__(THREADS) attention_values_kernel(struct forward args)
{
    __shared__ float s[QUERIES][BLOCK];
    __shared__ float max[QUERIES];
    struct work work;
    if (!work_find(&args, &work)) {
        return;
    }
    const struct kernels_attention *shape = &args.attention.shape;
    scores(&args, &work, s);
    if (threadIdx.x < work.queries) {
        const size_t last = work.sequence->rows.start + work_row(&args, &work, threadIdx.x);
        max[threadIdx.x] =
            maximum(args.maxima + work.slot + threadIdx.x * args.block_count, last / BLOCK + 1);
    }
    __syncthreads();
    for (unsigned i = 0; i < work.queries; i++) {
        if (threadIdx.x < work_keys(&args, &work, i)) {
            s[i][threadIdx.x] = v_exp(s[i][threadIdx.x] - max[i]);
        }
    }
    __syncthreads();
    const size_t stride = shape->head_dim + 1;
    float *partial = args.partial + (work.slot + blockIdx.y) * stride;
    const size_t query_stride = args.block_count * stride;
    if (threadIdx.x < work.queries) { /* the sum is a chain too; other warps go on with o */
        const unsigned keys = work_keys(&args, &work, threadIdx.x);
        float sum = 0.0F;
        for (unsigned j = 0; j < keys; j++) {
            sum = sum + s[threadIdx.x][j];
        }
        if (keys > 0) {
            partial[threadIdx.x * query_stride + shape->head_dim] = sum;
        }
    }
    constexpr unsigned columns = per * THREADS / QUERIES; /* >= head_dim */
    const unsigned d = threadIdx.x % columns;
    const unsigned first = threadIdx.x / columns * per; /* of this thread's queries */
    if (d >= shape->head_dim || first >= work.queries) {
        return;
    }
    const struct paged_rows values = {work.sequence->rows.v + work.kv_head * shape->head_dim + d,
                                      shape->kv_stride, work.sequence->pages,
                                      args.attention.page_size};
    const unsigned last = first + per < work.queries ? first + per : (unsigned)work.queries;
    unsigned keys[per];
    float o[per] = {};
#pragma unroll
    for (unsigned i = 0; i < per; i++) {
        keys[i] = first + i < last ? work_keys(&args, &work, first + i) : 0;
    }
    const unsigned most = work_keys(&args, &work, last - 1);
    unsigned j = 0;
    for (; j + VALUES_AHEAD <= most; j += VALUES_AHEAD) {
        float v[VALUES_AHEAD];
#pragma unroll
        for (unsigned a = 0; a < VALUES_AHEAD; a++) {
            v[a] = *paged_row(&values, work.position + j + a);
        }
#pragma unroll
        for (unsigned a = 0; a < VALUES_AHEAD; a++) {
            values_add<per>(s + first, j + a, v[a], keys, o);
        }
    }
    for (; j < most; j++) {
        values_add<per>(s + first, j, *paged_row(&values, work.position + j), keys, o);
    }
#pragma unroll
    for (unsigned i = 0; i < per; i++) {
        if (keys[i] > 0) {
            partial[(first + i) * query_stride + d] = o[i];
        }
    }
}

/* Grid: x queries, z sequence and kv head; a thread per column. */
__global__ void __launch_bounds__(THREADS) attention_combine_kernel(struct forward args)
{
    const struct kernels_attention *shape = &args.attention.shape;
    const size_t item = blockIdx.z / shape->kv_head_count;
    const size_t kv_head = blockIdx.z % shape->kv_head_count;
    const size_t group = shape->head_count / shape->kv_head_count;
    const struct kernels_sequence *sequence = &args.attention.sequences[item].rows;
    const size_t row = args.row_first + blockIdx.x / group;
    const size_t head = kv_head * group + blockIdx.x % group;
    const unsigned d = threadIdx.x;
    if (row >= sequence->row_count || d >= shape->head_dim) {
        return;
    }
    const size_t blocks = (sequence->start + row) / BLOCK + 1;
    const size_t slot =
        ((item * shape->kv_head_count + kv_head) * args.row_count * group + blockIdx.x) *
        args.block_count;
    const size_t stride = shape->head_dim + 1;
    const float *partial = args.partial + slot * stride;
    float sum = partial[shape->head_dim];
    float o = partial[d];
    for (size_t b = 1; b < blocks; b++) {
        sum = sum + partial[b * stride + shape->head_dim];
        o = o + partial[b * stride + d];
    }
    const float inverse = 1.0F / sum;
    sequence->out[row * shape->out_stride + head * shape->head_dim + d] = o * inverse;
    if (sequence->stats != NULL && d == 0) {
        float *stats = sequence->stats + (head * sequence->row_count + row) * 2;
        stats[0] = maximum(args.maxima + slot, blocks);
        stats[1] = inverse;
    }
}

/* Launches the instance whose threads cover head_dim columns. */
static void values_launch(struct cuda *cuda, dim3 grid, const struct forward *args)
{
    const char *name = "attention values";
    const uint32_t dim = args->attention.shape.head_dim;
    if (dim <= THREADS / QUERIES) {
        cuda_launch(cuda, name, grid, THREADS, attention_values_kernel<1>, *args);
    } else if (dim <= 2 * THREADS / QUERIES) {
        cuda_launch(cuda, name, grid, THREADS, attention_values_kernel<2>, *args);
    } else if (dim <= 4 * THREADS / QUERIES) {
        cuda_launch(cuda, name, grid, THREADS, attention_values_kernel<4>, *args);
    } else {
        cuda_launch(cuda, name, grid, THREADS, attention_values_kernel<8>, *args);
    }
}

void cuda_attention(struct cuda *cuda, const struct cuda_attention *attention)
{
    const struct kernels_attention *shape = &attention->shape;
    attention_check(shape);
    CHECK(attention->page_size >= 1 && attention->page_size <= CUDA_PAGE_SIZE_MAX);
    CHECK((attention->page_size & (attention->page_size - 1)) == 0);
    if (shape->sequence_count == 0 || attention->row_max == 0) {
        return;
    }
    struct forward args = {*attention, NULL, NULL, 0, 0, ceil_div(attention->position_max, BLOCK)};
    const size_t slots = shape->sequence_count * shape->head_count * args.block_count;
    const size_t per_row = slots * (shape->head_dim + PARTIAL_EXTRA); /* floats */
    const size_t rows = cuda->scratch_count / per_row;
    if (rows == 0) {
        cuda_refuse(cuda, "attention scratch", per_row * sizeof(float),
                    cuda->scratch_count * sizeof(float));
        return;
    }
    args.row_count = rows < attention->row_max ? rows : attention->row_max;
    args.maxima = cuda->scratch;
    args.partial = cuda->scratch + args.row_count * slots;
    const size_t queries = args.row_count * (shape->head_count / shape->kv_head_count);
    const unsigned heads = grid_side(shape->sequence_count * shape->kv_head_count);
    for (; args.row_first < attention->row_max; args.row_first += args.row_count) {
        const dim3 grid(grid_of(ceil_div(queries, QUERIES)), grid_side(args.block_count), heads);
        cuda_launch(cuda, "attention maxima", grid, THREADS, attention_maxima_kernel, args);
        values_launch(cuda, grid, &args);
        cuda_launch(cuda, "attention combine", dim3(grid_of(queries), 1, heads), THREADS,
                    attention_combine_kernel, args);
    }
}
