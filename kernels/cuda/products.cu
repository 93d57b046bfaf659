/* products.cu - fp32 matrix products: big tiles, and packing. Decode and adapters: decode.cu.
 *
 * Each output is one chain of fmaf in ascending k, held by one thread from begin to end, so no tile
 * size changes a bit. A block computes a square of outputs, `per` x `per` of them in each thread's
 * registers; both operands come through shared memory, the next slice of k being copied while the
 * present one is used. No slice is padded along k: fmaf(0, 0, -0) would be +0. */
#include "kernels/cuda/device.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/types.h"

#define SLICE 8     /* steps of k in shared memory at a time */
#define THREADS 256 /* 16 x 16 */
#define PAD 4       /* keeps rows apart in the banks, and 16-byte aligned */

/* Where element (outer, p) of an operand lies: outer is a row of A or a column of B. */
struct operand {
    const void *data;
    size_t outer_stride, k_stride; /* in numbers; one of them is 1. Not read of packed panels */
    size_t outer_count, k;
};

/* What one thread copies of each slice: round i is element (outer + i * outer_step, p + i * p_step),
 * `round` numbers further on. Neighbouring threads take neighbours in memory. */
template <int outers> struct feed {
    static constexpr unsigned rounds = outers * SLICE / THREADS;

    const float *from; /* of round 0 in the next slice */
    size_t round;
    unsigned slice, outer, p, outer_count; /* outer_count: of this tile */
    unsigned outer_step, p_step;

    __device__ __forceinline__ feed(const struct operand *operand, size_t base)
    {
        const bool along_k = operand->k_stride == 1;
        p = along_k ? threadIdx.x % SLICE : threadIdx.x / outers;
        outer = along_k ? threadIdx.x / SLICE : threadIdx.x % outers;
        round = along_k ? THREADS / SLICE * operand->outer_stride
                        : THREADS / outers * operand->k_stride;
        slice = (unsigned)(SLICE * operand->k_stride);
        outer_step = along_k ? THREADS / SLICE : 0;
        p_step = along_k ? 0 : THREADS / outers;
        const size_t left = operand->outer_count - base;
        outer_count = left < outers ? (unsigned)left : outers;
        from = static_cast<const float *>(operand->data) + p * operand->k_stride +
               (base + outer) * operand->outer_stride;
    }

    /* Starts copying a slice that has `steps` steps of k left. */
    __device__ __forceinline__ void start(unsigned steps, float (*to)[outers + PAD])
    {
        const float *at = from;
#pragma unroll
        for (unsigned i = 0; i < rounds; i++, at += round) {
            const bool inside = outer + i * outer_step < outer_count && p + i * p_step < steps;
            async_copy4(&to[p][outer] + i * (p_step * (outers + PAD) + outer_step),
                        inside ? at : from, inside);
        }
        from += slice;
    }

    /* Nothing is left for later: everything is on its way. */
    __device__ __forceinline__ void finish(float (*)[outers + PAD]) const
    {
    }
};

/* The same for panels of 16 columns, each [k][16]: a thread takes 4 columns of one step, which lie side
 * by side here and there. 16-bit numbers are read early, widened and stored late. */
template <int outers, kernels_type type> struct panel_feed {
    typedef typename stored<type>::number number;

    const number *from; /* in the next slice */
    unsigned p, outer;
    bool exists; /* these columns, a panel's padding included */
    uint2 held;

    __device__ __forceinline__ panel_feed(const struct operand *operand, size_t base)
    {
        p = threadIdx.x / (outers / 4);
        outer = threadIdx.x % (outers / 4) * 4;
        const size_t column = base + outer;
        exists = p < SLICE && column < (operand->outer_count + 15) / 16 * 16;
        from = static_cast<const number *>(operand->data) + column / 16 * 16 * operand->k +
               column % 16 + p * 16;
        held = {};
    }

    __device__ __forceinline__ void start(unsigned steps, float (*to)[outers + PAD])
    {
        const bool inside = exists && p < steps;
        if constexpr (type != KERNELS_F32) {
            held = inside ? *reinterpret_cast<const uint2 *>(from) : uint2{};
        } else if (p < SLICE) {
            async_copy16(&to[p][outer], from, inside);
        }
        from += SLICE * 16;
    }

    __device__ __forceinline__ void finish(float (*to)[outers + PAD]) const
    {
        if (type != KERNELS_F32 && p < SLICE) {
            const float4 wide = {
                widen<type>((number)(held.x & 0xffff)), widen<type>((number)(held.x >> 16)),
                widen<type>((number)(held.y & 0xffff)), widen<type>((number)(held.y >> 16))};
            *reinterpret_cast<float4 *>(&to[p][outer]) = wide;
        }
    }
};

