/* test_kernels_math.c - the numbers are right, not only equal: elementary functions against libm in
 * double, gradients against finite differences of models written in double, the optimiser, bf16. */
#include "kernels/kernels.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "tests/harness/float_sweep.h"
#include "tests/harness/seed.h"

#define NUMBERS_MAX 400

static float bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Every 1499th float there is, both signs; all exponents occur. `make exhaustive` takes them all. */
START_TEST(test_sweep)
{
    struct float_sweep sweep = {.failure = ""};
    float_sweep_run(0, UINT64_C(1) << 32, 1499, &sweep);
    ck_assert_msg(sweep.failure[0] == '\0', "%s", sweep.failure);
    for (int i = 0; i < FLOAT_SWEEP_COUNT; i++) {
        ck_assert(sweep.worst[i] > 0.4); /* it looked at something */
    }
}
END_TEST

START_TEST(test_widening)
{
    struct float_sweep sweep = {.failure = ""};
    float_sweep_widening(&sweep);
    ck_assert_msg(sweep.failure[0] == '\0', "%s", sweep.failure);
}
END_TEST

START_TEST(test_edges)
{
    ck_assert(kernels_expf(0.0F) == 1.0F && kernels_expf(-0.0F) == 1.0F);
    ck_assert(kernels_expf(-104.0F) == 0.0F && kernels_expf(-INFINITY) == 0.0F);
    ck_assert(kernels_expf(-103.0F) > 0.0F);
    ck_assert(isinf(kernels_expf(88.73F)) && isinf(kernels_expf(INFINITY)));
    ck_assert(isfinite(kernels_expf(88.72F)));
    ck_assert(isnan(kernels_expf(NAN)) && isnan(kernels_logf(NAN)) && isnan(kernels_sinf(NAN)));
    ck_assert(kernels_logf(0.0F) == -INFINITY && kernels_logf(-0.0F) == -INFINITY);
    ck_assert(isnan(kernels_logf(-1.0F)) && kernels_logf(INFINITY) == INFINITY);
    ck_assert(kernels_logf(1.0F) == 0.0F);
    ck_assert(isnan(kernels_sinf(INFINITY)) && isnan(kernels_cosf(2.0F * KERNELS_ANGLE_MAX)));
    ck_assert(kernels_cosf(0.0F) == 1.0F && kernels_sinf(0.0F) == 0.0F);
}
END_TEST

START_TEST(test_rope_table)
{
    enum { HALF = 24, POSITIONS = 50 };
    float frequency[HALF];
    float cosine[POSITIONS * HALF];
    float sine[POSITIONS * HALF];
    kernels_rope_frequencies(500000.0, 2 * HALF, frequency);
    kernels_rope_table(frequency, HALF, POSITIONS, cosine, sine);
    for (int i = 0; i < HALF; i++) {
        ck_assert(float_sweep_ulps(frequency[i], pow(500000.0, -(double)i / HALF)) <= 0.51);
        for (int p = 0; p < POSITIONS; p++) {
            const double angle = (double)((float)p * frequency[i]);
            ck_assert(float_sweep_ulps(cosine[p * HALF + i], cos(angle)) <= 0.51);
            ck_assert(float_sweep_ulps(sine[p * HALF + i], sin(angle)) <= 0.51);
        }
    }
}
END_TEST

START_TEST(test_bf16)
{
    for (uint32_t i = 0; i <= UINT16_MAX; i++) {
        const uint16_t code = (uint16_t)i;
        uint16_t back;
        float x;
        kernels_from_bf16(1, &code, &x);
        kernels_to_bf16(1, &x, &back);
        const uint16_t want = isnan(x) ? 0x7fc0 : isinf(x) ? (uint16_t)(code - 1) : code;
        ck_assert_uint_eq(back, want);
    }
    const struct {
        uint32_t bits;
        uint16_t want;
    } cases[] = {{0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81},
                 {0x3f80ffff, 0x3f81}, {0x7f7fffff, 0x7f7f}, {0xff7fffff, 0xff7f},
                 {0x00008001, 0x0001}, {0x80008000, 0x8000}, {0x3f7fffff, 0x3f80}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const float x = bits_float(cases[i].bits);
        uint16_t got;
        kernels_to_bf16(1, &x, &got);
        ck_assert_uint_eq(got, cases[i].want);
    }
}
END_TEST

