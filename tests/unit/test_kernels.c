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

#include "tests/harness/seed.h"

#define POOL 400000 /* input numbers */
#define AREA 400000 /* output numbers with gaps */
#define GAP 40      /* sentinels around each output */
#define SENTINEL 0x7fa5a5a5U

/* ---- workers that run tasks in an order of their own ---------------------------------------- */

struct shuffle {
    uint32_t workers;
};

static void shuffle_run(void *context, uint32_t task_count,
                        void (*task)(void *argument, uint32_t index), void *argument)
{
    const struct shuffle *shuffle = context;
    for (uint32_t worker = shuffle->workers; worker-- > 0;) {
        for (uint32_t i = task_count; i-- > 0;) {
            if (i % shuffle->workers == worker) {
                task(argument, i);
            }
        }
    }
}

/* ---- one run of one operation ---------------------------------------------------------------- */

struct run {
    const struct kernels *kernels;
    const struct parallel *parallel;
    size_t size; /* what the case makes of it */
    const float *pool;
    size_t pool_used;
    uint32_t *area; /* bits, so that sentinels survive copying */
    size_t area_used;
};

static float pool_plain[POOL], pool_odd[POOL];
static uint32_t area_want[AREA], area_got[AREA];
static bool area_used_want[AREA];

static void pools_fill(void)
{
    const float odd[] = {0.0F,   -0.0F, 0x1p-149F, -0x1p-140F, 0x1p-126F, INFINITY,
                         -1e30F, NAN,   3e38F,     -87.5F,     95.0F,     -INFINITY};
    for (size_t i = 0; i < POOL; i++) {
        pool_plain[i] = (float)(int32_t)(test_rand() >> 40) * 0x1p-22F - 2.0F;
        pool_odd[i] = test_rand() % 8 == 0 ? odd[test_rand() % 12] : pool_plain[i];
    }
}

static const float *in(struct run *run, size_t count)
{
    ck_assert_uint_le(run->pool_used + count, POOL);
    run->pool_used += count;
    return run->pool + run->pool_used - count;
}

/* An output with gaps on both sides, filled with numbers from the pool. */
static float *out(struct run *run, size_t count)
{
    ck_assert_uint_le(run->area_used + count + 2 * GAP, AREA);
    uint32_t *data = run->area + run->area_used + GAP;
    memcpy(data, in(run, count), count * sizeof *data);
    memset(area_used_want + run->area_used + GAP, 1, count);
    run->area_used += count + GAP;
    return (float *)data;
}

/* An output that starts at zero, as gradients and moments do. */
static float *out_zero(struct run *run, size_t count)
{
    float *data = out(run, count);
    memset(data, 0, count * sizeof *data);
    return data;
}

typedef void op_fn(struct run *run);

static void run_op(op_fn *op, struct run run)
{
    for (size_t i = 0; i < AREA; i++) {
        run.area[i] = SENTINEL;
    }
    memset(area_used_want, 0, sizeof area_used_want);
    op(&run);
    for (size_t i = 0; i < AREA; i++) {
        if (!area_used_want[i] && run.area[i] != SENTINEL) {
            ck_abort_msg("%s wrote outside, word %zu", kernels_name(run.kernels), i);
        }
    }
}

static bool is_nan(uint32_t bits)
{
    return (bits & 0x7fffffff) > 0x7f800000;
}

/* Runs op on every backend, workers 1, 2, 3, 7, plain and odd numbers; all must agree. */
static void same_everywhere(op_fn *op, size_t size, bool odd_too)
{
    static const char *const names[] = {"scalar", "avx2", "avx512"};
    static const uint32_t workers[] = {1, 2, 3, 7};
    const struct kernels *scalar = kernels_get("scalar", NULL);
    for (int odd = 0; odd <= (odd_too ? 1 : 0); odd++) {
        struct run run = {.kernels = scalar,
                          .parallel = &parallel_serial,
                          .size = size,
                          .pool = odd ? pool_odd : pool_plain,
                          .area = area_want};
        run_op(op, run);
        run.area = area_got;
        for (size_t b = 0; b < 3; b++) {
            struct note note;
            run.kernels = kernels_get(names[b], &note);
            if (run.kernels == NULL) {
                ck_assert_ptr_nonnull(strstr(note.text, "not supported"));
                continue;
            }
            for (size_t w = 0; w < 4; w++) {
                struct shuffle shuffle = {workers[w]};
                const struct parallel parallel = {workers[w], &shuffle, shuffle_run};
                run.parallel = &parallel;
                run_op(op, run);
                for (size_t i = 0; i < AREA; i++) {
                    if (area_want[i] != area_got[i] &&
                        !(is_nan(area_want[i]) && is_nan(area_got[i]))) {
                        ck_abort_msg(
                            "%s, %u workers, size %zu, odd %d: word %zu is %08x, want %08x",
                            names[b], workers[w], size, odd, i, area_got[i], area_want[i]);
                    }
                }
            }
        }
    }
}