/* One step of k for the thread's per x per outputs: rows ty * 4 + 64 r + 0..3, columns likewise. */
template <int per>
static __device__ __forceinline__ void step(const float *a_row, const float *b_row,
                                            float (*sums)[per])
{
    const unsigned tx = threadIdx.x % 16 * 4;
    const unsigned ty = threadIdx.x / 16 * 4;
    float a[per], b[per];
#pragma unroll
    for (int i = 0; i < per; i += 4) {
        *reinterpret_cast<float4 *>(a + i) = *reinterpret_cast<const float4 *>(a_row + ty + i * 16);
        *reinterpret_cast<float4 *>(b + i) = *reinterpret_cast<const float4 *>(b_row + tx + i * 16);
    }
#pragma unroll
    for (int i = 0; i < per; i++) {
#pragma unroll
        for (int j = 0; j < per; j++) {
            sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
        }
    }
}

struct result {
    float *c;
    size_t stride;
    bool accumulate;
};

/* Calls each for the thread's outputs that exist: (its sum, where it goes). Offsets inside a tile
 * have 32 bits: 64 would cost the registers that the sums need. */
template <int per, typename each_fn>
static __device__ __forceinline__ void outputs(const struct result *out, size_t rows,
                                               size_t columns, float (*sums)[per], each_fn each)
{
    const size_t row = (size_t)blockIdx.x * per * 16;
    const size_t column = (size_t)blockIdx.y * per * 16;
    const unsigned row_count = rows - row < per * 16 ? (unsigned)(rows - row) : per * 16;
    const unsigned column_count =
        columns - column < per * 16 ? (unsigned)(columns - column) : per * 16;
    float *tile = out->c + row * out->stride + column;
    const unsigned stride = (unsigned)out->stride;
#pragma unroll
    for (int i = 0; i < per; i++) {
        const unsigned r = threadIdx.x / 16 * 4 + i / 4 * 64 + i % 4;
#pragma unroll
        for (int j = 0; j < per; j++) {
            const unsigned c = threadIdx.x % 16 * 4 + j / 4 * 64 + j % 4;
            if (r < row_count && c < column_count) {
                each(&sums[i][j], tile + r * stride + c);
            }
        }
    }
}

/* b_feed: how B comes, feed or panel_feed. */
template <int per, typename b_feed_type>
__global__ void __launch_bounds__(THREADS, 2)
    gemm_kernel(struct operand a, struct operand b, struct result out)
{
    constexpr int side = per * 16;
    __shared__ __align__(16) float a_slice[2][SLICE][side + PAD];
    __shared__ __align__(16) float b_slice[2][SLICE][side + PAD];
    float sums[per][per] = {};
    if (out.accumulate) {
        outputs<per>(&out, a.outer_count, b.outer_count, sums,
                     [](float *sum, const float *c) { *sum = *c; });
    }
    feed<side> a_feed(&a, (size_t)blockIdx.x * side);
    b_feed_type b_feed(&b, (size_t)blockIdx.y * side);
    unsigned now = 0;
    const unsigned k = (unsigned)a.k;
    for (unsigned first = 0; first < k + SLICE; first += SLICE, now ^= 1) {
        /* Slice `first` on its way, the one before it at work. */
        const bool more = first < k;
        const unsigned steps = k - first < SLICE ? k - first : SLICE;
        if (more) {
            a_feed.start(steps, a_slice[now]);
            b_feed.start(steps, b_slice[now]);
            async_commit();
        }
        if (first > 0 && more) {
#pragma unroll 2 /* more unrolling holds more of a and b: registers spill */
            for (int p = 0; p < SLICE; p++) {
                step<per>(a_slice[now ^ 1][p], b_slice[now ^ 1][p], sums);
            }
        } else if (first > 0) {
            const unsigned last = k - (first - SLICE);
            for (unsigned p = 0; p < last; p++) {
                step<per>(a_slice[now ^ 1][p], b_slice[now ^ 1][p], sums);
            }
        }
        if (more) {
            b_feed.finish(b_slice[now]);
        }
        async_wait<0>();
        __syncthreads(); /* slice `first` is here, and nobody reads the one before any more */
    }
    outputs<per>(&out, a.outer_count, b.outer_count, sums,
                 [](const float *sum, float *c) { *c = *sum; });
}

