/* device.h - what every .cu file begins with: the scalar texts compiled for the device, the context,
 * launching, and the names of failed calls. Private to kernels/cuda.
 *
 * C++ is here because CUDA needs it: templates for tile sizes, nothing else. tests/simt compiles the
 * same files with a cuda_runtime.h of its own that runs them on the CPU. */
#pragma once

#include <cuda_runtime.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define _Noreturn [[noreturn]] /* C++ has another word */
extern "C" {
#include "kernels/backend.h"
#include "kernels/cuda/cuda.h"
#include "shared/base/check.h"
}

#define V_FUNCTION static __device__ inline
#define KERNELS_SCALAR 1
#include "kernels/logarithm.inc.h"
#define kernels_logf logarithm_float
#include "kernels/cpu/rows.inc.h"

#define WARP 32
#define WARP_ALL 0xffffffffU
#define LANES 16 /* of a lane sum */

struct cuda {
    cudaStream_t stream;
    struct cuda_info info;
    unsigned char *arena;
    size_t arena_size, arena_used;
    float *scratch;
    size_t scratch_count; /* floats */
    enum err failure;     /* the first since cuda_sync */
    struct note failed;
};

/* Remembers a failed call; false if it or an earlier one failed. */
bool cuda_ok(struct cuda *cuda, const char *call, cudaError_t status);
/* Remembers that what an operation needs does not fit. */
void cuda_refuse(struct cuda *cuda, const char *what, size_t need, size_t have);

static inline size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

/* Sides of a grid: x may be long, y and z may not. */
static inline unsigned grid_of(size_t blocks)
{
    CHECK(blocks <= 0x7fffffff);
    return (unsigned)blocks;
}
static inline unsigned grid_side(size_t blocks)
{
    CHECK(blocks <= 65535);
    return (unsigned)blocks;
}

/* Queues kernel<<<grid, threads>>>(args). A grid with a zero side is no work. */
template <typename... Params, typename... Args>
static void cuda_launch(struct cuda *cuda, const char *name, dim3 grid, unsigned threads,
                        void (*kernel)(Params...), Args... args)
{
    if (cuda->failure != ERR_OK || grid.x == 0 || grid.y == 0 || grid.z == 0) {
        return;
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.stream = cuda->stream;
    cuda_ok(cuda, name, cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...));
}
