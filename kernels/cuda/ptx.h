/* ptx.h - the few instructions that CUDA C++ has no words for: the only inline PTX.
 * tests/simt/simt_ptx.h is its twin on the CPU, with the same fragment layouts. */
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>

#ifdef __CUDACC__

/* Starts copying 4 bytes (16 in the second) to shared memory; zeros when !inside, reading nothing.
 * Done when async_wait says so, for this thread; __syncthreads makes it so for the block. */
static __device__ __forceinline__ void async_copy4(void *shared, const void *global, bool inside)
{
    const uint32_t to = (uint32_t)__cvta_generic_to_shared(shared);
    const int size = inside ? 4 : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(global), "r"(size)
                 : "memory");
}

/* Both addresses multiples of 16. */
static __device__ __forceinline__ void async_copy16(void *shared, const void *global, bool inside)
{
    const uint32_t to = (uint32_t)__cvta_generic_to_shared(shared);
    const int size = inside ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(size)
                 : "memory");
}

/* Closes the group of copies started since the last commit. */
static __device__ __forceinline__ void async_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most `pending` of the latest groups are unfinished. */
template <int pending> static __device__ __forceinline__ void async_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

/* d = a b + c, exact integers: a is 16 x 32 s8, b is 32 x 8 s8, c and d 16 x 8 s32. With g = lane / 4
 * and t = lane % 4, register i of a holds row g + 8 (i % 2), columns 4 t + 16 (i / 2) ... + 3; of
 * b rows 4 t + 16 i ... + 3, column g; of c row g + 8 (i / 2), column 2 t + i % 2. */
static __device__ __forceinline__ void mma_s8(const uint32_t a[4], const uint32_t b[2], int32_t c,
                                              int32_t d[4])
{
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%10,%10,%10};"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(c));
}

/* binary16 to binary32, exact. */
static __device__ __forceinline__ float widen_f16(uint16_t bits)
{
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(bits));
    return wide;
}

#else
#include <simt_ptx.h>
#endif