/* ---- gradients --------------------------------------------------------------------------------
 * A model is the double-precision forward pass, reduced to one number by fixed random weights. */

struct model {
    double (*value)(const double *x);
    void (*gradient)(const struct kernels *kernels, const float *x, float *out);
    size_t count;
};

static float mix[NUMBERS_MAX]; /* the weights of the outputs: dy */

static float number(void)
{
    return (float)(int32_t)(test_rand() >> 40) * 0x1p-23F - 1.0F;
}

enum { NORM_ROWS = 3, NORM_WIDTH = 21 };

static double norm_value(const double *x)
{
    const double *weight = x + NORM_ROWS * NORM_WIDTH;
    double total = 0.0;
    for (int r = 0; r < NORM_ROWS; r++) {
        double squares = 0.0;
        for (int j = 0; j < NORM_WIDTH; j++) {
            squares += x[r * NORM_WIDTH + j] * x[r * NORM_WIDTH + j];
        }
        const double inv = 1.0 / sqrt(squares / NORM_WIDTH + (double)1e-5F);
        for (int j = 0; j < NORM_WIDTH; j++) {
            total += (double)mix[r * NORM_WIDTH + j] * x[r * NORM_WIDTH + j] * inv * weight[j];
        }
    }
    return total;
}

/* NOLINTBEGIN(readability-non-const-parameter): out goes into the operations' arguments */
static void norm_gradient(const struct kernels *kernels, const float *x, float *out)
{
    float y[NORM_ROWS * NORM_WIDTH];
    float inv[NORM_ROWS];
    const struct kernels_rmsnorm_backward args = {.rows = NORM_ROWS,
                                                  .width = NORM_WIDTH,
                                                  .x = x,
                                                  .weight = x + NORM_ROWS * NORM_WIDTH,
                                                  .inv = inv,
                                                  .dy = mix,
                                                  .dx = out,
                                                  .dweight = out + NORM_ROWS * NORM_WIDTH};
    kernels_rmsnorm(kernels, &parallel_serial, NORM_ROWS, NORM_WIDTH, 1e-5F, x, args.weight, y,
                    inv);
    memset(args.dweight, 0, NORM_WIDTH * sizeof(float));
    kernels_rmsnorm_backward(kernels, &parallel_serial, &args);
}

/* As the head norms use it: dx over dy; and as the residual stream does: dx added to. */
static void norm_in_place_gradient(const struct kernels *kernels, const float *x, float *out)
{
    float y[NORM_ROWS * NORM_WIDTH];
    float inv[NORM_ROWS];
    float sum[NORM_ROWS * NORM_WIDTH] = {0};
    const float *weight = x + NORM_ROWS * NORM_WIDTH;
    kernels_rmsnorm(kernels, &parallel_serial, NORM_ROWS, NORM_WIDTH, 1e-5F, x, weight, y, inv);
    struct kernels_rmsnorm_backward args = {.rows = NORM_ROWS,
                                            .width = NORM_WIDTH,
                                            .x = x,
                                            .weight = weight,
                                            .inv = inv,
                                            .dy = mix,
                                            .dx = sum,
                                            .accumulate = true};
    kernels_rmsnorm_backward(kernels, &parallel_serial, &args);
    memcpy(out, mix, sizeof sum);
    args.dy = out;
    args.dx = out;
    args.accumulate = false;
    kernels_rmsnorm_backward(kernels, &parallel_serial, &args);
    ck_assert_mem_eq(out, sum, sizeof sum);
}

