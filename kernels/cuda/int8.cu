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
    float x_scale[2][2], w_scale[4][2];
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
        out->w_scale[j][0] = inside ? widen_f16(scales[0]) : 0.0F;
        out->w_scale[j][1] = inside ? widen_f16(scales[1]) : 0.0F;
    }
}

__global__ void __launch_bounds__(THREADS) gemm_int8_kernel(struct kernels_gemm_int8 gemm)
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
    for (size_t block = 0; block < blocks; block++) {
        struct fragments fragments;
        fragments_load(&gemm, row, column, blocks, block, &fragments);
#pragma unroll
        for (unsigned i = 0; i < 2; i++) {
#pragma unroll
            for (unsigned j = 0; j < 4; j++) {
                int32_t dot[4];
                mma_s8(fragments.a[i], fragments.b[j], MAGIC_BITS, dot);
#pragma unroll
                for (unsigned e = 0; e < 4; e++) {
                    const float scale = fragments.w_scale[j][e % 2] * fragments.x_scale[i][e / 2];
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

/* Decode: 16 columns and up to 8 rows a block. The warps take blocks of k in turn (a lane half of
 * each dot product of one column), then every thread runs one chain over their sums. */
__global__ void __launch_bounds__(THREADS) decode_int8_kernel(struct kernels_gemm_int8 gemm)
{
    __shared__ int32_t dots[CHUNK][CUDA_ROW_TILE][KERNELS_PANEL];
    const unsigned warp = threadIdx.x / WARP;
    const unsigned half = threadIdx.x % WARP / KERNELS_PANEL;
    const unsigned column = threadIdx.x % KERNELS_PANEL;
    const unsigned row = threadIdx.x / KERNELS_PANEL; /* of the chain */
    const size_t blocks = (gemm.k + KERNELS_QUANT - 1) / KERNELS_QUANT;
    const size_t c_column = (size_t)blockIdx.x * KERNELS_PANEL + column;
    const bool mine = row < gemm.m && c_column < gemm.n;
    const int8_t *w = gemm.w_codes + (size_t)blockIdx.x * blocks * PANEL_BLOCK;
    const uint16_t *w_scales = gemm.w_scales + (size_t)blockIdx.x * blocks * KERNELS_PANEL;
    float *c = gemm.c + row * gemm.c_stride + c_column;
    float sum = mine && gemm.accumulate ? *c : 0.0F;
    for (size_t first = 0; first < blocks; first += CHUNK) {
        const unsigned count = blocks - first < CHUNK ? (unsigned)(blocks - first) : CHUNK;
        for (unsigned b = warp; b < count; b += WARPS) {
            const int8_t *block = w + (first + b) * PANEL_BLOCK + half * 4 * 64 + column * 4;
            uint32_t words[4];
#pragma unroll
            for (unsigned i = 0; i < 4; i++) {
                words[i] = codes_word(block + i * 64);
            }
            for (unsigned r = 0; r < gemm.m; r++) {
                const int8_t *x =
                    gemm.x_codes + (r * blocks + first + b) * KERNELS_QUANT + half * 16;
                int32_t dot = 0;
#pragma unroll
                for (unsigned i = 0; i < 4; i++) {
                    dot = __dp4a((int)words[i], (int)codes_word(x + i * 4), dot);
                }
                dot += __shfl_xor_sync(WARP_ALL, dot, KERNELS_PANEL);
                if (half == 0) {
                    dots[b][r][column] = dot;
                }
            }
        }
        __syncthreads();
        for (unsigned b = 0; mine && b < count; b++) {
            const float scale = widen_f16(w_scales[(first + b) * KERNELS_PANEL + column]) *
                                gemm.x_scales[row * blocks + first + b];
            sum = fmaf((float)dots[b][row][column], scale, sum);
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
