/* dotprod.c - int8 products with SDOT; the rest of its backend is neon.c's. */
#include "kernels/cpu/neon.h"

#if defined(__ARM_FEATURE_DOTPROD)
#include "kernels/cpu/int8.inc.h"

void dotprod_gemm_int8(const struct kernels_gemm_int8 *gemm, struct kernels_range rows,
                       struct kernels_range columns)
{
    int8_gemm(gemm, rows, columns);
}
#endif
