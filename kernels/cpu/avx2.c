/* avx2.c - the AVX2 backend: 8 floats at a time. */
#if defined(__AVX2__) && defined(__FMA__)
#include "kernels/cpu/attention.inc.h"

static bool supported(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

const struct kernels kernels_avx2 = {
    .name = "avx2", .supported = supported, PRODUCTS_TABLE, ROWS_TABLE};
#endif
