/* kernels.h - the numeric kernels: what each one computes, to the bit.
 *
 * Why: money depends on these numbers, so a result may not depend on the machine, the number of
 * threads or what else is in the batch. Every backend (scalar, AVX2, AVX-512, NEON, CUDA) returns the
 * same bits; DESIGN.md section 5, "Exact arithmetic", is the law behind each rule here.
 *
 * Words used below:
 * - chain: acc = fmaf(a, b, acc), one term after the other in the stated order, from +0.
 * - lane sum: 16 partial sums, lane l takes elements l, l + 16, ...; a row is padded with +0 to a
 *   multiple of 16; then lanes l and l + 8 are added, then + 4, + 2, + 1.
 * - max(a, b) is a > b ? a : b.
 *
 * Threads: no globals, no allocation. Calls taking a struct parallel spread themselves over its
 * workers, by outputs, and give the same bits for any number of them; all others run on the
 * caller's thread. A worker needs 2 MiB of stack. Pointers are borrowed for the call. Buffers may
 * not overlap unless said. No alignment is needed (64 bytes is fastest). Counts of 0 are allowed.
 *
 * Errors: shapes are our own business (CHECK). Non-finite numbers pass through as IEEE says; the
 * caller asks kernels_all_finite() where it matters. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/base/parallel.h"

#define KERNELS_PANEL 16             /* columns in a packed panel, lanes in a lane sum */
#define KERNELS_BLOCK 256            /* attention: positions in a block, anchored at position 0 */
#define KERNELS_HEAD_DIM_MAX 256     /* attention: floats in a head; even for RoPE */
#define KERNELS_GROUP_MAX 32         /* attention: query heads that share a key-value head */
#define KERNELS_SUM_BLOCK 4096       /* elements under one lane sum in kernels_sum_squares */
#define KERNELS_ANGLE_MAX 1048576.0F /* largest |x| that kernels_sin and kernels_cos accept */
#define KERNELS_QUANT 32             /* int8: elements that share a scale */
#define KERNELS_QUANT_MIN 0x1p-100F  /* int8: a block with all |x| below it has only zero codes */
#define KERNELS_Q8_SIZE 34           /* bytes of a stored block: f16 scale, then 32 codes */
#define KERNELS_ARITHMETIC "fp32-exact-1" /* names this specification in an arithmetic profile */
#define KERNELS_ARITHMETIC_INT8 "int8-exact-1" /* the same for products of int8 weights */

/* How numbers are stored. 16-bit numbers are widened to fp32 exactly before any arithmetic, so a
 * product with 16-bit weights has the bits of the fp32 product with the widened weights. */
enum kernels_type {
    KERNELS_F32,
    KERNELS_BF16, /* the upper half of an fp32 */
    KERNELS_F16,  /* IEEE 754 binary16 */
};

struct kernels; /* one backend: an immutable table of functions, usable from any thread */

/* The name of backend `index` of those in this build ("scalar", "avx2", "avx512", "avx512-vnni", "avx512-amx",
 * "neon", "neon-dotprod", "cuda"), NULL past the last: fastest first, at the end those that are used only
 * when they are named. Whether this machine can run it kernels_get() says. */
const char *kernels_backend(size_t index);

/* Returns a backend by a name of kernels_backend(), or for NULL for the fastest that this machine has.
 * Runs a self-test (under 10 ms): a backend whose digest differs from the scalar one is refused.
 * Returns NULL and says why in note (may be NULL) when the named one is unknown, is not supported
 * by this CPU, or is refused; for name NULL falls back to the next best and says what was refused. */
MUST_USE const struct kernels *kernels_get(const char *name, struct note *note);

/* The backend's name. Never NULL. */
const char *kernels_name(const struct kernels *kernels);

/* Says that the bytes at data (packed weights) stay as they are until kernels_forget, which must come
 * before they are freed: a backend whose memory is another keeps a copy there instead of copying them for
 * every product. For backends that compute where the bytes lie, these do nothing. No result depends on them.
 * ERR_LIMIT: no room there, or more than 64 such regions. Forgetting what is not kept is fine. */
MUST_USE enum err kernels_keep(const struct kernels *kernels, const void *data, size_t size,
                               struct note *note);
void kernels_forget(const struct kernels *kernels, const void *data);

