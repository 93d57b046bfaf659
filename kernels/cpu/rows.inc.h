/* rows.inc.h - everything that walks along rows: norms, rotary positions, losses, elementwise maps,
 * the optimiser. Written once on vector.h; each backend includes it. kernels.h states the formulas
 * and the order of every sum. */
#pragma once

#include <math.h>

#include "kernels/backend.h"
#include "kernels/cpu/vector.h"

/* Runs body for each group of 16 elements of a row of `count`, part by part: `at` is the index of
 * the vector's first element, `left` how many elements remain (0 past the end), `part` its number. */
#define FOR_LANES(count, body)                                                                     \
    for (size_t group = 0; group < (count); group += 16) {                                         \
        for (size_t part = 0; part < V_PARTS; part++) {                                            \
            size_t at = group + part * V_WIDTH;                                                    \
            size_t left = (count) > at ? (count)-at : 0;                                           \
            if (left == 0) {                                                                       \
                at = (count);                                                                      \
            }                                                                                      \
            body                                                                                   \
        }                                                                                          \
    }

/* The same for elementwise work, where lanes do not matter. */
#define FOR_VECTORS(count, body)                                                                   \
    for (size_t at = 0; at < (count); at += V_WIDTH) {                                             \
        size_t left = (count)-at;                                                                  \
        body                                                                                       \
    }

V_FUNCTION float rows_sum(size_t count, const float *x)
{
    struct lanes sum = lanes_of(0.0F);
    FOR_LANES(count, { sum.part[part] = v_add(sum.part[part], v_load_row(x + at, left, 0.0F)); })
    return lanes_sum(&sum);
}

V_FUNCTION float rows_sum_squares(size_t count, const float *x)
{
    struct lanes sum = lanes_of(0.0F);
    FOR_LANES(count, {
        vf a = v_load_row(x + at, left, 0.0F);
        sum.part[part] = v_fma(a, a, sum.part[part]);
    })
    return lanes_sum(&sum);
}

V_FUNCTION float rows_max(size_t count, const float *x)
{
    struct lanes max = lanes_of(-INFINITY);
    FOR_LANES(count,
              { max.part[part] = v_max(max.part[part], v_load_row(x + at, left, -INFINITY)); })
    return lanes_max(&max);
}

V_FUNCTION bool rows_all_finite(size_t count, const float *x)
{
    const vi exponent = vi_set1(0x7f800000);
    FOR_VECTORS(count, {
        vi bits = v_bits(v_load_row(x + at, left, 0.0F));
        if (vi_any_equal(vi_and(bits, exponent), exponent)) {
            return false;
        }
    })
    return true;
}

V_FUNCTION void rows_exp(size_t count, const float *x, float *out){
    FOR_VECTORS(count, { v_store_row(out + at, left, v_exp(v_load_row(x + at, left, 0.0F))); })}

V_FUNCTION void rows_add(size_t count, const float *a, const float *b, float *out){
    FOR_VECTORS(count,
                {
                    v_store_row(
                        out + at, left,
                        v_add(v_load_row(a + at, left, 0.0F), v_load_row(b + at, left, 0.0F)));
                })}

V_FUNCTION void rows_scale(size_t count, float scale, const float *x, float *out)
{
    const vf factor = v_set1(scale);
    FOR_VECTORS(count,
                { v_store_row(out + at, left, v_mul(factor, v_load_row(x + at, left, 0.0F))); })
}

V_FUNCTION void rows_axpy(size_t count, float scale, const float *x, float *y)
{
    const vf factor = v_set1(scale);
    FOR_VECTORS(count, {
        v_store_row(y + at, left,
                    v_fma(factor, v_load_row(x + at, left, 0.0F), v_load_row(y + at, left, 0.0F)));
    })
}

/* 1 / (1 + exp(-g)); a g below -88 makes exp infinite and the result +0, as it should. */
V_INLINE vf rows_sigmoid_denominator(vf g)
{
    return v_add(v_set1(1.0F), v_exp(v_sub(v_set1(-0.0F), g)));
}

V_FUNCTION void rows_swiglu(size_t count, const float *gate, const float *up, float *out){
    FOR_VECTORS(count,
                {
                    vf g = v_load_row(gate + at, left, 0.0F);
                    vf silu = v_div(g, rows_sigmoid_denominator(g));
                    v_store_row(out + at, left, v_mul(silu, v_load_row(up + at, left, 0.0F)));
                })}

