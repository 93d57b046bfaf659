/* test_kernels.c - every backend gives the specification's bits: odd shapes, odd numbers, any number
 * of workers in any order, nothing written outside the outputs. */
#include "kernels/kernels.h"

#include <check.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "tests/harness/kernels_run.h"

/* ---- attention -------------------------------------------------------------------------------- */

/* rows, start, heads, kv_heads, dim */
static const size_t heads[][5] = {
    {1, 0, 1, 1, 1},      {13, 0, 4, 2, 8},    {70, 0, 3, 1, 32},  {9, 250, 2, 2, 20},
    {270, 0, 2, 1, 16},   {1, 300, 6, 2, 32},  {33, 0, 2, 1, 100}, {3, 0, 2, 1, 256},
    {2, 40, 18, 2, 16},                        /* heads of a group in two parts */
    {2, 511, 9, 1, 24},   {40, 490, 3, 1, 64}, /* whole, across an edge of blocks */
    {24, 1020, 2, 1, 16},                      /* too long to be kept whole */
    {14, 250, 1, 1, 250}};                     /* too wide */

static void op_attention(struct run *run)
{
    const size_t rows = heads[run->size][0];
    const size_t start = heads[run->size][1];
    const size_t dim = heads[run->size][4];
    const struct kernels_attention shape = {
        .head_count = (uint32_t)heads[run->size][2],
        .kv_head_count = (uint32_t)heads[run->size][3],
        .head_dim = (uint32_t)dim,
        .scale = 1.0F / sqrtf((float)dim),
    };
    struct kernels_attention attention = shape;
    attention.q_stride = shape.head_count * dim + 5;
    attention.kv_stride = shape.kv_head_count * dim + 3;
    attention.out_stride = shape.head_count * dim + 1;
    struct kernels_sequence sequences[2];
    attention.sequences = sequences;
    attention.sequence_count = 2;
    for (size_t i = 0; i < 2; i++) {
        const size_t count = i == 0 ? rows : rows / 2 + 1; /* unequal sequences in one batch */
        const size_t positions = start + count;
        sequences[i] = (struct kernels_sequence){
            .row_count = count,
            .start = start,
            .q = in(run, count * attention.q_stride),
            .k = in(run, positions * attention.kv_stride),
            .v = in(run, positions * attention.kv_stride),
            .out = out(run, count * attention.out_stride),
            .stats = out(run, count * shape.head_count * 2),
            .dout = in(run, count * attention.out_stride),
        };
        if (start == 0) {
            sequences[i].dq = out(run, count * attention.q_stride);
            sequences[i].dk = out(run, positions * attention.kv_stride);
            sequences[i].dv = out(run, positions * attention.kv_stride);
        }
    }
    kernels_attention(run->kernels, run->parallel, &attention);
    if (start == 0) {
        kernels_attention_backward(run->kernels, run->parallel, &attention);
    }
}

START_TEST(test_attention)
{
    same_everywhere(op_attention, (size_t)_i, true);
}
END_TEST

/* Prefill in chunks, decode row by row and the whole sequence give the same bits. */
START_TEST(test_attention_chunks)
{
    enum { T = 540, H = 2, D = 12, STRIDE = H * D };
    static float whole[T * STRIDE];
    static float parts[T * STRIDE];
    const size_t chunks[] = {1, 5, 249, 2, 1, 1, 100, 153, 1, 1, 26};
    const struct kernels *kernels = kernels_get(NULL, NULL);
    struct kernels_sequence sequence = {.row_count = T,
                                        .q = pool_plain,
                                        .k = pool_plain + 50000,
                                        .v = pool_plain + 100000,
                                        .out = whole};
    const struct kernels_attention attention = {.head_count = H,
                                                .kv_head_count = 1,
                                                .head_dim = D,
                                                .scale = 1.5F,
                                                .q_stride = STRIDE,
                                                .kv_stride = D,
                                                .out_stride = STRIDE,
                                                .sequences = &sequence,
                                                .sequence_count = 1};
    kernels_attention(kernels, &parallel_serial, &attention);
    size_t start = 0;
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; start += chunks[i++]) {
        sequence.start = start;
        sequence.row_count = chunks[i];
        sequence.q = pool_plain + start * STRIDE;
        sequence.out = parts + start * STRIDE;
        kernels_attention(kernels, &parallel_serial, &attention);
    }
    ck_assert_uint_eq(start, T);
    ck_assert_mem_eq(whole, parts, sizeof whole);
}
END_TEST