/* True if this thread rounds to nearest and keeps denormals (no FTZ, no DAZ). Every worker thread
 * asserts it at start. */
MUST_USE bool kernels_fp_environment_ok(void);

/* ---- matrix products ---------------------------------------------------------------------- */

/* A borrowed matrix: element (i, j) is data[i * row_stride + j * column_stride], strides in floats.
 * One of the strides must be 1. So a row-major r x c matrix M with rows of `stride` floats is
 * {M, stride, 1}, and its transpose is {M, 1, stride}. */
struct kernels_matrix {
    const float *data;
    size_t row_stride;
    size_t column_stride;
};

/* C[m x n] = A[m x k] B[k x n]; C += ... with accumulate.
 * Each C[i][j] is one chain over p = 0..k-1 of fmaf(A[i][p], B[p][j], acc), from +0 or, with
 * accumulate, from the old C[i][j]: so a product over rows may be continued call after call.
 * The uses, with row-major X[rows x in], W[out x in], Y[rows x out]:
 *   forward          Y  = X W^T   a = {X, in, 1}    b = {W, 1, in}  (or packed from that)
 *   input gradient   dX = dY W    a = {dY, out, 1}  b = {W, in, 1}  (or packed from that)
 *   weight gradient  dW += dY^T X a = {dY, 1, out}  b = {X, in, 1}, accumulate
 * k = 0 leaves C (accumulate) or sets +0. */
struct kernels_gemm {
    size_t m, n, k;
    struct kernels_matrix a;
    struct kernels_matrix b; /* not read when packed is set */
    const void *packed;      /* B from kernels_pack or kernels_pack16, same n and k; or NULL */
    enum kernels_type type;  /* of packed */
    float *c;                /* row-major, may not overlap A or B */
    size_t c_stride;         /* floats from row to row, >= n */
    bool accumulate;
};
void kernels_gemm(const struct kernels *kernels, const struct parallel *parallel,
                  const struct kernels_gemm *gemm);

/* Numbers that kernels_pack writes for B[k x n]: panels of 16 columns, each [k][16], the last padded
 * with +0. The layout is the same for every backend. Weights that are used again and again (serving)
 * are packed once; in training packing on the fly costs little. Panels do not depend on each other:
 * columns [16 p, ...) of B may be packed by a call of their own to out_packed + 16 p k. */
size_t kernels_packed_count(size_t k, size_t n);
void kernels_pack(const struct kernels *kernels, const struct parallel *parallel, size_t k,
                  size_t n, struct kernels_matrix b, float *out_packed);

/* The same for weights of 16 bits (bf16 or f16: bits are only moved), for kernels_gemm with type. */
struct kernels_matrix16 {
    const uint16_t *data;
    size_t row_stride; /* as struct kernels_matrix, in numbers; one of the two is 1 */
    size_t column_stride;
};
void kernels_pack16(const struct kernels *kernels, const struct parallel *parallel, size_t k,
                    size_t n, struct kernels_matrix16 b, uint16_t *out_packed);

/* ---- products with int8 weights (W8A8) ------------------------------------------------------ */

/* Blocks of 32 along k, the last one short: blocks = (k + 31) / 32, missing codes are 0.
 * Quantising a block x of activations, per row and block, never per batch, with amax = max |x|:
 *   scale = amax / 127; code = x * (127 / amax) rounded to nearest even: in [-127, 127]
 *   amax < KERNELS_QUANT_MIN: scale +0, codes 0. A number that is not finite: scale NaN, codes 0, so
 *   that what is computed from it is not finite either.
 * x: [rows][stride], k <= stride. codes: [rows][blocks][32]. scales: [rows][blocks]. */
size_t kernels_quant_blocks(size_t k);
void kernels_quantize(const struct kernels *kernels, const struct parallel *parallel, size_t rows,
                      size_t k, const float *x, size_t stride, int8_t *out_codes,
                      float *out_scales);

/* A row of weights as it is stored: blocks of 34 bytes, an f16 scale (little endian) and 32 codes;
 * this is GGUF's Q8_0. Our rule: scale = amax / 127 rounded to f16 (clamped to the largest finite
 * one), code = x / scale clamped to [-127, 127], rounded to nearest even; scale +0: codes 0; not
 * finite: scale NaN, codes 0. out: kernels_quant_blocks(k) blocks. */
