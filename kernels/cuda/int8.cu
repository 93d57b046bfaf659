/* int8.cu - W8A8: quantising, and products through tensor cores.
 *
 * A block of 32 along k is exactly one mma.m16n8k32, whose int32 sums are exact, so only the chain
 * over blocks has an order: acc = fmaf((float)sum, scale_w * scale_x, acc), ascending. */
#include "kernels/cuda/types.h"

#define SIDE 64     /* outputs of a block: 64 x 64, of a warp: 32 x 32 */
#define THREADS 128 /* 2 x 2 warps */
#define PANEL_BLOCK (KERNELS_PANEL * KERNELS_QUANT) /* codes of one block of 16 rows of W */
#define CHUNK 32 /* decode: blocks whose sums wait in shared memory */
#define WARPS (THREADS / WARP)

/* 1.5 * 2^23. An integer below 2^22 added to its bits is added to its value: the tensor core
 * starts from these bits and its sum needs no conversion. |sum| <= 32 * 127 * 128 < 2^20. */
#define MAGIC_BITS 0x4b400000
#define MAGIC 12582912.0F

/* One warp per block of 32: see kernels_quantize. */
__global__ void __launch_bounds__(THREADS)
    quantize_kernel(size_t rows, size_t k, const float *x, size_t stride, int8_t *codes,
                    float *scales)
{
    const size_t blocks = (k + KERNELS_QUANT - 1) / KERNELS_QUANT;
    const size_t index = (size_t)blockIdx.x * WARPS + threadIdx.x / WARP;
    if (index >= rows * blocks) {
        return;
    }
    const unsigned lane = threadIdx.x % WARP;
    const size_t at = index % blocks * KERNELS_QUANT + lane;
    const float value = at < k ? x[index / blocks * stride + at] : 0.0F;
    const float magnitude = fabsf(value);
    float max = isnan(magnitude) ? INFINITY : magnitude;
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
        const float other = __shfl_xor_sync(WARP_ALL, max, lanes);
        max = other > max ? other : max;
    }
    const bool finite = max <= FLT_MAX;
    const bool used = finite && max >= KERNELS_QUANT_MIN;
    codes[index * KERNELS_QUANT + lane] = used ? (int8_t)rintf(value * (127.0F / max)) : (int8_t)0;
    if (lane == 0) {
        scales[index] = !finite ? NAN : used ? max / 127.0F : 0.0F;
    }
}

void cuda_quantize(struct cuda *cuda, size_t rows, size_t k, const float *x, size_t stride,
                   int8_t *out_codes, float *out_scales)
{
    cuda_launch(cuda, "quantize", dim3(grid_of(ceil_div(rows * kernels_quant_blocks(k), WARPS))),
                THREADS, quantize_kernel, rows, k, x, stride, out_codes, out_scales);
}

static __device__ __forceinline__ uint32_t codes_word(const int8_t *codes)
{
    return *reinterpret_cast<const uint32_t *>(codes);
}

/* Operands of the warp's 32 x 32 outputs for one block of k, as mma wants them. */
struct fragments {
    uint32_t a[2][4], b[4][2];
    float x_scale[2][2];
    uint32_t w_scale[4]; /* of two columns, as stored */
};

static __device__ __forceinline__ void fragments_load(const struct kernels_gemm_int8 *gemm,
                                                      size_t row, size_t column, size_t blocks,
                                                      size_t block, struct fragments *out)
{
    const unsigned g = threadIdx.x % WARP / 4;
    const unsigned t = threadIdx.x % 4;
#pragma unroll
    for (unsigned i = 0; i < 2; i++) {
#pragma unroll
        for (unsigned half = 0; half < 2; half++) {
            const size_t r = row + i * 16 + half * 8 + g;
            const bool inside = r < gemm->m;
            const size_t at = inside ? r * blocks + block : 0;
            const int8_t *codes = gemm->x_codes + at * KERNELS_QUANT + t * 4;
            out->a[i][half] = inside ? codes_word(codes) : 0;
            out->a[i][half + 2] = inside ? codes_word(codes + 16) : 0;
            out->x_scale[i][half] = inside ? gemm->x_scales[at] : 0.0F;
        }
    }
#pragma unroll
    for (unsigned j = 0; j < 4; j++) {
        const size_t first = column + j * 8; /* 8 columns lie in one panel */
        const bool inside = first < gemm->n;
        const size_t panel = inside ? first / KERNELS_PANEL * blocks + block : 0;
        const unsigned inner = first % KERNELS_PANEL;
        const int8_t *codes = gemm->w_codes + panel * PANEL_BLOCK + t * 64 + (inner + g) * 4;
        const uint16_t *scales = gemm->w_scales + panel * KERNELS_PANEL + inner + t * 2;
        out->b[j][0] = inside ? codes_word(codes) : 0;
        out->b[j][1] = inside ? codes_word(codes + 4 * 64) : 0;
        out->w_scale[j] = inside ? *reinterpret_cast<const uint32_t *>(scales) : 0;
    }
}

