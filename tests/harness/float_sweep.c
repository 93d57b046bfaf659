/* float_sweep.c - see float_sweep.h. */
#include "tests/harness/float_sweep.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/kernels.h"

#define BATCH 4096 /* numbers in one call of a backend's exp */
#define BACKENDS_MAX 16

static const struct {
    const char *name;
    float (*got)(float x);
    double (*want)(double x);
    double limit; /* ulps */
} functions[FLOAT_SWEEP_COUNT] = {
    [FLOAT_SWEEP_EXP] = {"exp", kernels_expf, exp, 1.5},
    [FLOAT_SWEEP_LOG] = {"log", kernels_logf, log, 0.51},
    [FLOAT_SWEEP_SIN] = {"sin", kernels_sinf, sin, 0.51},
    [FLOAT_SWEEP_COS] = {"cos", kernels_cosf, cos, 0.51},
};

/* A storage format: its largest number, the exponent of its smallest normal one, fraction bits. */
static const struct format {
    const char *name;
    void (*narrow)(size_t count, const float *x, uint16_t *out);
    void (*widen)(size_t count, const uint16_t *x, float *out);
    float largest;
    int exponent_min, fraction;
    uint16_t nan;
} formats[] = {
    {"bf16", kernels_to_bf16, kernels_from_bf16, 0x1.fep127F, -126, 7, 0x7fc0},
    {"f16", kernels_to_f16, kernels_from_f16, 65504.0F, -14, 10, 0x7e00},
};
#define FORMATS (sizeof formats / sizeof formats[0])

/* 2^exponent, exponent in [-1022, 1023]: ldexp is slow for four thousand million numbers. */
static double power_of_two(int exponent)
{
    const uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

double float_sweep_ulps(float got, double want)
{
    uint64_t bits;
    memcpy(&bits, &want, sizeof bits);
    const int exponent = (int)(bits >> 52 & 0x7ff) - 1023;
    return fabs((double)got - want) * power_of_two(23 - (exponent < -126 ? -126 : exponent));
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static void fail(struct float_sweep *sweep, const char *what, float x, float got, double want)
{
    if (sweep->failure[0] == '\0') {
        (void)snprintf(sweep->failure, sizeof sweep->failure, "%s of %a (%08x) is %a, want %a",
                       what, (double)x, bits_of(x), (double)got, want);
    }
}

/* True where kernels.h gives a value and not a bound: the value. exact is the true one, of angles NaN
 * outside their range. */
static bool edge(int function, float x, double exact, float *out)
{
    *out = (float)exact;
    return !(fabsf(*out) <= FLT_MAX) || (function == FLOAT_SWEEP_EXP && x < -104.0F);
}

static void check_functions(struct float_sweep *sweep, float x)
{
    for (int i = 0; i < FLOAT_SWEEP_COUNT; i++) {
        const float got = functions[i].got(x);
        const bool angle = i == FLOAT_SWEEP_SIN || i == FLOAT_SWEEP_COS;
        const bool outside = angle && !(fabsf(x) <= KERNELS_ANGLE_MAX);
        const double exact = outside ? nan("") : functions[i].want((double)x);
        float want;
        if (edge(i, x, exact, &want)) {
            if (isnan(want) ? !isnan(got) : got != want) {
                fail(sweep, functions[i].name, x, got, exact);
            }
            continue;
        }
        const double error = float_sweep_ulps(got, exact);
        if (!(error <= sweep->worst[i])) {
            sweep->worst[i] = error;
            sweep->at[i] = x;
        }
        if (!(error <= functions[i].limit)) {
            fail(sweep, functions[i].name, x, got, exact);
        }
    }
}

/* In double, adding 1.5 * 2^52 units rounds to a whole number of units, to nearest even. */
static void check_narrowing(struct float_sweep *sweep, const struct format *format, float x)
{
    uint16_t code;
    float got;
    format->narrow(1, &x, &code);
    format->widen(1, &code, &got);
    if (isnan(x)) {
        if (code != format->nan) {
            fail(sweep, format->name, x, got, (double)x);
        }
        return;
    }
    const float clamped = fminf(fabsf(x), format->largest);
    int exponent = (int)(bits_of(clamped) >> 23) - 127;
    exponent = exponent < format->exponent_min ? format->exponent_min : exponent;
    const double magic = 0x1.8p52 * power_of_two(exponent - format->fraction);
    const double want = copysign((double)clamped + magic - magic, (double)x);
    if ((double)got != want || (signbit(got) != 0) != (signbit(x) != 0)) {
        fail(sweep, format->name, x, got, want);
    }
}

static void check_exp(struct float_sweep *sweep, size_t count, const float *x)
{
    static const struct kernels *backends[BACKENDS_MAX];
    static bool asked;
    for (size_t b = 0; !asked && b < BACKENDS_MAX && kernels_backend(b) != NULL; b++) {
        backends[b] = kernels_get(kernels_backend(b), NULL);
    }
    asked = true;
    for (size_t b = 0; b < BACKENDS_MAX; b++) {
        float got[BATCH];
        if (backends[b] == NULL) {
            continue;
        }
        kernels_exp(backends[b], &parallel_serial, count, x, got);
        for (size_t i = 0; i < count; i++) {
            const float want = kernels_expf(x[i]);
            if (bits_of(got[i]) != bits_of(want) && !(isnan(got[i]) && isnan(want))) {
                fail(sweep, kernels_name(backends[b]), x[i], got[i], (double)want);
            }
        }
    }
}

void float_sweep_run(uint64_t first, uint64_t end, uint64_t step, struct float_sweep *sweep)
{
    float x[BATCH];
    for (uint64_t at = first; at < end;) {
        size_t count = 0;
        for (; count < BATCH && at < end; at += step) {
            const uint32_t bits = (uint32_t)at;
            memcpy(&x[count], &bits, sizeof bits);
            check_functions(sweep, x[count]);
            for (size_t f = 0; f < FORMATS; f++) {
                check_narrowing(sweep, &formats[f], x[count]);
            }
            count++;
        }
        check_exp(sweep, count, x);
    }
}

void float_sweep_widening(struct float_sweep *sweep)
{
    for (size_t f = 0; f < FORMATS; f++) {
        const struct format *format = &formats[f];
        for (uint32_t i = 0; i <= UINT16_MAX; i++) {
            const uint16_t code = (uint16_t)i;
            const int fraction = (int)(code & ((1U << format->fraction) - 1U));
            const int raw = (code & 0x7fff) >> format->fraction;
            const int whole = raw > 0 ? 1 << format->fraction : 0;
            const int exponent = format->exponent_min + (raw > 0 ? raw - 1 : 0);
            double want = ldexp(whole + fraction, exponent - format->fraction);
            if (raw == 0x7fff >> format->fraction) {
                want = fraction == 0 ? HUGE_VAL : nan("");
            }
            float got;
            format->widen(1, &code, &got);
            if (isnan(want)
                    ? !isnan(got)
                    : (double)fabsf(got) != want || (signbit(got) != 0) != (code >> 15 != 0)) {
                fail(sweep, format->name, got, got, want);
            }
        }
    }
}

void float_sweep_print(const struct float_sweep *sweep)
{
    for (int i = 0; i < FLOAT_SWEEP_COUNT; i++) {
        (void)printf("%s: worst error %.5f units in the last place at %a, bound %.2f\n",
                     functions[i].name, sweep->worst[i], (double)sweep->at[i], functions[i].limit);
    }
}
