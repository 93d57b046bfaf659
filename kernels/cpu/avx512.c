/* avx512.c - the AVX-512 backends: 16 floats at a time. They differ in their int8 products: vpmaddubsw
 * ("avx512"), vpdpbusd ("avx512-vnni"), tiles ("avx512-amx"). */
#include "kernels/cpu/avx512.h"

#if defined(__AVX512F__)
#include "kernels/cpu/attention.inc.h"
#include "kernels/cpu/cpuid.h"

static bool supported(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("fma") && cpuid_f16c();
}

static bool supported_vnni(void)
{
    return supported() && __builtin_cpu_supports("avx512vnni");
}

static bool supported_amx(void)
{
    return supported_vnni() && amx_supported();
}

const struct kernels kernels_avx512 = {
    .name = "avx512", .supported = supported, PRODUCTS_TABLE, ROWS_TABLE, .gemm_int8 = int8_gemm};
const struct kernels kernels_avx512_vnni = {.name = "avx512-vnni",
                                            .supported = supported_vnni,
                                            PRODUCTS_TABLE,
                                            ROWS_TABLE,
                                            .gemm_int8 = vnni_gemm_int8};
const struct kernels kernels_avx512_amx = {.name = "avx512-amx",
                                           .supported = supported_amx,
                                           PRODUCTS_TABLE,
                                           ROWS_TABLE,
                                           .gemm_int8 = amx_gemm_int8};
#endif
