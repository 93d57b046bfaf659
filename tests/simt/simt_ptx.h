/* simt_ptx.h - the twin on the CPU of the instructions in kernels/cuda/ptx.h. */
#pragma once

static inline void async_copy4(void *shared, const void *global, bool inside)
{
    simt_copy_start(shared, global, 4, inside);
}

static inline void async_copy16(void *shared, const void *global, bool inside)
{
    simt_copy_start(shared, global, 16, inside);
}

static inline void async_commit(void)
{
    simt_copy_commit();
}

template <int pending> static inline void async_wait(void)
{
    simt_copy_wait(pending);
}

static inline void mma_s8(const uint32_t a[4], const uint32_t b[2], int32_t c, int32_t d[4])
{
    simt_mma_s8(a, b, c, d);
}

/* IEEE 754 binary16 by its definition. */
static inline float widen_f16(uint16_t bits)
{
    const int exponent = bits >> 10 & 31;
    const float fraction = (float)(bits & 1023);
    const float sign = bits >> 15 ? -1.0F : 1.0F;
    if (exponent == 31) {
        return fraction == 0.0F ? sign * INFINITY : NAN;
    }
    return exponent == 0 ? sign * ldexpf(fraction, -24)
                         : sign * ldexpf(fraction + 1024.0F, exponent - 25);
}