enum { LINEAR_ROWS = 9, LINEAR_IN = 7, LINEAR_OUT = 5 };

static double linear_value(const double *x)
{
    const double *w = x + LINEAR_ROWS * LINEAR_IN;
    double total = 0.0;
    for (int r = 0; r < LINEAR_ROWS; r++) {
        for (int o = 0; o < LINEAR_OUT; o++) {
            for (int i = 0; i < LINEAR_IN; i++) {
                total +=
                    (double)mix[r * LINEAR_OUT + o] * x[r * LINEAR_IN + i] * w[o * LINEAR_IN + i];
            }
        }
    }
    return total;
}

/* Both gradients of a product; the weights' in two pieces of rows, as micro-batches make it. */
static void linear_gradient(const struct kernels *kernels, const float *x, float *out)
{
    const struct kernels_gemm input = {.m = LINEAR_ROWS,
                                       .n = LINEAR_IN,
                                       .k = LINEAR_OUT,
                                       .a = {mix, LINEAR_OUT, 1},
                                       .b = {x + LINEAR_ROWS * LINEAR_IN, LINEAR_IN, 1},
                                       .c = out,
                                       .c_stride = LINEAR_IN};
    struct kernels_gemm weight = {.m = LINEAR_OUT,
                                  .n = LINEAR_IN,
                                  .k = 4,
                                  .a = {mix, 1, LINEAR_OUT},
                                  .b = {x, LINEAR_IN, 1},
                                  .c = out + LINEAR_ROWS * LINEAR_IN,
                                  .c_stride = LINEAR_IN};
    kernels_gemm(kernels, &parallel_serial, &input);
    kernels_gemm(kernels, &parallel_serial, &weight);
    weight.k = LINEAR_ROWS - 4;
    weight.a.data += (size_t)4 * LINEAR_OUT;
    weight.b.data += (size_t)4 * LINEAR_IN;
    weight.accumulate = true;
    kernels_gemm(kernels, &parallel_serial, &weight);
}

enum { EMBED_ROWS = 8, EMBED_TABLE = 4, EMBED_WIDTH = 19 };
static const uint32_t embed_ids[EMBED_ROWS] = {2, 0, 2, 3, 3, 3, 0, 2};

static double embed_value(const double *x)
{
    double total = 0.0;
    for (int r = 0; r < EMBED_ROWS; r++) {
        for (int j = 0; j < EMBED_WIDTH; j++) {
            total += (double)mix[r * EMBED_WIDTH + j] * x[embed_ids[r] * EMBED_WIDTH + (uint32_t)j];
        }
    }
    return total;
}

static void embed_gradient(const struct kernels *kernels, const float *x, float *out)
{
    (void)x;
    memset(out, 0, sizeof(float) * EMBED_TABLE * EMBED_WIDTH);
    kernels_embed_backward(kernels, &parallel_serial, EMBED_ROWS, EMBED_WIDTH, embed_ids, mix, out);
}

enum { GLU = 37 };

static double swiglu_value(const double *x)
{
    double total = 0.0;
    for (int i = 0; i < GLU; i++) {
        total += (double)mix[i] * x[i] / (1.0 + exp(-x[i])) * x[GLU + i];
    }
    return total;
}

static void swiglu_gradient(const struct kernels *kernels, const float *x, float *out)
{
    kernels_swiglu_backward(kernels, &parallel_serial, GLU, x, x + GLU, mix, out, out + GLU);
    float in_place[2 * GLU]; /* as the backward pass calls it */
    memcpy(in_place, x, sizeof in_place);
    kernels_swiglu_backward(kernels, &parallel_serial, GLU, in_place, in_place + GLU, mix, in_place,
                            in_place + GLU);
    ck_assert_mem_eq(in_place, out, sizeof in_place);
}

