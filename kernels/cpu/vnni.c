/* vnni.c - int8 products with AVX-512 and vpdpbusd; the rest of its backend is avx512.c's. */
#include "kernels/cpu/avx512.h"

#if defined(__AVX512VNNI__)
#include "kernels/cpu/int8.inc.h"

void vnni_gemm_int8(const struct kernels_gemm_int8 *gemm, struct kernels_range rows,
                    struct kernels_range columns)
{
    int8_gemm(gemm, rows, columns);
}
#endif
