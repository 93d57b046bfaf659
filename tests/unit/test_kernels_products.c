/* test_kernels_products.c - matrix products: every backend gives the specification's bits. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "tests/harness/kernels_run.h"

/* ---- products --------------------------------------------------------------------------------- */

static const size_t shapes[][3] = {
    {1, 1, 1},
    {1, 200, 33},
    {2, 17, 300},
    {3, 48, 64},
    {5, 15, 7},
    {7, 49, 257},
    {8, 96, 32},
    {13, 130, 40},
    {61, 33, 20},
    {150, 208, 4},
    {25, 400, 9},
    {4, 64, 0},
    {9, 601, 13},
    {150, 5, 385},
    {139, 65, 195},
    /* more rows than stay in a cache; more of k than goes with them */
    {350, 16, 560},
    {17, 49, 600}};
#define SHAPES (sizeof shapes / sizeof shapes[0])

/* For fp32 only: rows that share cache sets; more columns than are packed at once. */
static const size_t gemm_shapes[][3] = {{9, 193, 1024}, {10, 590, 200}};

static void op_gemm(struct run *run)
{
    const size_t *shape = run->size < SHAPES ? shapes[run->size] : gemm_shapes[run->size - SHAPES];
    const size_t m = shape[0];
    const size_t n = shape[1];
    const size_t k = shape[2];
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

/* More for int8: rows that take a tile of few, of part of 16 and of more; more columns than one block of
 * them; more blocks along k than have their scales beside each other. */
static const size_t int8_shapes[][3] = {{1, 90, 140},  {2, 69, 100},  {3, 113, 40},
                                        {4, 33, 64},   {18, 560, 40}, {1, 33, 4130},
                                        {3, 35, 4130}, {17, 20, 4130}};

/* int8: the codes of the weights are any bytes, so -128 too; activations go through quantisation. */
static void op_gemm_int8(struct run *run)
{
    const size_t *shape = run->size < SHAPES ? shapes[run->size] : int8_shapes[run->size - SHAPES];
    const size_t m = shape[0];
    const size_t n = shape[1];
    const size_t k = shape[2];
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
    static float whole[M * N];
    static float parts[M * N];
    static float panels[48 * K];
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

int main(void)
{
    Suite *suite = suite_create("kernels_products");
    TCase *tcase = tcase_create("bits");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, test_gemm, 0,
                        (int)(SHAPES + sizeof gemm_shapes / sizeof gemm_shapes[0]));
    tcase_add_loop_test(tcase, test_gemm16, 0, (int)SHAPES);
    tcase_add_loop_test(tcase, test_gemm_int8, 0,
                        (int)(SHAPES + sizeof int8_shapes / sizeof int8_shapes[0]));
    tcase_add_test(tcase, test_gemm_continues);
    suite_add_tcase(suite, tcase);
    pools_fill();
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
