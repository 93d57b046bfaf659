/* neon.c - the AArch64 backend: 4 floats at a time. Every CPU of the architecture has what it needs. */
#include "kernels/backend.h"

#if defined(__aarch64__)
#include "kernels/cpu/attention.inc.h"

static bool supported(void)
{
    return true;
}

const struct kernels kernels_neon = {
    .name = "neon", .supported = supported, PRODUCTS_TABLE, ROWS_TABLE, .gemm_int8 = int8_gemm};
#endif
