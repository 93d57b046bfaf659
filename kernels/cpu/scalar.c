/* scalar.c - the scalar backend: plain loops that are the specification of every other one.
 *
 * Products and attention are written out here as kernels.h states them, without blocking, so that
 * the fast versions have something independent to agree with. The rest is rows.inc.h at width 1. */
#define KERNELS_SCALAR 1
#include <float.h>

#include "kernels/cpu/rows.inc.h"

static bool supported(void)
{
    return true;
}

static void scalar_pack(size_t k, size_t n, struct kernels_matrix b, struct kernels_range panels,
                        float *packed)
{
    for (size_t j = panels.begin * 16; j < panels.end * 16; j++) {
        for (size_t p = 0; p < k; p++) {
            packed[j / 16 * 16 * k + p * 16 + j % 16] =
                j < n ? b.data[p * b.row_stride + j * b.column_stride] : 0.0F;
        }
    }
}

static void scalar_pack16(size_t k, size_t n, struct kernels_matrix16 b,
                          struct kernels_range panels, uint16_t *packed)
{
    for (size_t j = panels.begin * 16; j < panels.end * 16; j++) {
        for (size_t p = 0; p < k; p++) {
            packed[j / 16 * 16 * k + p * 16 + j % 16] =
                j < n ? b.data[p * b.row_stride + j * b.column_stride] : 0;
        }
    }
}

/* Element (p, j) of packed B. */
static float scalar_packed(const struct kernels_gemm *gemm, size_t p, size_t j)
{
    const size_t at = j / 16 * 16 * gemm->k + p * 16 + j % 16;
    const size_t size = gemm->type == KERNELS_F32 ? sizeof(float) : sizeof(uint16_t);
    float right;
    kernels_widen(gemm->type, 1, (const char *)gemm->packed + at * size, &right);
    return right;
}

static void scalar_gemm(const struct kernels_gemm *gemm, struct kernels_range rows,
                        struct kernels_range columns)
{
    const struct kernels_matrix *a = &gemm->a;
    const struct kernels_matrix *b = &gemm->b;
    for (size_t i = rows.begin; i < rows.end; i++) {
        for (size_t j = columns.begin; j < columns.end; j++) {
            float *c = gemm->c + i * gemm->c_stride + j;
            float sum = gemm->accumulate ? *c : 0.0F;
            for (size_t p = 0; p < gemm->k; p++) {
                float left = a->data[i * a->row_stride + p * a->column_stride];
                float right = gemm->packed != NULL
                                  ? scalar_packed(gemm, p, j)
                                  : b->data[p * b->row_stride + j * b->column_stride];
                sum = fmaf(left, right, sum);
            }
            *c = sum;
        }
    }
}

static void scalar_quantize(size_t k, const float *x, int8_t *codes, float *scales)
{
    for (size_t at = 0; at < k; at += KERNELS_QUANT) {
        const size_t count = k - at < KERNELS_QUANT ? k - at : KERNELS_QUANT;
        float max = 0.0F;
        for (size_t i = 0; i < count; i++) {
            const float magnitude = fabsf(x[at + i]);
            max = isnan(magnitude) ? INFINITY : magnitude > max ? magnitude : max;
        }
        const bool finite = max <= FLT_MAX;
        const bool used = finite && max >= KERNELS_QUANT_MIN;
        const float inverse = 127.0F / max;
        for (size_t i = 0; i < KERNELS_QUANT; i++) {
            codes[at + i] = used && i < count ? (int8_t)lrintf(x[at + i] * inverse) : 0;
        }
        scales[at / KERNELS_QUANT] = !finite ? NAN : used ? max / 127.0F : 0.0F;
    }
}

/* The chain of one output of the int8 product, continued from sum. */
static float scalar_dot_int8(const struct kernels_gemm_int8 *gemm, size_t i, size_t j, float sum)
{
    const size_t blocks = kernels_quant_blocks(gemm->k);
    for (size_t b = 0; b < blocks; b++) {
        const size_t w = j / 16 * blocks + b; /* block of 16 rows of W */
        const int8_t *x_codes = gemm->x_codes + (i * blocks + b) * KERNELS_QUANT;
        const int8_t *w_codes = gemm->w_codes + w * 16 * KERNELS_QUANT + j % 16 * 4;
        int32_t dot = 0;
        for (size_t t = 0; t < KERNELS_QUANT; t++) {
            dot += x_codes[t] * w_codes[t / 4 * 64 + t % 4];
        }
        float scale;
        kernels_from_f16(1, &gemm->w_scales[w * 16 + j % 16], &scale);
        sum = fmaf((float)dot, scale * gemm->x_scales[i * blocks + b], sum);
    }
    return sum;
}

static void scalar_gemm_int8(const struct kernels_gemm_int8 *gemm, struct kernels_range rows,
                             struct kernels_range columns)
{
    for (size_t i = rows.begin; i < rows.end; i++) {
        for (size_t j = columns.begin; j < columns.end; j++) {
            float *c = gemm->c + i * gemm->c_stride + j;
            *c = scalar_dot_int8(gemm, i, j, gemm->accumulate ? *c : 0.0F);
        }
    }
}

static float scalar_dot(size_t count, const float *a, const float *b)
{
    float sum = 0.0F;
    for (size_t i = 0; i < count; i++) {
        sum = fmaf(a[i], b[i], sum);
    }
    return sum;
}

/* Scores of one row against the keys of one block, s[0 .. keys). */
static void scalar_scores(const struct kernels_attention *attention, const float *q, const float *k,
                          size_t keys, float *s)
{
    for (size_t j = 0; j < keys; j++) {
        s[j] = attention->scale * scalar_dot(attention->head_dim, q, k + j * attention->kv_stride);
    }
}