/* ---- rows and elementwise ------------------------------------------------------------------- */

static const size_t widths[] = {1, 2, 7, 15, 16, 17, 31, 33, 192, 515};

static void op_norm(struct run *run)
{
    const size_t width = widths[run->size];
    const size_t rows = 20000 / (width + 100);
    const float *x = in(run, rows * width);
    const float *weight = in(run, width);
    float *inv = out(run, rows);
    kernels_rmsnorm(run->kernels, run->parallel, rows, width, 1e-5F, x, weight,
                    out(run, rows * width), inv);
    for (int way = 0; way < 2; way++) {
        const struct kernels_rmsnorm_backward args = {.rows = rows,
                                                      .width = width,
                                                      .x = x,
                                                      .weight = weight,
                                                      .inv = inv,
                                                      .dy = in(run, rows * width),
                                                      .dx = out(run, rows * width),
                                                      .accumulate = way == 1,
                                                      .dweight = out(run, width)};
        kernels_rmsnorm_backward(run->kernels, run->parallel, &args);
    }
}

static void op_map(struct run *run)
{
    const size_t count = widths[run->size] * 60;
    const float *x = in(run, count);
    const float *y = in(run, count);
    float *dgate = out(run, count);
    const float *dy = in(run, count);
    kernels_swiglu(run->kernels, run->parallel, count, x, y, out(run, count));
    kernels_swiglu_backward(run->kernels, run->parallel, count, x, y, dy, dgate, out(run, count));
    kernels_add(run->kernels, run->parallel, count, x, y, out(run, count));
    kernels_scale(run->kernels, run->parallel, count, -1.7F, x, out(run, count));
    kernels_axpy(run->kernels, run->parallel, count, 0.3F, x, out(run, count));
    kernels_exp(run->kernels, run->parallel, count, x, out(run, count));
    float *sums = out(run, 5);
    const double squares = kernels_sum_squares(run->kernels, count, x);
    sums[0] = kernels_sum(run->kernels, count, x);
    sums[1] = kernels_max(run->kernels, count, x);
    sums[2] = (float)squares;
    sums[3] = kernels_clip_scale(squares, 1.0);
    sums[4] = kernels_all_finite(run->kernels, count, x) ? 1.0F : 0.0F;
}

static void op_rope(struct run *run)
{
    const size_t rows = 40;
    const size_t half = widths[run->size] % 128;
    uint32_t positions[40];
    float *cosine = out(run, 64 * half);
    float *sine = out(run, 64 * half);
    float *frequency = out(run, half);
    kernels_rope_frequencies(10000.0, (uint32_t)(2 * half), frequency);
    kernels_rope_table(frequency, half, 64, cosine, sine);
    for (uint32_t i = 0; i < rows; i++) {
        positions[i] = i * 7 % 64;
    }
    for (int way = 0; way < 2; way++) {
        const struct kernels_rope args = {.rows = rows,
                                          .head_count = 3,
                                          .head_dim = (uint32_t)(2 * half),
                                          .x = out(run, rows * (6 * half + 3)),
                                          .stride = 6 * half + 3,
                                          .positions = positions,
                                          .cos = cosine,
                                          .sin = sine,
                                          .inverse = way == 1};
        kernels_rope(run->kernels, run->parallel, &args);
    }
}

static void op_loss(struct run *run)
{
    const size_t vocab = widths[run->size];
    const size_t rows = 20000 / (vocab + 200);
    int32_t targets[200];
    for (size_t i = 0; i < rows; i++) {
        targets[i] = i % 5 == 4 ? -1 : (int32_t)(i * 7 % vocab);
    }
    for (int way = 0; way < 3; way++) {
        float *dlogits = out(run, rows * (vocab + 2));
        const struct kernels_cross_entropy args = {.rows = rows,
                                                   .vocab = vocab,
                                                   .logits = way == 1 ? dlogits
                                                                      : in(run, rows * (vocab + 2)),
                                                   .stride = vocab + 2,
                                                   .targets = targets,
                                                   .weights = way == 0 ? NULL : in(run, rows),
                                                   .out_loss = out(run, rows),
                                                   .out_dlogits = way == 2 ? NULL : dlogits};
        kernels_cross_entropy(run->kernels, run->parallel, &args);
    }
}

