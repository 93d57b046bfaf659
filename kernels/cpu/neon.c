/* neon.c - the AArch64 backends: 4 floats at a time. Every CPU of the architecture has what "neon" needs;
 * the int8 products of "neon-dotprod" want SDOT. */
#include "kernels/cpu/neon.h"

#if defined(__aarch64__)
#include <sys/auxv.h>

#include "kernels/cpu/attention.inc.h"

static bool supported(void)
{
    return true;
}

static bool supported_dotprod(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}

const struct kernels kernels_neon = {
    .name = "neon", .supported = supported, PRODUCTS_TABLE, ROWS_TABLE, .gemm_int8 = int8_gemm};
const struct kernels kernels_neon_dotprod = {.name = "neon-dotprod",
                                             .supported = supported_dotprod,
                                             PRODUCTS_TABLE,
                                             ROWS_TABLE,
                                             .gemm_int8 = dotprod_gemm_int8};
#endif