enum { LOSS_ROWS = 3, VOCAB = 23 };
static const int32_t loss_targets[LOSS_ROWS] = {4, -1, 22};

static double loss_value(const double *x)
{
    double total = 0.0;
    for (int r = 0; r < LOSS_ROWS; r++) {
        double sum = 0.0;
        for (int j = 0; j < VOCAB; j++) {
            sum += exp(x[r * VOCAB + j]);
        }
        if (loss_targets[r] >= 0) {
            total += (double)mix[r] * (log(sum) - x[r * VOCAB + loss_targets[r]]);
        }
    }
    return total;
}

static void loss_gradient(const struct kernels *kernels, const float *x, float *out)
{
    float loss[LOSS_ROWS];
    const struct kernels_cross_entropy args = {.rows = LOSS_ROWS,
                                               .vocab = VOCAB,
                                               .logits = x,
                                               .stride = VOCAB,
                                               .targets = loss_targets,
                                               .weights = mix,
                                               .out_loss = loss,
                                               .out_dlogits = out};
    kernels_cross_entropy(kernels, &parallel_serial, &args);
}

enum { ROPE_ROWS = 3, ROPE_HEADS = 2, ROPE_DIM = 6, ROPE_WIDTH = ROPE_HEADS * ROPE_DIM };
static const uint32_t rope_positions[ROPE_ROWS] = {5, 0, 3};

static double rope_value(const double *x)
{
    double total = 0.0;
    for (int i = 0; i < ROPE_ROWS * ROPE_HEADS; i++) {
        for (int j = 0; j < ROPE_DIM / 2; j++) {
            const double frequency = pow(100.0, -2.0 * j / ROPE_DIM);
            const uint32_t position = rope_positions[i / ROPE_HEADS];
            const double angle = position * frequency;
            const double a = x[i * ROPE_DIM + j];
            const double b = x[i * ROPE_DIM + j + ROPE_DIM / 2];
            const float *dy = mix + (size_t)i * ROPE_DIM;
            total += (double)dy[j] * (a * cos(angle) - b * sin(angle)) +
                     (double)dy[j + ROPE_DIM / 2] * (b * cos(angle) + a * sin(angle));
        }
    }
    return total;
}

static void rope_gradient(const struct kernels *kernels, const float *x, float *out)
{
    float frequency[ROPE_DIM / 2];
    float cosine[6 * ROPE_DIM / 2];
    float sine[6 * ROPE_DIM / 2];
    (void)x;
    kernels_rope_frequencies(100.0, ROPE_DIM, frequency);
    kernels_rope_table(frequency, ROPE_DIM / 2, 6, cosine, sine);
    memcpy(out, mix, sizeof(float) * ROPE_ROWS * ROPE_WIDTH);
    const struct kernels_rope args = {.rows = ROPE_ROWS,
                                      .head_count = ROPE_HEADS,
                                      .head_dim = ROPE_DIM,
                                      .x = out,
                                      .stride = ROPE_WIDTH,
                                      .positions = rope_positions,
                                      .cos = cosine,
                                      .sin = sine,
                                      .inverse = true};
    kernels_rope(kernels, &parallel_serial, &args);
}

enum { T = 11, HEADS = 4, KV_HEADS = 2, DIM = 3, Q_COUNT = T * HEADS * DIM };
enum { KV_COUNT = T * KV_HEADS * DIM };

static double attention_value(const double *x)
{
    const double *k = x + Q_COUNT;
    const double *v = k + KV_COUNT;
    double total = 0.0;
    for (int t = 0; t < T; t++) {
        for (int h = 0; h < HEADS; h++) {
            const double *q = x + (t * HEADS + h) * DIM;
            const int kv = h / (HEADS / KV_HEADS);
            double sum = 0.0;
            double out[DIM] = {0};
            for (int j = 0; j <= t; j++) {
                double dot = 0.0;
                for (int d = 0; d < DIM; d++) {
                    dot += q[d] * k[(j * KV_HEADS + kv) * DIM + d];
                }
                const double e = exp(0.5 * dot);
                sum += e;
                for (int d = 0; d < DIM; d++) {
                    out[d] += e * v[(j * KV_HEADS + kv) * DIM + d];
                }
            }
            for (int d = 0; d < DIM; d++) {
                total += (double)mix[(t * HEADS + h) * DIM + d] * out[d] / sum;
            }
        }
    }
    return total;
}

