/* formats.c - how numbers are stored: bf16, f16, blocks of int8. The same bits everywhere.
 *
 * Source: IEEE 754-2019 for binary16; bf16 is the upper half of binary32; GGUF's Q8_0 for the block. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "shared/base/check.h"

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

void kernels_to_bf16(size_t count, const float *x, uint16_t *out)
{
    const uint32_t largest = 0x7f7f0000;
    for (size_t i = 0; i < count; i++) {
        const uint32_t bits = bits_of(x[i]);
        const uint32_t sign = bits & 0x80000000;
        uint32_t magnitude = bits & 0x7fffffff;
        if (magnitude > 0x7f800000) {
            out[i] = 0x7fc0;
            continue;
        }
        magnitude = magnitude > largest ? largest : magnitude;
        magnitude += 0x7fff + (magnitude >> 16 & 1);
        out[i] = (uint16_t)((sign | magnitude) >> 16);
    }
}

void kernels_from_bf16(size_t count, const uint16_t *x, float *out)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = float_of((uint32_t)x[i] << 16);
    }
}

/* A finite f16 below 2^-14 is a multiple of 2^-24: adding 1/2 leaves that multiple, rounded to
 * nearest even, in the low bits of the sum. */
static uint16_t to_f16(float x)
{
    const uint32_t bits = bits_of(x);
    const uint32_t sign = bits >> 16 & 0x8000;
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) {
        return 0x7e00;
    }
    const uint32_t largest = 0x477fe000; /* 65504 */
    magnitude = magnitude > largest ? largest : magnitude;
    if (magnitude < 0x38800000) {
        return (uint16_t)(sign | (bits_of(float_of(magnitude) + 0.5F) - 0x3f000000));
    }
    magnitude += 0xfff + (magnitude >> 13 & 1) - (112U << 23);
    return (uint16_t)(sign | magnitude >> 13);
}

static float from_f16(uint16_t x)
{
    const uint32_t sign = (uint32_t)(x & 0x8000) << 16;
    const uint32_t magnitude = x & 0x7fff;
    if (magnitude < 0x400) {
        return float_of(sign | bits_of((float)magnitude * 0x1p-24F));
    }
    const uint32_t bias =
        magnitude < 0x7c00 ? 112U << 23 : 224U << 23; /* the last one to inf, NaN */
    return float_of(sign | ((magnitude << 13) + bias));
}

void kernels_to_f16(size_t count, const float *x, uint16_t *out)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = to_f16(x[i]);
    }
}

void kernels_from_f16(size_t count, const uint16_t *x, float *out)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = from_f16(x[i]);
    }
}

void kernels_widen(enum kernels_type type, size_t count, const void *x, float *out)
{
    switch (type) {
    case KERNELS_F32:
        memcpy(out, x, count * sizeof *out);
        break;
    case KERNELS_BF16:
        kernels_from_bf16(count, x, out);
        break;
    case KERNELS_F16:
        kernels_from_f16(count, x, out);
        break;
    }
}

size_t kernels_quant_blocks(size_t k)
{
    return (k + KERNELS_QUANT - 1) / KERNELS_QUANT;
}

/* max |x|; NaN when one is a NaN. */
static float largest(size_t count, const float *x)
{
    uint32_t max = 0;
    for (size_t i = 0; i < count; i++) {
        const uint32_t magnitude = bits_of(x[i]) & 0x7fffffff;
        max = magnitude > max ? magnitude : max;
    }
    return float_of(max);
}

void kernels_quantize_q8(size_t k, const float *x, uint8_t *out_blocks)
{
    for (size_t at = 0; at < k; at += KERNELS_QUANT) {
        const size_t count = k - at < KERNELS_QUANT ? k - at : KERNELS_QUANT;
        const float max = largest(count, x + at);
        const uint16_t stored = max <= FLT_MAX ? to_f16(max / 127.0F) : 0x7e00;
        const float scale = from_f16(stored);
        *out_blocks++ = (uint8_t)stored;
        *out_blocks++ = (uint8_t)(stored >> 8);
        for (size_t i = 0; i < KERNELS_QUANT; i++) {
            float code = i < count && scale > 0.0F ? x[at + i] / scale : 0.0F;
            code = code > 127.0F ? 127.0F : code;
            code = code > -127.0F ? code : -127.0F;
            const int8_t rounded = (int8_t)lrintf(code);
            memcpy(out_blocks++, &rounded, 1);
        }
    }
}

void kernels_dequantize_q8(size_t k, const uint8_t *blocks, float *out)
{
    for (size_t j = 0; j < k; j++) {
        const uint8_t *block = blocks + j / KERNELS_QUANT * KERNELS_Q8_SIZE;
        int8_t code;
        memcpy(&code, block + 2 + j % KERNELS_QUANT, 1);
        out[j] = from_f16((uint16_t)(block[0] | block[1] << 8)) * (float)code;
    }
}