template <int per>
static void gemm_launch(struct cuda *cuda, const struct kernels_gemm *gemm, const struct operand *a,
                        const struct operand *b, const struct result *out)
{
    constexpr int side = per * 16;
    const dim3 grid(grid_of(ceil_div(a->outer_count, side)),
                    grid_side(ceil_div(b->outer_count, side)));
    if (gemm->packed == NULL) {
        cuda_launch(cuda, "gemm", grid, THREADS, gemm_kernel<per, feed<side>>, *a, *b, *out);
        return;
    }
    switch (gemm->type) {
    case KERNELS_F32:
        cuda_launch(cuda, "gemm packed", grid, THREADS,
                    gemm_kernel<per, panel_feed<side, KERNELS_F32>>, *a, *b, *out);
        break;
    case KERNELS_BF16:
        cuda_launch(cuda, "gemm bf16", grid, THREADS,
                    gemm_kernel<per, panel_feed<side, KERNELS_BF16>>, *a, *b, *out);
        break;
    case KERNELS_F16:
        cuda_launch(cuda, "gemm f16", grid, THREADS,
                    gemm_kernel<per, panel_feed<side, KERNELS_F16>>, *a, *b, *out);
        break;
    }
}

void cuda_gemm(struct cuda *cuda, const struct kernels_gemm *gemm)
{
    if (gemm->m == 0 || gemm->n == 0 || (gemm->k == 0 && gemm->accumulate)) {
        return;
    }
    CHECK(gemm->c_stride >= gemm->n);
    CHECK(gemm->c_stride <= UINT32_MAX / 128);
    CHECK(gemm->k <= UINT32_MAX / 2);
    if (gemm->m <= CUDA_ROW_TILE) {
        decode_gemm(cuda, gemm);
        return;
    }
    const struct operand a = {gemm->a.data, gemm->a.row_stride, gemm->a.column_stride, gemm->m,
                              gemm->k};
    const struct operand b = {gemm->packed != NULL ? gemm->packed : gemm->b.data,
                              gemm->b.column_stride, gemm->b.row_stride, gemm->n, gemm->k};
    const struct result out = {gemm->c, gemm->c_stride, gemm->accumulate};
    /* Small tiles when big ones would leave multiprocessors idle. */
    const size_t big = ceil_div(gemm->m, 128) * ceil_div(gemm->n, 128);
    if (big >= cuda->info.multiprocessor_count && gemm->m > 64) {
        gemm_launch<8>(cuda, gemm, &a, &b, &out);
    } else {
        gemm_launch<4>(cuda, gemm, &a, &b, &out);
    }
}

template <typename number>
__global__ void pack_kernel(size_t k, size_t n, const number *data, size_t row_stride,
                            size_t column_stride, number *packed)
{
    const size_t count = (n + 15) / 16 * 16 * k;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x) {
        const size_t p = i / 16 % k;
        const size_t j = i / 16 / k * 16 + i % 16;
        packed[i] = j < n ? data[p * row_stride + j * column_stride] : (number)0;
    }
}

#define PACK_BLOCKS_MAX 65536

static unsigned pack_grid(size_t k, size_t n)
{
    const size_t blocks = ceil_div(ceil_div(n, 16) * 16 * k, THREADS);
    return grid_of(blocks < PACK_BLOCKS_MAX ? blocks : PACK_BLOCKS_MAX);
}

void cuda_pack(struct cuda *cuda, size_t k, size_t n, struct kernels_matrix b, float *out_packed)
{
    cuda_launch(cuda, "pack", dim3(pack_grid(k, n)), THREADS, pack_kernel<float>, k, n, b.data,
                b.row_stride, b.column_stride, out_packed);
}

void cuda_pack16(struct cuda *cuda, size_t k, size_t n, struct kernels_matrix16 b,
                 uint16_t *out_packed)
{
    cuda_launch(cuda, "pack16", dim3(pack_grid(k, n)), THREADS, pack_kernel<uint16_t>, k, n, b.data,
                b.row_stride, b.column_stride, out_packed);
}
