/* ceiling.h - what this machine can do at most: fused multiply-adds per second out of registers, and
 * bytes read per second out of memory. For benchmarks: measured in the same run as what is compared. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "shared/base/parallel.h"

static inline double ceiling_now_s(void)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

#if defined(__x86_64__)
/* `rounds` times so many independent multiply-adds, in assembly because a compiler would fold them. */
#define CEILING_4(r, a, b, c, d)                                                                   \
    "vfmadd231ps %%" r "15,%%" r "14,%%" r #a "\n\tvfmadd231ps %%" r "15,%%" r "14,%%" r #b        \
    "\n\tvfmadd231ps %%" r "15,%%" r "14,%%" r #c "\n\tvfmadd231ps %%" r "15,%%" r "14,%%" r #d    \
    "\n\t"
#define CEILING_12(r) CEILING_4(r, 0, 1, 2, 3) CEILING_4(r, 4, 5, 6, 7) CEILING_4(r, 8, 9, 10, 11)
#define CEILING_LOOP(r)                                                                            \
    __asm__ volatile("1:\n\t" CEILING_12(r) CEILING_12(r) "dec %0\n\tjnz 1b"                       \
                     : "+r"(rounds)                                                                \
                     :                                                                             \
                     : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",       \
                       "xmm8", "xmm9", "xmm10", "xmm11", "xmm14", "xmm15")
static void ceiling_fma(size_t rounds, bool wide)
{
    if (wide) {
        CEILING_LOOP("zmm");
    } else {
        CEILING_LOOP("ymm");
    }
}
#endif

#define CEILING_ROUNDS 2000000UL

static void ceiling_fma_task(void *argument, uint32_t index)
{
    (void)argument;
    (void)index;
#if defined(__x86_64__)
    ceiling_fma(CEILING_ROUNDS, __builtin_cpu_supports("avx512f"));
#endif
}

/* GFLOP/s over all workers: the best of 5, as a ceiling is. 0 where it is not known how to measure. */
static inline double ceiling_gflops(const struct parallel *parallel)
{
    double best = 0.0;
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("fma")) {
        return 0.0;
    }
    const double lanes = __builtin_cpu_supports("avx512f") ? 16.0 : 8.0;
    const double flops = 2.0 * 24.0 * lanes * (double)CEILING_ROUNDS * parallel->worker_count;
    for (int i = 0; i < 5; i++) {
        const double start = ceiling_now_s();
        parallel->run(parallel->context, parallel->worker_count, ceiling_fma_task, NULL);
        const double rate = 1e-9 * flops / (ceiling_now_s() - start);
        best = rate > best ? rate : best;
    }
#endif
    return best;
}

struct ceiling_read {
    const uint64_t *data;
    size_t words; /* of each worker; a multiple of 32 */
    uint64_t sink[64];
};

static void ceiling_read_task(void *argument, uint32_t index)
{
    struct ceiling_read *read = argument;
    typedef uint64_t wide __attribute__((vector_size(16)));
    const char *at = (const char *)(read->data + (size_t)index * read->words);
    wide sum[4] = {{0}};
    for (size_t i = 0; i < read->words * 8; i += 256) { /* one word of each line fetches the line */
        __builtin_prefetch(at + i + 2048);
        __builtin_prefetch(at + i + 2112);
        __builtin_prefetch(at + i + 2176);
        __builtin_prefetch(at + i + 2240);
        for (size_t j = 0; j < 4; j++) {
            wide word;
            __builtin_memcpy(&word, at + i + j * 64, sizeof word);
            sum[j] |= word;
        }
    }
    sum[0] |= sum[1] | sum[2] | sum[3];
    read->sink[index % 64] = sum[0][0];
}

/* GB/s read from `size` bytes at data (64-byte aligned), each worker its own part: the best of 5. */
static inline double ceiling_gbytes(const struct parallel *parallel, const void *data, size_t size)
{
    struct ceiling_read read = {.data = data, .words = size / 8 / parallel->worker_count / 32 * 32};
    double best = 0.0;
    for (int i = 0; i < 5; i++) {
        const double start = ceiling_now_s();
        parallel->run(parallel->context, parallel->worker_count, ceiling_read_task, &read);
        const double bytes = 8.0 * (double)read.words * parallel->worker_count;
        const double rate = 1e-9 * bytes / (ceiling_now_s() - start);
        best = rate > best ? rate : best;
    }
    return best;
}
