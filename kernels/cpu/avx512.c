/* avx512.c - the AVX-512 backend: 16 floats at a time. */
#if defined(__AVX512F__)
#include "kernels/cpu/attention.inc.h"

static bool supported(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("fma");
}

const struct kernels kernels_avx512 = {
    .name = "avx512", .supported = supported, PRODUCTS_TABLE, ROWS_TABLE};
#endif
