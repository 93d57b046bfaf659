/* types.h - numbers as they are stored, and the products for few rows. Private to kernels/cuda. */
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/cuda/ptx.h"

template <enum kernels_type type> struct stored {
    typedef uint16_t number;
};
template <> struct stored<KERNELS_F32> {
    typedef float number;
};

/* Exact. */
template <enum kernels_type type>
static __device__ __forceinline__ float widen(typename stored<type>::number x)
{
    if constexpr (type == KERNELS_F32) {
        return x;
    } else if constexpr (type == KERNELS_BF16) {
        return __uint_as_float((unsigned)x << 16);
    } else {
        return widen_f16(x);
    }
}

/* cuda_gemm for at most CUDA_ROW_TILE rows. */
void decode_gemm(struct cuda *cuda, const struct kernels_gemm *gemm);