static void attention_gradient(const struct kernels *kernels, const float *x, float *out)
{
    float y[Q_COUNT];
    float stats[HEADS * T * 2];
    const struct kernels_sequence sequence = {.row_count = T,
                                              .q = x,
                                              .k = x + Q_COUNT,
                                              .v = x + Q_COUNT + KV_COUNT,
                                              .out = y,
                                              .stats = stats,
                                              .dout = mix,
                                              .dq = out,
                                              .dk = out + Q_COUNT,
                                              .dv = out + Q_COUNT + KV_COUNT};
    const struct kernels_attention args = {.head_count = HEADS,
                                           .kv_head_count = KV_HEADS,
                                           .head_dim = DIM,
                                           .scale = 0.5F,
                                           .q_stride = HEADS * DIM,
                                           .kv_stride = KV_HEADS * DIM,
                                           .out_stride = HEADS * DIM,
                                           .sequences = &sequence,
                                           .sequence_count = 1};
    kernels_attention(kernels, &parallel_serial, &args);
    kernels_attention_backward(kernels, &parallel_serial, &args);
}

/* NOLINTEND(readability-non-const-parameter) */

static const struct model models[] = {
    {norm_value, norm_gradient, NORM_ROWS *NORM_WIDTH + NORM_WIDTH},
    {norm_value, norm_in_place_gradient, NORM_ROWS *NORM_WIDTH},
    {linear_value, linear_gradient, LINEAR_ROWS *LINEAR_IN + LINEAR_OUT *LINEAR_IN},
    {embed_value, embed_gradient, EMBED_TABLE *EMBED_WIDTH},
    {swiglu_value, swiglu_gradient, 2 * GLU},
    {loss_value, loss_gradient, LOSS_ROWS *VOCAB},
    {rope_value, rope_gradient, ROPE_ROWS *ROPE_WIDTH},
    {attention_value, attention_gradient, Q_COUNT + 2 * KV_COUNT},
};

START_TEST(test_gradient)
{
    const struct model *model = &models[_i];
    const double step = 1e-5;
    double x[NUMBERS_MAX];
    float x_float[NUMBERS_MAX];
    float got[NUMBERS_MAX];
    ck_assert_uint_le(model->count, NUMBERS_MAX);
    for (size_t i = 0; i < NUMBERS_MAX; i++) {
        mix[i] = number();
        x_float[i] = 2.0F * number();
        x[i] = (double)x_float[i];
    }
    model->gradient(kernels_get(NULL, NULL), x_float, got);
    for (size_t i = 0; i < model->count; i++) {
        const double saved = x[i];
        x[i] = saved + step;
        const double above = model->value(x);
        x[i] = saved - step;
        const double want = (above - model->value(x)) / (2.0 * step);
        x[i] = saved;
        if (!(fabs((double)got[i] - want) <= 2e-5 + 2e-5 * fabs(want))) {
            ck_abort_msg("element %zu: got %g, want %g", i, (double)got[i], want);
        }
    }
}
END_TEST

/* ---- forward values and the optimiser --------------------------------------------------------- */