void kernels_quantize_q8(size_t k, const float *x, uint8_t *out_blocks);
/* x_j = scale * code, exact. */
void kernels_dequantize_q8(size_t k, const uint8_t *blocks, float *out);

/* Packs W^T, W[n x k] given as n rows of stored blocks, each row right after the other. Codes may be
 * anything, -128 too. Layout, the same for every backend: codes [panel of 16 rows][block][k / 4][row]
 * [k % 4], scales (f16) [panel][block][row]; rows that are missing are 0. Panels are independent. */
size_t kernels_int8_code_count(size_t k, size_t n);
size_t kernels_int8_scale_count(size_t k, size_t n);
void kernels_pack_int8(const struct parallel *parallel, size_t k, size_t n, const uint8_t *rows,
                       int8_t *out_codes, uint16_t *out_scales);

/* C[m x n] = X[m x k] W^T: C[i][j] is one chain over blocks b ascending, from +0 or the old C[i][j]:
 *   acc = fmaf((float)(exact integer sum of the block's products), scale_w * scale_x, acc) */
struct kernels_gemm_int8 {
    size_t m, n, k;
    const int8_t *x_codes; /* from kernels_quantize: in [-127, 127] */
    const float *x_scales;
    const int8_t *w_codes; /* from kernels_pack_int8 with the same n and k */
    const uint16_t *w_scales;
    float *c;        /* row-major */
    size_t c_stride; /* floats from row to row, >= n */
    bool accumulate;
};
void kernels_gemm_int8(const struct kernels *kernels, const struct parallel *parallel,
                       const struct kernels_gemm_int8 *gemm);

/* ---- attention ---------------------------------------------------------------------------- */

/* Query rows of one sequence, at absolute positions start .. start + row_count - 1. Row i sees
 * the keys at positions 0 .. start + i, which the cache must hold already. */
struct kernels_sequence {
    size_t row_count;
    size_t start;      /* backward: must be 0 */
    const float *q;    /* [row][head][dim] */
    const float *k;    /* [position][kv_head][dim] */
    const float *v;    /* [position][kv_head][dim] */
    float *out;        /* [row][head][dim]; forward writes it, backward reads it */
    float *stats;      /* [head][row][2]: row maximum and 1 / sum; forward writes it when not NULL,
                      * backward reads it */
    const float *dout; /* backward only, as out */
    float *dq, *dk, *dv; /* backward only, overwritten; strides as q, k, v */
};

/* Causal attention with grouped queries: query head h reads key-value head h / (heads / kv_heads).
 * Row at position t, head h:
 *   s_j = scale * (chain over d of q_d k_jd), j = 0..t;   m = max over j of s_j
 *   e_j = exp(s_j - m); for each block b of 256 positions: l_b = sum of e_j, o_bd = chain of
 *   e_j v_jd, both j ascending from +0; l = l_0 + l_1 + ..., o likewise; out_d = o_d * (1 / l)
 * Chunked prefill, decode and a whole-sequence forward therefore agree.
 * Backward, with P_j = e_j * (1 / l):
 *   D = chain over d of dout_d out_d;  dP_j = chain over d of dout_d v_jd
 *   dS_j = (P_j * (dP_j - D)) * scale
 *   dq_d = chain over j of dS_j k_jd
 *   dk_jd = chain over (query head of the group, row), rows that see j, of dS_j q_d
 *   dv_jd = the same chain of P_j dout_d
 * Strides are floats from row to row (position to position), so that q, k, v may lie side by side. */
struct kernels_attention {
    uint32_t head_count;    /* a multiple of kv_head_count, at most KERNELS_GROUP_MAX times it */
    uint32_t kv_head_count; /* >= 1 */
    uint32_t head_dim;      /* 1..KERNELS_HEAD_DIM_MAX */
    float scale;            /* usually 1 / sqrt(head_dim) */
    size_t q_stride, kv_stride, out_stride; /* dq as q, dk and dv as kv, dout as out */
    const struct kernels_sequence *sequences;
    size_t sequence_count;
};
void kernels_attention(const struct kernels *kernels, const struct parallel *parallel,
                       const struct kernels_attention *attention);
void kernels_attention_backward(const struct kernels *kernels, const struct parallel *parallel,
                                const struct kernels_attention *attention);

/* ---- rows: norms, rotary positions, losses -------------------------------------------------- */

