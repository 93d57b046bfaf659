/* avx512.h - the parts of the AVX-512 backends that want instructions of their own. */
#pragma once

#include "kernels/backend.h"

void vnni_gemm_int8(const struct kernels_gemm_int8 *gemm, struct kernels_range rows,
                    struct kernels_range columns);

/* True if the CPU has AMX and the system lets this process use it (asked once, for all threads). */
bool amx_supported(void);
void amx_gemm_int8(const struct kernels_gemm_int8 *gemm, struct kernels_range rows,
                   struct kernels_range columns);