/* ---- products --------------------------------------------------------------------------------- */

static const size_t shapes[][3] = {{1, 1, 1},    {1, 200, 33},  {2, 17, 300}, {3, 48, 64},
                                   {5, 15, 7},   {7, 49, 257},  {8, 96, 32},  {13, 130, 40},
                                   {61, 33, 20}, {150, 208, 4}, {25, 400, 9}, {4, 64, 0}};

static void op_gemm(struct run *run)
{
    const size_t m = shapes[run->size][0];
    const size_t n = shapes[run->size][1];
    const size_t k = shapes[run->size][2];
    const float *a = in(run, m * k + 1);
    const float *b = in(run, n * k + 1);
    for (int way = 0; way < 8; way++) {
        struct kernels_gemm gemm = {
            .m = m,
            .n = n,
            .k = k,
            .a = {a, way & 1 ? 1 : k, way & 1 ? m : 1},
            .b = {b, way & 2 ? 1 : n, way & 2 ? k : 1},
            .c = out(run, m * (n + 3)),
            .c_stride = n + 3,
            .accumulate = (way & 4) != 0,
        };
        kernels_gemm(run->kernels, run->parallel, &gemm);
    }
    struct kernels_gemm packed = {.m = m, .n = n, .k = k, .a = {a, k, 1}, .c_stride = n};
    float *panels = out(run, kernels_packed_count(k, n));
    kernels_pack(run->kernels, run->parallel, k, n, (struct kernels_matrix){b, 1, k}, panels);
    packed.packed = panels;
    packed.c = out(run, m * n);
    kernels_gemm(run->kernels, run->parallel, &packed);
}

/* 16-bit weights: bits of every kind, so denormals, infinities and NaN too. */
static void op_gemm16(struct run *run)
{
    const size_t m = shapes[run->size][0];
    const size_t n = shapes[run->size][1];
    const size_t k = shapes[run->size][2];
    const float *a = in(run, m * k + 1);
    for (int way = 0; way < 8; way++) {
        struct kernels_gemm gemm = {.m = m,
                                    .n = n,
                                    .k = k,
                                    .a = {a, way & 1 ? 1 : k, way & 1 ? m : 1},
                                    .type = way & 2 ? KERNELS_BF16 : KERNELS_F16,
                                    .c = out(run, m * (n + 3)),
                                    .c_stride = n + 3,
                                    .accumulate = (way & 4) != 0};
        /* panels live in an output: half as many floats as numbers */
        uint16_t *panels = (uint16_t *)out(run, kernels_packed_count(k, n) / 2);
        const float *wide = in(run, n * k);
        uint16_t *narrow = (uint16_t *)out(run, n * k / 2 + 1);
        gemm.type == KERNELS_BF16 ? kernels_to_bf16(n * k, wide, narrow)
                                  : kernels_to_f16(n * k, wide, narrow);
        kernels_pack16(run->kernels, run->parallel, k, n,
                       (struct kernels_matrix16){narrow, way & 1 ? n : 1, way & 1 ? 1 : k}, panels);
        gemm.packed = panels;
        kernels_gemm(run->kernels, run->parallel, &gemm);
    }
}

START_TEST(test_gemm16)
{
    same_everywhere(op_gemm16, (size_t)_i, true);
}
END_TEST

