/* openblas.h - OpenBLAS as a fair peer: with kernels for this CPU, seen to compute right.
 *
 * The environment may name another CPU's kernels or cache size, which OpenBLAS reads when it is loaded:
 * the program starts itself again without. Where OpenBLAS by itself chooses kernels that are too old for
 * the CPU, or wrong, it starts itself again with better ones named. */
#pragma once

#if __has_include(<cblas.h>)
#include <cblas.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPENBLAS_STARTED "OPENLEDGER_BENCH_OPENBLAS" /* set when the environment is already ours */

/* A product of odd shape against chains in double. */
static inline bool openblas_right(void)
{
    enum { M = 37, N = 53, K = 211 };
    static float a[M * K], b[N * K], c[M * N];
    for (int i = 0; i < M * K; i++) {
        a[i] = (float)(i % 23) * 0.125F - 1.0F;
    }
    for (int i = 0; i < N * K; i++) {
        b[i] = (float)(i % 29) * 0.125F - 1.5F;
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, M, N, K, 1.0F, a, K, b, K, 0.0F, c, N);
    for (int i = 0; i < M * N; i++) {
        double sum = 0.0;
        for (int p = 0; p < K; p++) {
            sum += (double)a[i / N * K + p] * (double)b[i % N * K + p];
        }
        if (!(fabs((double)c[i] - sum) < 1e-3)) {
            return false;
        }
    }
    return true;
}

/* What to name when OpenBLAS chose kernels that leave the CPU's widest vectors unused (Debian's does not
 * know newer models and falls back to Prescott's), or wrong ones; NULL: its choice stands. */
static inline const char *openblas_better(void)
{
#if defined(__x86_64__)
    static const char *const wide[] = {"SkylakeX", "Cooperlake", "SapphireRapids", NULL};
    static const char *const narrow[] = {"Haswell", "Zen", "Excavator", NULL};
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx512 || avx2) {
        const char *const *fits = avx512 ? wide : narrow;
        while (*fits != NULL && strcmp(*fits, openblas_get_corename()) != 0) {
            fits++;
        }
        if (*fits == NULL || !openblas_right()) {
            return avx512 ? wide[0] : narrow[0];
        }
    }
#endif
    return NULL;
}

/* First thing in main. Returns the name of the kernels used, e.g. "SkylakeX"; NULL: they are wrong. */
static inline const char *openblas_start(char **argv)
{
    const char *const named[] = {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"};
    const bool foreign = getenv(named[0]) != NULL || getenv(named[1]) != NULL;
    const bool ours = getenv(OPENBLAS_STARTED) != NULL;
    const char *better = openblas_better();
    if (foreign && !ours) {
        (void)unsetenv(named[0]);
        (void)unsetenv(named[1]);
        (void)setenv(OPENBLAS_STARTED, "1", 1);
        (void)execv("/proc/self/exe", argv);
    } else if (better != NULL && getenv(named[0]) == NULL) {
        (void)fprintf(stderr, "OpenBLAS would use %s's kernels here: naming %s's\n",
                      openblas_get_corename(), better);
        (void)setenv(named[0], better, 1);
        (void)setenv(OPENBLAS_STARTED, "1", 1);
        (void)execv("/proc/self/exe", argv);
    }
    if (!openblas_right()) {
        (void)fprintf(stderr, "OpenBLAS's %s computes wrong numbers\n", openblas_get_corename());
        return NULL;
    }
    return openblas_get_corename();
}
#endif
