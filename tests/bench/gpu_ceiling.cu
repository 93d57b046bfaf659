/* gpu_ceiling.cu - what a device can do at most, by the plainest kernels: copying, multiply-adds out of
 * registers, tensor cores on registers. See gpu_bench.h. */
#include "kernels/cuda/device.h"
#include "kernels/cuda/ptx.h"
#include "tests/bench/gpu_bench.h"

#define THREADS GPU_THREADS
#define CHAINS 16 /* of a thread: more than a multiply-add's latency */
#define TILES 8   /* of a warp */
#define COPY_BLOCKS_MAX 4096

__global__ void __launch_bounds__(THREADS) copy_kernel(size_t count, const float4 *from, float4 *to)
{
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < count;
         i += (size_t)gridDim.x * THREADS) {
        to[i] = from[i];
    }
}

/* The results are written, or the compiler would leave the work out. */
__global__ void __launch_bounds__(THREADS) fma_kernel(unsigned rounds, float *out)
{
    float sums[CHAINS];
    const float a = 1.0F - 0x1p-20F * (float)threadIdx.x;
#pragma unroll
    for (int i = 0; i < CHAINS; i++) {
        sums[i] = (float)i;
    }
    for (unsigned round = 0; round < rounds; round++) {
#pragma unroll
        for (int i = 0; i < CHAINS; i++) {
            sums[i] = fmaf(sums[i], a, 0.5F);
        }
    }
    float sum = 0.0F;
#pragma unroll
    for (int i = 0; i < CHAINS; i++) {
        sum = sum + sums[i];
    }
    out[(size_t)blockIdx.x * THREADS + threadIdx.x] = sum;
}

__global__ void __launch_bounds__(THREADS) mma_kernel(unsigned rounds, int32_t *out)
{
    const uint32_t a[4] = {threadIdx.x, threadIdx.x * 3, threadIdx.x * 5, threadIdx.x * 7};
    const uint32_t b[2] = {threadIdx.x * 11, threadIdx.x * 13};
    int32_t sum = 0;
    for (unsigned round = 0; round < rounds; round++) {
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            int32_t d[4];
            mma_s8(a, b, (int32_t)round * TILES + i, d); /* no two alike */
            sum ^= d[0];
        }
    }
    out[(size_t)blockIdx.x * THREADS + threadIdx.x] = sum;
}

extern "C" void gpu_copy_queue(struct cuda *cuda, size_t count, const float *from, float *to)
{
    const size_t blocks = ceil_div(count / 4, THREADS);
    cuda_launch(cuda, "copy ceiling", dim3(blocks < COPY_BLOCKS_MAX ? blocks : COPY_BLOCKS_MAX),
                THREADS, copy_kernel, count / 4, reinterpret_cast<const float4 *>(from),
                reinterpret_cast<float4 *>(to));
}

extern "C" void gpu_fma_queue(struct cuda *cuda, unsigned blocks, unsigned rounds, float *out)
{
    cuda_launch(cuda, "fma ceiling", dim3(blocks), THREADS, fma_kernel, rounds, out);
}

extern "C" void gpu_mma_queue(struct cuda *cuda, unsigned blocks, unsigned rounds, int32_t *out)
{
    cuda_launch(cuda, "tensor ceiling", dim3(blocks), THREADS, mma_kernel, rounds, out);
}
