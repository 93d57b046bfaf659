/* elementary.c - logarithm, sine and cosine, rotary tables: scalar, the same bits everywhere.
 *
 * Why double inside: these are not hot, and fixed sequences of correctly rounded double operations
 * are as reproducible as float ones, with error to spare. The results are then rounded once.
 * Source of the method: argument reduction and Taylor or atanh series, truncated below 2^-50. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/logarithm.inc.h"
#include "shared/base/check.h"
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#define LN2 LOGARITHM_LN2
#define PI_HALF_HIGH 0x1.921fb544p+0 /* 33 bits, so that n times it is exact for n < 2^20 */
#define PI_HALF_LOW 0x1.0b4611a626331p-34

bool kernels_fp_environment_ok(void)
{
#if defined(__x86_64__)
    const unsigned flush_to_zero = 1U << 15;
    const unsigned denormals_are_zero = 1U << 6;
    const unsigned rounding = 3U << 13;
    if ((_mm_getcsr() & (flush_to_zero | denormals_are_zero | rounding)) != 0) {
        return false;
    }
#elif defined(__aarch64__)
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    const uint64_t flush = 1U << 24 | 3U; /* FZ; FIZ and AH, which newer machines have */
    const uint64_t rounding = 3U << 22;
    const uint64_t half = 1U << 26; /* AHP: an f16 without infinities */
    if ((control & (flush | rounding | half)) != 0) {
        return false;
    }
#endif
    volatile float tiny = FLT_MIN;
    volatile float one = 1.0F;
    return tiny * 0.5F > 0.0F && one + 0x1p-24F == one && one + 0x1.8p-24F > one;
}

/* exp of x in [-700, 700]: x = n ln 2 + r, Taylor series in r, times 2^n. */
static double exp_double(double x)
{
    const double n = floor(x / LN2 + 0.5);
    const double r = fma(-n, LN2, x);
    double sum = 1.0;
    for (int i = 16; i >= 1; i--) {
        sum = fma(sum, r / i, 1.0);
    }
    const uint64_t bits = (uint64_t)((int64_t)n + 1023) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return sum * scale;
}

/* sin(x + quarter * pi / 2): x = n pi / 2 + r with |r| <= pi / 4, then the Taylor series of sin r
 * or cos r. */
static double sin_double(double x, int quarter)
{
    const double n = floor(x / (PI_HALF_HIGH + PI_HALF_LOW) + 0.5);
    const double r = fma(-n, PI_HALF_LOW, fma(-n, PI_HALF_HIGH, x));
    const int64_t turn = ((int64_t)n + quarter) & 3;
    const double square = r * r;
    double sum = 1.0;
    for (int i = (turn & 1) == 0 ? 17 : 16; i > 1; i -= 2) {
        sum = fma(sum, -square / (double)(i * (i - 1)), 1.0);
    }
    sum = (turn & 1) == 0 ? sum * r : sum;
    return turn < 2 ? sum : -sum;
}

float kernels_logf(float x)
{
    return logarithm_float(x);
}

float kernels_sinf(float x)
{
    return fabsf(x) <= KERNELS_ANGLE_MAX ? (float)sin_double((double)x, 0) : NAN;
}

float kernels_cosf(float x)
{
    return fabsf(x) <= KERNELS_ANGLE_MAX ? (float)sin_double((double)x, 1) : NAN;
}

void kernels_rope_frequencies(double theta, uint32_t head_dim, float *out_frequency)
{
    CHECK(theta >= 1.0);
    CHECK(head_dim % 2 == 0);
    const double log_theta = logarithm(theta);
    for (uint32_t i = 0; i < head_dim / 2; i++) {
        out_frequency[i] = (float)exp_double(-2.0 * i / head_dim * log_theta);
    }
}

void kernels_rope_table(const float *frequency, size_t half, size_t position_count, float *out_cos,
                        float *out_sin)
{
    for (size_t position = 0; position < position_count; position++) {
        for (size_t i = 0; i < half; i++) {
            const float angle = (float)position * frequency[i];
            out_cos[position * half + i] = kernels_cosf(angle);
            out_sin[position * half + i] = kernels_sinf(angle);
        }
    }
}