static void op_embed(struct run *run)
{
    const size_t width = widths[run->size];
    enum { ROWS = 60, TABLE = 9 };
    uint32_t ids[ROWS];
    for (uint32_t i = 0; i < ROWS; i++) {
        ids[i] = i * i % TABLE;
    }
    kernels_embed(run->kernels, run->parallel, ROWS, width, in(run, TABLE * width), ids,
                  out(run, ROWS * width));
    kernels_embed_backward(run->kernels, run->parallel, ROWS, width, ids, in(run, ROWS * width),
                           out(run, TABLE * width));
}

static void op_adamw(struct run *run)
{
    struct kernels_adamw args = {.count = widths[run->size] * 60,
                                 .rate = 0.02F,
                                 .beta1 = 0.9F,
                                 .beta2 = 0.95F,
                                 .eps = 1e-8F,
                                 .weight_decay = 0.1F,
                                 .grad_scale = 0.7F};
    args.weight = out(run, args.count);
    args.m = out_zero(run, args.count);
    args.v = out_zero(run, args.count);
    for (args.step = 1; args.step < 4; args.step++) {
        args.grad = in(run, args.count);
        kernels_adamw(run->kernels, run->parallel, &args);
    }
}

static op_fn *const row_ops[] = {op_norm, op_map, op_rope, op_loss, op_embed, op_adamw};
#define WIDTHS (sizeof widths / sizeof widths[0])

START_TEST(test_rows)
{
    for (size_t size = 0; size < WIDTHS; size++) {
        same_everywhere(row_ops[_i], size, true);
    }
}
END_TEST

/* ---- the rest --------------------------------------------------------------------------------- */

START_TEST(test_get)
{
    struct note note;
    ck_assert_ptr_null(kernels_get("abacus", &note));
    ck_assert_str_eq(note.text, "kernels abacus: unknown backend");
    ck_assert_ptr_null(kernels_get("abacus", NULL));
    ck_assert_str_eq(kernels_name(kernels_get("scalar", &note)), "scalar");
    ck_assert_str_eq(note.text, "");
    ck_assert_ptr_nonnull(kernels_get(NULL, &note));
}
END_TEST

START_TEST(test_fp_environment)
{
    ck_assert(kernels_fp_environment_ok());
#if defined(__x86_64__)
    const unsigned saved = _mm_getcsr();
    const unsigned bad[] = {1U << 15, 1U << 6, 1U << 13, 2U << 13};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        _mm_setcsr(saved | bad[i]);
        const bool ok = kernels_fp_environment_ok();
        _mm_setcsr(saved);
        ck_assert(!ok);
    }
#endif
}
END_TEST

START_TEST(test_misuse)
{
    const struct kernels *kernels = kernels_get("scalar", NULL);
    float x[16] = {0};
    const int32_t target = 4;
    struct kernels_gemm gemm = {
        .m = 2, .n = 2, .k = 2, .a = {x, 2, 1}, .b = {x, 2, 1}, .c = x + 8, .c_stride = 2};
    struct kernels_cross_entropy loss = {
        .rows = 1, .vocab = 4, .logits = x, .stride = 4, .targets = &target, .out_loss = x + 8};
    struct kernels_attention attention = {.head_count = 3, .kv_head_count = 2, .head_dim = 4};
    switch (_i) {
    case 0:
        gemm.c_stride = 1;
        kernels_gemm(kernels, &parallel_serial, &gemm);
        break;
    case 1:
        gemm.a.column_stride = 2;
        kernels_gemm(kernels, &parallel_serial, &gemm);
        break;
    case 2:
        kernels_cross_entropy(kernels, &parallel_serial, &loss);
        break;
    default:
        kernels_attention(kernels, &parallel_serial, &attention);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernels");
    TCase *tcase = tcase_create("bits");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, test_attention, 0, (int)(sizeof heads / sizeof heads[0]));
    tcase_add_test(tcase, test_attention_chunks);
    tcase_add_loop_test(tcase, test_rows, 0, (int)(sizeof row_ops / sizeof row_ops[0]));
    tcase_add_test(tcase, test_get);
    tcase_add_test(tcase, test_fp_environment);
    tcase_add_loop_test_raise_signal(tcase, test_misuse, SIGABRT, 0, 4);
    suite_add_tcase(suite, tcase);
    pools_fill();
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