__global__ void __launch_bounds__(THREADS, 4) gemm_int8_kernel(struct kernels_gemm_int8 gemm)
{
    const unsigned warp = threadIdx.x / WARP;
    const unsigned g = threadIdx.x % WARP / 4;
    const unsigned t = threadIdx.x % 4;
    const size_t row = (size_t)blockIdx.x * SIDE + warp / 2 * 32;
    const size_t column = (size_t)blockIdx.y * SIDE + warp % 2 * 32;
    const size_t blocks = (gemm.k + KERNELS_QUANT - 1) / KERNELS_QUANT;
    float sums[2][4][4];
#pragma unroll
    for (unsigned i = 0; i < 32; i++) {
        const size_t r = row + i / 16 * 16 + i % 4 / 2 * 8 + g;
        const size_t c = column + i / 4 % 4 * 8 + t * 2 + i % 2;
        sums[i / 16][i / 4 % 4][i % 4] =
            gemm.accumulate && r < gemm.m && c < gemm.n ? gemm.c[r * gemm.c_stride + c] : 0.0F;
    }
    struct fragments fragments, next = {};
    if (blocks > 0) {
        fragments_load(&gemm, row, column, blocks, 0, &next);
    }
#pragma unroll 1 /* more would spill */
    for (size_t block = 0; block < blocks; block++) {
        fragments = next; /* and the block after this one on its way, the last one once more */
        const size_t after = block + 1 < blocks ? block + 1 : block;
        fragments_load(&gemm, row, column, blocks, after, &next);
#pragma unroll
        for (unsigned i = 0; i < 2; i++) {
#pragma unroll
            for (unsigned j = 0; j < 4; j++) {
                int32_t dot[4];
                mma_s8(fragments.a[i], fragments.b[j], MAGIC_BITS, dot);
                const float w_scale[2] = {widen_f16((uint16_t)fragments.w_scale[j]),
                                          widen_f16((uint16_t)(fragments.w_scale[j] >> 16))};
#pragma unroll
                for (unsigned e = 0; e < 4; e++) {
                    const float scale = w_scale[e % 2] * fragments.x_scale[i][e / 2];
                    sums[i][j][e] = fmaf(__int_as_float(dot[e]) - MAGIC, scale, sums[i][j][e]);
                }
            }
        }
    }
#pragma unroll
    for (unsigned i = 0; i < 32; i++) {
        const size_t r = row + i / 16 * 16 + i % 4 / 2 * 8 + g;
        const size_t c = column + i / 4 % 4 * 8 + t * 2 + i % 2;
        if (r < gemm.m && c < gemm.n) {
            gemm.c[r * gemm.c_stride + c] = sums[i / 16][i / 4 % 4][i % 4];
        }
    }
}

/* What a lane holds of a chunk: for each of its warp's blocks of k, half a column of W and its scale. */
#define HELD (CHUNK / WARPS)
struct held {
    uint32_t words[HELD][4];
    uint16_t scales[HELD];
};

/* Reads the warp's blocks of the chunk that begins at `first`; missing ones are 0. */
static __device__ __forceinline__ void held_read(const int8_t *w, const uint16_t *scales,
                                                 size_t first, size_t blocks, struct held *out)
{
    const unsigned half = threadIdx.x % WARP / KERNELS_PANEL;
    const unsigned column = threadIdx.x % KERNELS_PANEL;
#pragma unroll
    for (unsigned i = 0; i < HELD; i++) {
        const size_t b = first + threadIdx.x / WARP + i * WARPS;
        const int8_t *block = w + b * PANEL_BLOCK + half * 4 * 64 + column * 4;
        out->scales[i] = b < blocks ? scales[b * KERNELS_PANEL + column] : (uint16_t)0;
#pragma unroll
        for (unsigned q = 0; q < 4; q++) {
            out->words[i][q] = b < blocks ? codes_word(block + q * 64) : 0;
        }
    }
}

/* Sums of products of the warp's blocks of the chunk with one row, and their scales. */
struct row_sums {
    float (*dots)[CUDA_ROW_TILE][KERNELS_PANEL], (*scales)[CUDA_ROW_TILE][KERNELS_PANEL];
};