/* One row of one query head; k and v at position 0 of its key-value head. */
static void scalar_attend(const struct kernels_attention *attention, const float *q, const float *k,
                          const float *v, size_t position, float *out, float stats[2])
{
    const size_t dim = attention->head_dim;
    const size_t stride = attention->kv_stride;
    float s[KERNELS_BLOCK];
    float max = 0.0F;
    for (size_t first = 0; first <= position; first += KERNELS_BLOCK) {
        size_t keys = position - first + 1 < KERNELS_BLOCK ? position - first + 1 : KERNELS_BLOCK;
        scalar_scores(attention, q, k + first * stride, keys, s);
        float found = rows_max(keys, s);
        max = first == 0 || !(max > found) ? found : max;
    }
    float sum = 0.0F;
    for (size_t first = 0; first <= position; first += KERNELS_BLOCK) {
        size_t keys = position - first + 1 < KERNELS_BLOCK ? position - first + 1 : KERNELS_BLOCK;
        scalar_scores(attention, q, k + first * stride, keys, s);
        float part = 0.0F;
        for (size_t j = 0; j < keys; j++) {
            s[j] = kernels_expf(s[j] - max);
            part = part + s[j];
        }
        sum = first == 0 ? part : sum + part;
        for (size_t d = 0; d < dim; d++) {
            float o = 0.0F;
            for (size_t j = 0; j < keys; j++) {
                o = fmaf(s[j], v[(first + j) * stride + d], o);
            }
            out[d] = first == 0 ? o : out[d] + o;
        }
    }
    stats[0] = max;
    stats[1] = 1.0F / sum;
    for (size_t d = 0; d < dim; d++) {
        out[d] = out[d] * stats[1];
    }
}

static void scalar_attention(const struct kernels_attention *attention,
                             const struct kernels_sequence *sequence, uint32_t kv_head,
                             size_t block)
{
    const size_t dim = attention->head_dim;
    const size_t group = attention->head_count / attention->kv_head_count;
    for (size_t h = kv_head * group; h < (kv_head + 1) * group; h++) {
        for (size_t row = 0; row < sequence->row_count; row++) {
            float stats[2];
            if ((sequence->start + row) / KERNELS_BLOCK != block) {
                continue;
            }
            scalar_attend(attention, sequence->q + row * attention->q_stride + h * dim,
                          sequence->k + kv_head * dim, sequence->v + kv_head * dim,
                          sequence->start + row,
                          sequence->out + row * attention->out_stride + h * dim, stats);
            if (sequence->stats != NULL) {
                memcpy(sequence->stats + (h * sequence->row_count + row) * 2, stats, sizeof stats);
            }
        }
    }
}

/* One row of query head h: dq overwritten, dk and dv of its keys continued. */
static void scalar_attend_backward(const struct kernels_attention *attention,
                                   const struct kernels_sequence *sequence, size_t h, size_t row)
{
    const size_t dim = attention->head_dim;
    const size_t kv_head = h / (attention->head_count / attention->kv_head_count);
    const float *q = sequence->q + row * attention->q_stride + h * dim;
    const float *out = sequence->out + row * attention->out_stride + h * dim;
    const float *dout = sequence->dout + row * attention->out_stride + h * dim;
    const float *stats = sequence->stats + (h * sequence->row_count + row) * 2;
    float *dq = sequence->dq + row * attention->q_stride + h * dim;
    const float dot = scalar_dot(dim, dout, out);
    memset(dq, 0, dim * sizeof *dq);
    for (size_t j = 0; j <= row; j++) {
        const size_t at = j * attention->kv_stride + kv_head * dim;
        const float s = attention->scale * scalar_dot(dim, q, sequence->k + at);
        const float p = kernels_expf(s - stats[0]) * stats[1];
        const float dp = scalar_dot(dim, dout, sequence->v + at);
        const float ds = (p * (dp - dot)) * attention->scale;
        for (size_t d = 0; d < dim; d++) {
            dq[d] = fmaf(ds, sequence->k[at + d], dq[d]);
            sequence->dk[at + d] = fmaf(ds, q[d], sequence->dk[at + d]);
            sequence->dv[at + d] = fmaf(p, dout[d], sequence->dv[at + d]);
        }
    }
}

static void scalar_attention_backward(const struct kernels_attention *attention,
                                      const struct kernels_sequence *sequence, uint32_t kv_head)
{
    const size_t dim = attention->head_dim;
    const size_t group = attention->head_count / attention->kv_head_count;
    for (size_t j = 0; j < sequence->row_count; j++) {
        memset(sequence->dk + j * attention->kv_stride + kv_head * dim, 0, dim * sizeof(float));
        memset(sequence->dv + j * attention->kv_stride + kv_head * dim, 0, dim * sizeof(float));
    }
    for (size_t h = kv_head * group; h < (kv_head + 1) * group; h++) {
        for (size_t row = 0; row < sequence->row_count; row++) {
            scalar_attend_backward(attention, sequence, h, row);
        }
    }
}

/* The scalar forms of what vector.h computes, for everybody. */
float kernels_expf(float x)
{
    return v_exp(x);
}

const struct kernels kernels_scalar = {.name = "scalar",
                                       .supported = supported,
                                       .gemm = scalar_gemm,
                                       .pack = scalar_pack,
                                       .pack16 = scalar_pack16,
                                       .quantize = scalar_quantize,
                                       .gemm_int8 = scalar_gemm_int8,
                                       .attention = scalar_attention,
                                       .attention_backward = scalar_attention_backward,
                                       ROWS_TABLE};