/* y[r][j] = (x[r][j] * inv[r]) * weight[j], inv = 1 / sqrt(lane sum of x^2 / width + eps).
 * x, y: [rows][width]. inv: [rows], written when not NULL (backward needs it). y may be x. */
void kernels_rmsnorm(const struct kernels *kernels, const struct parallel *parallel, size_t rows,
                     size_t width, float eps, const float *x, const float *weight, float *out_y,
                     float *out_inv);

/* g_j = dy_j * w_j; c = lane sum of g_j x_j (fused); f = ((c * inv) * inv) * inv / width;
 * dx_j = fmaf(-f, x_j, g_j * inv), stored, or added to dx when accumulate.
 * dweight_j = chain over rows of dy_j (x_j * inv), continued from the old dweight; skipped when NULL.
 * dx may be dy when not accumulate and dweight is NULL. */
struct kernels_rmsnorm_backward {
    size_t rows, width;
    const float *x, *weight, *inv, *dy;
    float *dx;       /* may be NULL: only dweight is wanted */
    bool accumulate; /* dx += ... */
    float *dweight;  /* may be NULL */
};
void kernels_rmsnorm_backward(const struct kernels *kernels, const struct parallel *parallel,
                              const struct kernels_rmsnorm_backward *args);

/* Rotary frequencies: out_frequency[i] = theta^(-2 i / head_dim), i < head_dim / 2, computed in
 * double and rounded once. head_dim even, theta >= 1. A caller may rescale them (Llama 3). */
void kernels_rope_frequencies(double theta, uint32_t head_dim, float *out_frequency);

/* Cosine and sine of (float)position * frequency[i] (rounded to float, as Hugging Face does) for
 * positions 0 .. position_count - 1: out_cos, out_sin [position][half]. */
void kernels_rope_table(const float *frequency, size_t half, size_t position_count, float *out_cos,
                        float *out_sin);

/* Rotates x[row][head][dim] in place, Hugging Face half layout: with a = x[i], b = x[i + half]:
 *   x[i] = fmaf(a, cos, -(b * sin)), x[i + half] = fmaf(b, cos, a * sin)
 * inverse swaps the sign of sin: it is the backward pass. */
struct kernels_rope {
    size_t rows;
    uint32_t head_count, head_dim; /* head_dim even */
    float *x;
    size_t stride;             /* floats from row to row */
    const uint32_t *positions; /* [rows], each inside the tables */
    const float *cos, *sin;    /* [position][head_dim / 2] */
    bool inverse;
};
void kernels_rope(const struct kernels *kernels, const struct parallel *parallel,
                  const struct kernels_rope *args);

/* Softmax cross-entropy of logits[rows][vocab]:
 *   m = max, e_j = exp(x_j - m), l = lane sum of e_j, loss = (m + log(l)) - x_target
 *   dlogits_j = (e_j * (1 / l) - [j = target]) * weight
 * A row whose target is negative is skipped: loss +0, dlogits +0. loss is not weighted; the log
 * probability of the target is -loss. */
struct kernels_cross_entropy {
    size_t rows, vocab;
    const float *logits;
    size_t stride;          /* floats from row to row, of logits and dlogits */
    const int32_t *targets; /* [rows], < vocab */
    const float *weights;   /* [rows], or NULL for 1 */
    float *out_loss;        /* [rows] */
    float *out_dlogits;     /* NULL: loss only. May be logits (in place) */
};
void kernels_cross_entropy(const struct kernels *kernels, const struct parallel *parallel,
                           const struct kernels_cross_entropy *args);

/* out[r] = table[ids[r]], rows of width floats. ids < the table's row count. */
void kernels_embed(const struct kernels *kernels, const struct parallel *parallel, size_t rows,
                   size_t width, const float *table, const uint32_t *ids, float *out);

/* dtable[ids[r]][j] += dy[r][j], rows ascending. */
void kernels_embed_backward(const struct kernels *kernels, const struct parallel *parallel,
                            size_t rows, size_t width, const uint32_t *ids, const float *dy,
                            float *dtable);

/* ---- elementwise -------------------------------------------------------------------------- */

/* out = (gate / (1 + exp(-gate))) * up. out may be gate or up. */
void kernels_swiglu(const struct kernels *kernels, const struct parallel *parallel, size_t count,
                    const float *gate, const float *up, float *out);