static __device__ __forceinline__ void held_multiply(const struct held *held, unsigned count,
                                                     const int8_t *codes, const float *scales,
                                                     unsigned row, const struct row_sums *out)
{
    const unsigned half = threadIdx.x % WARP / KERNELS_PANEL;
    const unsigned column = threadIdx.x % KERNELS_PANEL;
    uint32_t x[HELD][4];
#pragma unroll
    for (unsigned i = 0; i < HELD; i++) {
        const unsigned b = threadIdx.x / WARP + i * WARPS;
#pragma unroll
        for (unsigned q = 0; q < 4; q++) {
            x[i][q] = b < count ? codes_word(codes + b * KERNELS_QUANT + half * 16 + q * 4) : 0;
        }
    }
#pragma unroll
    for (unsigned i = 0; i < HELD; i++) {
        const unsigned b = threadIdx.x / WARP + i * WARPS;
        int32_t dot = 0;
#pragma unroll
        for (unsigned q = 0; q < 4; q++) {
            dot = __dp4a((int)held->words[i][q], (int)x[i][q], dot);
        }
        dot += __shfl_xor_sync(WARP_ALL, dot, KERNELS_PANEL);
        if (half == 0 && b < count) {
            out->dots[b][row][column] = (float)dot;
            out->scales[b][row][column] = widen_f16(held->scales[i]) * scales[b];
        }
    }
}

/* Decode: 16 columns and up to 8 rows a block. The warps take blocks of k in turn (a lane half of
 * each dot product of one column), then every thread runs one chain over their sums, while the next
 * chunk's weights are on their way. */
__global__ void __launch_bounds__(THREADS) decode_int8_kernel(struct kernels_gemm_int8 gemm)
{
    __shared__ float dots[CHUNK][CUDA_ROW_TILE][KERNELS_PANEL];
    __shared__ float scales[CHUNK][CUDA_ROW_TILE][KERNELS_PANEL];
    const struct row_sums sums = {dots, scales};
    const unsigned column = threadIdx.x % KERNELS_PANEL;
    const unsigned row = threadIdx.x / KERNELS_PANEL; /* of the chain */
    const size_t blocks = (gemm.k + KERNELS_QUANT - 1) / KERNELS_QUANT;
    const size_t c_column = (size_t)blockIdx.x * KERNELS_PANEL + column;
    const bool mine = row < gemm.m && c_column < gemm.n;
    const int8_t *w = gemm.w_codes + (size_t)blockIdx.x * blocks * PANEL_BLOCK;
    const uint16_t *w_scales = gemm.w_scales + (size_t)blockIdx.x * blocks * KERNELS_PANEL;
    float *c = gemm.c + row * gemm.c_stride + c_column;
    float sum = mine && gemm.accumulate ? *c : 0.0F;
    struct held held;
    held_read(w, w_scales, 0, blocks, &held);
    for (size_t first = 0; first < blocks; first += CHUNK) {
        const unsigned count = blocks - first < CHUNK ? (unsigned)(blocks - first) : CHUNK;
        for (unsigned r = 0; r < gemm.m; r++) {
            const size_t at = r * blocks + first;
            held_multiply(&held, count, gemm.x_codes + at * KERNELS_QUANT, gemm.x_scales + at, r,
                          &sums);
        }
        held_read(w, w_scales, first + CHUNK, blocks, &held);
        __syncthreads();
#pragma unroll 8
        for (unsigned b = 0; mine && b < count; b++) {
            sum = fmaf(dots[b][row][column], scales[b][row][column], sum);
        }
        __syncthreads(); /* before the next chunk's sums */
    }
    if (mine) {
        *c = sum;
    }
}

void cuda_gemm_int8(struct cuda *cuda, const struct kernels_gemm_int8 *gemm)
{
    if (gemm->m == 0 || gemm->n == 0 || (gemm->k == 0 && gemm->accumulate)) {
        return;
    }
    CHECK(gemm->c_stride >= gemm->n);
    if (gemm->m <= CUDA_ROW_TILE) {
        cuda_launch(cuda, "decode int8", dim3(grid_of(ceil_div(gemm->n, KERNELS_PANEL))), THREADS,
                    decode_int8_kernel, *gemm);
        return;
    }
    cuda_launch(cuda, "gemm int8",
                dim3(grid_of(ceil_div(gemm->m, SIDE)), grid_side(ceil_div(gemm->n, SIDE))), THREADS,
                gemm_int8_kernel, *gemm);
}