/* int8: the codes of the weights are any bytes, so -128 too; activations go through quantisation. */
static void op_gemm_int8(struct run *run)
{
    const size_t m = shapes[run->size][0];
    const size_t n = shapes[run->size][1];
    const size_t k = shapes[run->size][2];
    const size_t blocks = kernels_quant_blocks(k);
    static uint8_t rows[400 * 13 * KERNELS_Q8_SIZE];
    ck_assert_uint_le(n * blocks * KERNELS_Q8_SIZE, sizeof rows);
    for (size_t i = 0; i < n * blocks * KERNELS_Q8_SIZE; i++) {
        const uint32_t mixed = (uint32_t)(i * 2654435761U + run->size);
        rows[i] = i % 7 == 0 ? 0x80 : (uint8_t)(mixed >> 16); /* some scales are odd, too */
    }
    int8_t *w_codes = (int8_t *)out(run, kernels_int8_code_count(k, n) / 4);
    uint16_t *w_scales = (uint16_t *)out(run, kernels_int8_scale_count(k, n) / 2);
    kernels_pack_int8(run->parallel, k, n, rows, w_codes, w_scales);
    for (int way = 0; way < 2; way++) {
        int8_t *x_codes = (int8_t *)out(run, m * blocks * KERNELS_QUANT / 4);
        float *x_scales = out(run, m * blocks);
        kernels_quantize(run->kernels, run->parallel, m, k, in(run, m * (k + 3)), k + 3, x_codes,
                         x_scales);
        const struct kernels_gemm_int8 gemm = {.m = m,
                                               .n = n,
                                               .k = k,
                                               .x_codes = x_codes,
                                               .x_scales = x_scales,
                                               .w_codes = w_codes,
                                               .w_scales = w_scales,
                                               .c = out(run, m * (n + 3)),
                                               .c_stride = n + 3,
                                               .accumulate = way == 1};
        kernels_gemm_int8(run->kernels, run->parallel, &gemm);
    }
}

START_TEST(test_gemm_int8)
{
    same_everywhere(op_gemm_int8, (size_t)_i, true);
}
END_TEST

START_TEST(test_gemm)
{
    same_everywhere(op_gemm, (size_t)_i, true);
}
END_TEST

/* A product over rows may be cut anywhere and continued; packed or not is the same. */
START_TEST(test_gemm_continues)
{
    enum { M = 19, N = 35, K = 300 };
    static float whole[M * N], parts[M * N], panels[48 * K];
    const struct kernels *kernels = kernels_get(NULL, NULL);
    struct kernels_gemm gemm = {.m = M,
                                .n = N,
                                .k = K,
                                .a = {pool_plain, 1, M},
                                .b = {pool_plain + 7, N, 1},
                                .c = whole,
                                .c_stride = N};
    kernels_gemm(kernels, &parallel_serial, &gemm);
    gemm.c = parts;
    for (size_t at = 0; at < K; at += gemm.k) {
        gemm.k = at == 0 ? 1 : at < 200 ? 66 : K - at;
        gemm.a.data = pool_plain + at * M;
        gemm.b.data = pool_plain + 7 + at * N;
        gemm.accumulate = at > 0;
        kernels_gemm(kernels, &parallel_serial, &gemm);
    }
    ck_assert_mem_eq(whole, parts, sizeof whole);
    ck_assert_uint_eq(kernels_packed_count(K, N), sizeof panels / sizeof panels[0]);
    gemm.k = K;
    gemm.a.data = pool_plain;
    gemm.accumulate = false;
    gemm.packed = panels;
    kernels_pack(kernels, &parallel_serial, K, N, (struct kernels_matrix){pool_plain + 7, N, 1},
                 panels);
    kernels_gemm(kernels, &parallel_serial, &gemm);
    ck_assert_mem_eq(whole, parts, sizeof whole);
}
END_TEST

/* ---- attention -------------------------------------------------------------------------------- */

/* rows, start, heads, kv_heads, dim */
static const size_t heads[][5] = {{1, 0, 1, 1, 1},    {13, 0, 4, 2, 8},   {70, 0, 3, 1, 32},
                                  {9, 250, 2, 2, 20}, {270, 0, 2, 1, 16}, {1, 300, 6, 2, 32},
                                  {33, 0, 2, 1, 100}, {3, 0, 2, 1, 256}};

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
            .dq = out(run, count * attention.q_stride),
            .dk = out(run, positions * attention.kv_stride),
            .dv = out(run, positions * attention.kv_stride),
        };
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
    static float whole[T * STRIDE], parts[T * STRIDE];
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
    tcase_add_loop_test(tcase, test_gemm, 0, (int)(sizeof shapes / sizeof shapes[0]));
    tcase_add_loop_test(tcase, test_gemm16, 0, (int)(sizeof shapes / sizeof shapes[0]));
    tcase_add_loop_test(tcase, test_gemm_int8, 0, (int)(sizeof shapes / sizeof shapes[0]));
    tcase_add_test(tcase, test_gemm_continues);
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