START_TEST(test_loss_values)
{
    const struct kernels *kernels = kernels_get(NULL, NULL);
    const float logits[6] = {1.0F, 2.0F, 3.0F, 1000.0F, 0.0F, -1000.0F};
    const int32_t targets[2] = {1, 0};
    float loss[2] = {0.0F};
    const struct kernels_cross_entropy args = {
        .rows = 2, .vocab = 3, .logits = logits, .stride = 3, .targets = targets, .out_loss = loss};
    kernels_cross_entropy(kernels, &parallel_serial, &args);
    ck_assert(fabs((double)loss[0] - (log(exp(1.0) + exp(2.0) + exp(3.0)) - 2.0)) < 1e-6);
    ck_assert(loss[1] == 0.0F);
}
END_TEST

START_TEST(test_adamw)
{
    enum { N = 33, STEPS = 5 };
    float w[N];
    float g[N];
    float m[N] = {0};
    float v[N] = {0};
    double dw[N];
    double dm[N] = {0};
    double dv[N] = {0};
    const struct kernels *kernels = kernels_get(NULL, NULL);
    for (int i = 0; i < N; i++) {
        w[i] = number();
        dw[i] = (double)w[i];
    }
    struct kernels_adamw args = {.count = N,
                                 .weight = w,
                                 .grad = g,
                                 .m = m,
                                 .v = v,
                                 .rate = 0.05F,
                                 .beta1 = 0.9F,
                                 .beta2 = 0.95F,
                                 .eps = 1e-8F,
                                 .weight_decay = 0.1F,
                                 .grad_scale = 0.5F};
    for (args.step = 1; args.step <= STEPS; args.step++) {
        for (int i = 0; i < N; i++) {
            g[i] = number();
        }
        kernels_adamw(kernels, &parallel_serial, &args);
        for (int i = 0; i < N; i++) {
            const double grad = 0.5 * (double)g[i];
            dm[i] = 0.9 * dm[i] + 0.1 * grad;
            dv[i] = 0.95 * dv[i] + 0.05 * grad * grad;
            const double mean = dm[i] / (1.0 - pow(0.9, (double)args.step));
            const double root = sqrt(dv[i] / (1.0 - pow(0.95, (double)args.step)));
            dw[i] = dw[i] * (1.0 - 0.05 * 0.1) - 0.05 * mean / (root + 1e-8);
            ck_assert(fabs((double)w[i] - dw[i]) <= 2e-6);
        }
    }
}
END_TEST

START_TEST(test_sums)
{
    enum { N = 10001 };
    static float x[N];
    const struct kernels *kernels = kernels_get(NULL, NULL);
    double squares = 0.0;
    for (size_t i = 0; i < N; i++) {
        x[i] = number();
        squares += (double)x[i] * (double)x[i];
    }
    ck_assert(fabs(kernels_sum_squares(kernels, N, x) - squares) <= 1e-5 * squares);
    ck_assert(kernels_clip_scale(16.0, 1.0) == 0.25F);
    ck_assert(kernels_clip_scale(0.25, 1.0) == 1.0F);
    for (size_t i = 0; i < N; i += 773) {
        const float bad[] = {INFINITY, -INFINITY, NAN};
        const float saved = x[i];
        ck_assert(kernels_all_finite(kernels, N, x));
        x[i] = bad[i % 3];
        ck_assert(!kernels_all_finite(kernels, N, x));
        x[i] = 5.0F;
        ck_assert(kernels_max(kernels, N, x) == 5.0F);
        x[i] = saved;
    }
    ck_assert(kernels_max(kernels, 0, x) == -INFINITY);
    ck_assert(kernels_sum(kernels, 0, x) == 0.0F);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernels_math");
    TCase *tcase = tcase_create("values");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, test_sweep);
    tcase_add_test(tcase, test_widening);
    tcase_add_test(tcase, test_edges);
    tcase_add_test(tcase, test_rope_table);
    tcase_add_test(tcase, test_bf16);
    tcase_add_loop_test(tcase, test_gradient, 0, (int)(sizeof models / sizeof models[0]));
    tcase_add_test(tcase, test_loss_values);
    tcase_add_test(tcase, test_adamw);
    tcase_add_test(tcase, test_sums);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