V_FUNCTION void rows_swiglu_backward(size_t count, const float *gate, const float *up,
                                     const float *dy, float *dgate, float *dup)
{
    const vf one = v_set1(1.0F);
    FOR_VECTORS(count, {
        vf g = v_load_row(gate + at, left, 0.0F);
        vf u = v_load_row(up + at, left, 0.0F);
        vf d = v_load_row(dy + at, left, 0.0F);
        vf s = v_div(one, rows_sigmoid_denominator(g));
        vf t = v_mul(g, s);
        v_store_row(dup + at, left, v_mul(d, t));
        v_store_row(dgate + at, left, v_mul(v_mul(d, u), v_fma(t, v_sub(one, s), s)));
    })
}

V_FUNCTION void rows_rmsnorm(struct kernels_range rows, size_t width, float eps, const float *x,
                             const float *weight, float *y, float *inv)
{
    for (size_t r = rows.begin; r < rows.end; r++) {
        const float *row = x + r * width;
        float mean = rows_sum_squares(width, row) / (float)width;
        float scale = 1.0F / sqrtf(mean + eps);
        const vf factor = v_set1(scale);
        FOR_VECTORS(width, {
            vf a = v_mul(v_load_row(row + at, left, 0.0F), factor);
            v_store_row(y + r * width + at, left, v_mul(a, v_load_row(weight + at, left, 0.0F)));
        })
        if (inv != NULL) {
            inv[r] = scale;
        }
    }
}

V_FUNCTION void rows_rmsnorm_dx(const struct kernels_rmsnorm_backward *args,
                                struct kernels_range rows)
{
    const size_t width = args->width;
    for (size_t r = rows.begin; r < rows.end; r++) {
        const float *x = args->x + r * width;
        const float *dy = args->dy + r * width;
        float *dx = args->dx + r * width;
        struct lanes sum = lanes_of(0.0F);
        FOR_LANES(width, {
            vf g =
                v_mul(v_load_row(dy + at, left, 0.0F), v_load_row(args->weight + at, left, 0.0F));
            sum.part[part] = v_fma(g, v_load_row(x + at, left, 0.0F), sum.part[part]);
        })
        float inv = args->inv[r];
        float f = lanes_sum(&sum) * inv * inv * inv / (float)width;
        const vf minus_f = v_set1(-f);
        const vf scale = v_set1(inv);
        FOR_VECTORS(width, {
            vf g =
                v_mul(v_load_row(dy + at, left, 0.0F), v_load_row(args->weight + at, left, 0.0F));
            vf d = v_fma(minus_f, v_load_row(x + at, left, 0.0F), v_mul(g, scale));
            if (args->accumulate) {
                d = v_add(v_load_row(dx + at, left, 0.0F), d);
            }
            v_store_row(dx + at, left, d);
        })
    }
}

V_FUNCTION void rows_rmsnorm_dweight(const struct kernels_rmsnorm_backward *args,
                                     struct kernels_range columns)
{
    const size_t count = columns.end - columns.begin;
    float *dweight = args->dweight + columns.begin;
    for (size_t r = 0; r < args->rows; r++) {
        const float *x = args->x + r * args->width + columns.begin;
        const float *dy = args->dy + r * args->width + columns.begin;
        const vf inv = v_set1(args->inv[r]);
        FOR_VECTORS(count, {
            vf normal = v_mul(v_load_row(x + at, left, 0.0F), inv);
            vf sum = v_load_row(dweight + at, left, 0.0F);
            sum = v_fma(v_load_row(dy + at, left, 0.0F), normal, sum);
            v_store_row(dweight + at, left, sum);
        })
    }
}

V_FUNCTION void rows_rope(const struct kernels_rope *args, struct kernels_range rows)
{
    const size_t half = args->head_dim / 2;
    const vf sign = v_set1(args->inverse ? -1.0F : 1.0F);
    for (size_t r = rows.begin; r < rows.end; r++) {
        const float *cosine = args->cos + args->positions[r] * half;
        const float *sine = args->sin + args->positions[r] * half;
        for (size_t h = 0; h < args->head_count; h++) {
            float *x = args->x + r * args->stride + h * args->head_dim;
            FOR_VECTORS(half, {
                vf a = v_load_row(x + at, left, 0.0F);
                vf b = v_load_row(x + half + at, left, 0.0F);
                vf c = v_load_row(cosine + at, left, 0.0F);
                vf s = v_mul(v_load_row(sine + at, left, 0.0F), sign);
                vf minus = v_sub(v_set1(-0.0F), v_mul(b, s));
                v_store_row(x + at, left, v_fma(a, c, minus));
                v_store_row(x + half + at, left, v_fma(b, c, v_mul(a, s)));
            })
        }
    }
}