/* s = 1 / (1 + exp(-g)), t = g * s: dup = dy * t, dgate = (dy * up) * fmaf(t, 1 - s, s).
 * dgate may be gate, dup may be up, either may be dy. */
void kernels_swiglu_backward(const struct kernels *kernels, const struct parallel *parallel,
                             size_t count, const float *gate, const float *up, const float *dy,
                             float *out_dgate, float *out_dup);

/* out = a + b. out may be a or b. */
void kernels_add(const struct kernels *kernels, const struct parallel *parallel, size_t count,
                 const float *a, const float *b, float *out);

/* out = scale * x. out may be x. */
void kernels_scale(const struct kernels *kernels, const struct parallel *parallel, size_t count,
                   float scale, const float *x, float *out);

/* y = fmaf(scale, x, y). */
void kernels_axpy(const struct kernels *kernels, const struct parallel *parallel, size_t count,
                  float scale, const float *x, float *y);

/* out[i] = exp(x[i]). out may be x. See kernels_expf. */
void kernels_exp(const struct kernels *kernels, const struct parallel *parallel, size_t count,
                 const float *x, float *out);

/* ---- optimiser and checks ------------------------------------------------------------------ */

/* One AdamW step over count parameters. With c1 = 1 - beta1^step, c2 = 1 - beta2^step (computed in
 * double by repeated squaring, rounded once each where used):
 *   g = grad * grad_scale
 *   m = fmaf(beta1, m, (1 - beta1) * g); v = fmaf(beta2, v, ((1 - beta2) * g) * g)
 *   d = sqrt(v) / sqrt(c2) + eps
 *   w = fmaf(-(rate / c1), m / d, w * (1 - rate * weight_decay)) */
struct kernels_adamw {
    size_t count;
    float *weight;
    const float *grad;
    float *m, *v;  /* zero before step 1 */
    uint64_t step; /* 1 for the first */
    float rate, beta1, beta2, eps, weight_decay;
    float grad_scale; /* from clipping; 1 for none */
};
void kernels_adamw(const struct kernels *kernels, const struct parallel *parallel,
                   const struct kernels_adamw *args);

/* Sum of squares: a lane sum (fused) for each 4096 elements, these added in double, ascending.
 * The global norm is sqrt of the sum over tensors, added in double in a fixed order. */
MUST_USE double kernels_sum_squares(const struct kernels *kernels, size_t count, const float *x);

/* The factor for grad_scale: norm > limit ? limit / norm : 1, norm = sqrt(sum_squares), in double,
 * rounded once. */
MUST_USE float kernels_clip_scale(double sum_squares, double limit);

/* Lane sum of x, e.g. of the losses of a batch. */
MUST_USE float kernels_sum(const struct kernels *kernels, size_t count, const float *x);

/* Lane-wise maximum of x; -inf when count is 0. */
MUST_USE float kernels_max(const struct kernels *kernels, size_t count, const float *x);

/* True if no element is infinite or NaN. */
MUST_USE bool kernels_all_finite(const struct kernels *kernels, size_t count, const float *x);

/* ---- numbers: the same on every machine, scalar --------------------------------------------- */

/* Within 1.5 units in the last place of the true value over the whole range, denormal results included:
 * 0 below -104, infinite above 88.73; NaN for NaN. The vector exp of every backend has these bits. */
float kernels_expf(float x);
/* Within 0.51 units in the last place. log of 0 is -inf, of a negative number NaN. */
float kernels_logf(float x);
/* Within 0.51 units in the last place for |x| <= KERNELS_ANGLE_MAX, else NaN. */
float kernels_sinf(float x);
float kernels_cosf(float x);

/* bf16 is the upper half of a float, f16 is IEEE 754 binary16. Narrowing clamps to the largest finite
 * value (infinities too), then rounds to nearest even; a NaN becomes the quiet NaN 0x7fc0 or 0x7e00.
 * Widening is exact. */
void kernels_to_bf16(size_t count, const float *x, uint16_t *out);
void kernels_from_bf16(size_t count, const uint16_t *x, float *out);
void kernels_to_f16(size_t count, const float *x, uint16_t *out);
void kernels_from_f16(size_t count, const uint16_t *x, float *out);
/* From any type; x: count numbers of it, out may not overlap x. */
void kernels_widen(enum kernels_type type, size_t count, const void *x, float *out);
