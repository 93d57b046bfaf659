/* cuda_runtime.h - stands in for CUDA's own: runs the kernels of kernels/cuda on the CPU, under ASan.
 *
 * Why: there is usually no GPU where this is built. The .cu files are compiled by the host's C++
 * compiler with this folder first in the include path. What is here is what they use, no more.
 *
 * How: a block's threads are fibers, switched only where CUDA may switch them (__syncthreads,
 * shuffles). Blocks, warps between two barriers (each as far as it gets) and the lanes of a warp run in
 * an order that simt_seed chooses: a missing barrier gives different bits for some order. Nothing queued on a stream runs before
 * somebody waits for it; asynchronous copies land as late as they may. Device memory is malloc's, so
 * ASan sees every access outside; it starts as 0xa5 bytes, shared memory as what is left there.
 *
 * Threads: one host thread at a time. */
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <functional>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c)
    {
    }
};
struct __align__(16) float4
{
    float x, y, z, w;
};
struct __align__(8) uint2
{
    unsigned x, y;
};

/* ---- inside a kernel -------------------------------------------------------------------------- */

extern uint3 threadIdx, blockIdx; /* of the thread that runs */
extern dim3 blockDim, gridDim;

void simt_barrier(void);
/* Every lane of the warp gives its word and gets lane `from`'s. All 32 lanes must call. */
uint32_t simt_exchange(uint32_t mask, uint32_t word, unsigned from);
/* Asynchronous copies of the running thread, see simt_ptx.h. */
void simt_copy_start(void *to, const void *from, size_t size, bool inside);
void simt_copy_commit(void);
void simt_copy_wait(unsigned pending);
/* The whole warp's fragments of one mma; the lane gets its part of d. */
void simt_mma_s8(const uint32_t a[4], const uint32_t b[2], int32_t c, int32_t d[4]);

static inline void __syncthreads(void)
{
    simt_barrier();
}
static inline void __syncwarp(uint32_t mask = 0xffffffffU)
{
    (void)simt_exchange(mask, 0, 0);
}
template <typename T> static inline T simt_shuffle(uint32_t mask, T value, unsigned from)
{
    static_assert(sizeof(T) == 4, "words only");
    uint32_t word;
    memcpy(&word, &value, 4);
    word = simt_exchange(mask, word, from);
    memcpy(&value, &word, 4);
    return value;
}
template <typename T> static inline T __shfl_xor_sync(uint32_t mask, T value, int lanes)
{
    return simt_shuffle(mask, value, threadIdx.x % 32 ^ (unsigned)lanes);
}
template <typename T>
static inline T __shfl_down_sync(uint32_t mask, T value, unsigned delta, int width = 32)
{
    const unsigned lane = threadIdx.x % 32;
    const unsigned last = lane / (unsigned)width * (unsigned)width + (unsigned)width - 1;
    return simt_shuffle(mask, value, lane + delta <= last ? lane + delta : lane);
}
template <typename T> static inline T __shfl_sync(uint32_t mask, T value, int from, int width = 32)
{
    const unsigned first = threadIdx.x % 32 / (unsigned)width * (unsigned)width;
    return simt_shuffle(mask, value, first + (unsigned)(from % width));
}
static inline int __dp4a(int a, int b, int c)
{
    for (int i = 0; i < 4; i++) {
        c += (int8_t)((uint32_t)a >> 8 * i) * (int8_t)((uint32_t)b >> 8 * i);
    }
    return c;
}
static inline float __int_as_float(int bits)
{
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
static inline float __uint_as_float(unsigned bits)
{
    return __int_as_float((int)bits);
}
static inline unsigned __float_as_uint(float x)
{
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}
static inline int __clz(int x)
{
    return x == 0 ? 32 : __builtin_clz((unsigned)x);
}
template <typename T> static inline T __ldg(const T *from)
{
    return *from;
}

/* ---- the runtime's calls ------------------------------------------------------------------------ */

enum cudaError_t {
    cudaSuccess,
    cudaErrorInvalidValue,
    cudaErrorMemoryAllocation,
    cudaErrorLaunchFailure,
    cudaErrorNoDevice,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount,
    cudaDevAttrClockRate,
    cudaDevAttrMemoryClockRate,
    cudaDevAttrGlobalMemoryBusWidth,
};
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal };
struct cudaDeviceProp {
    char name[256];
    int major, minor;
};
typedef struct simt_stream *cudaStream_t;
typedef struct simt_graph *cudaGraph_t;
typedef struct simt_graph *cudaGraphExec_t;
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
};

const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device);
cudaError_t cudaDeviceGetAttribute(int *out, cudaDeviceAttr what, int device);
cudaError_t cudaMalloc(void **out, size_t size);
cudaError_t cudaFree(void *memory);
cudaError_t cudaStreamCreate(cudaStream_t *out);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_stride, const void *from, size_t from_stride,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph);

cudaError_t simt_launch(const cudaLaunchConfig_t *config, std::function<void(void)> thread);
template <typename... Params, typename... Args>
static inline cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config,
                                             void (*kernel)(Params...), Args... args)
{
    return simt_launch(config, [=]() { kernel(args...); });
}