V_FUNCTION void rows_cross_entropy(const struct kernels_cross_entropy *args,
                                   struct kernels_range rows)
{
    const size_t vocab = args->vocab;
    for (size_t r = rows.begin; r < rows.end; r++) {
        const float *x = args->logits + r * args->stride;
        float *dx = args->out_dlogits == NULL ? NULL : args->out_dlogits + r * args->stride;
        if (args->targets[r] < 0) {
            args->out_loss[r] = 0.0F;
            if (dx != NULL) {
                memset(dx, 0, vocab * sizeof *dx);
            }
            continue;
        }
        const size_t target = (size_t)args->targets[r];
        const float max = rows_max(vocab, x);
        const float target_logit = x[target];
        const vf max_all = v_set1(max);
        struct lanes sum = lanes_of(0.0F);
        FOR_LANES(vocab, {
            /* past the end exp(-inf - max) is +0: it changes no lane */
            vf e = v_exp(v_sub(v_load_row(x + at, left, -INFINITY), max_all));
            sum.part[part] = v_add(sum.part[part], e);
            if (dx != NULL && left > 0) {
                v_store_row(dx + at, left, e);
            }
        })
        const float total = lanes_sum(&sum);
        args->out_loss[r] = (max + kernels_logf(total)) - target_logit;
        if (dx == NULL) {
            continue;
        }
        const float inv = 1.0F / total;
        const float weight = args->weights == NULL ? 1.0F : args->weights[r];
        const float dtarget = (dx[target] * inv - 1.0F) * weight;
        FOR_VECTORS(vocab, {
            vf p = v_mul(v_load_row(dx + at, left, 0.0F), v_set1(inv));
            v_store_row(dx + at, left, v_mul(p, v_set1(weight)));
        })
        dx[target] = dtarget;
    }
}

V_FUNCTION void rows_adamw(const struct kernels_adamw *args,
                           const struct kernels_adamw_factors *factors, struct kernels_range range)
{
    const size_t count = range.end - range.begin;
    float *weight = args->weight + range.begin;
    float *m = args->m + range.begin;
    float *v = args->v + range.begin;
    const float *grad = args->grad + range.begin;
    FOR_VECTORS(count, {
        vf g = v_mul(v_load_row(grad + at, left, 0.0F), v_set1(args->grad_scale));
        vf first = v_fma(v_set1(args->beta1), v_load_row(m + at, left, 0.0F),
                         v_mul(v_set1(factors->gain1), g));
        vf second = v_fma(v_set1(args->beta2), v_load_row(v + at, left, 0.0F),
                          v_mul(v_mul(v_set1(factors->gain2), g), g));
        vf d = v_add(v_div(v_sqrt(second), v_set1(factors->root)), v_set1(args->eps));
        vf w = v_mul(v_load_row(weight + at, left, 1.0F), v_set1(factors->decay));
        w = v_fma(v_set1(factors->rate), v_div(first, d), w);
        v_store_row(m + at, left, first);
        v_store_row(v + at, left, second);
        v_store_row(weight + at, left, w);
    })
}

/* This file's part of a backend's table. */
#define ROWS_TABLE                                                                                 \
    .rmsnorm = rows_rmsnorm, .rmsnorm_dx = rows_rmsnorm_dx,                                        \
    .rmsnorm_dweight = rows_rmsnorm_dweight, .rope = rows_rope,                                    \
    .cross_entropy = rows_cross_entropy, .swiglu = rows_swiglu,                                    \
    .swiglu_backward = rows_swiglu_backward, .add = rows_add, .scale = rows_scale,                 \
    .axpy = rows_axpy, .exp = rows_exp, .adamw = rows_adamw, .sum = rows_sum,                      \
    .sum_squares = rows_sum_squares, .max = rows_max, .all_finite = rows_all_finite
