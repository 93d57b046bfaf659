/* avx2.c - the AVX2 backend: 8 floats at a time. */
#include "kernels/backend.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "kernels/cpu/attention.inc.h"
#include "kernels/cpu/cpuid.h"

static bool supported(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && cpuid_f16c();
}

const struct kernels kernels_avx2 = {
    .name = "avx2", .supported = supported, PRODUCTS_TABLE, ROWS_TABLE, .gemm_int8 = int8_gemm};
#endif
