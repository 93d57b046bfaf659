/* neon.h - the part of the AArch64 backends that wants instructions of its own. */
#pragma once

#include "kernels/backend.h"

/* Needs the dot product instructions (Armv8.2, ASIMDDP). */
void dotprod_gemm_int8(const struct kernels_gemm_int8 *gemm, struct kernels_range rows,
                       struct kernels_range columns);
