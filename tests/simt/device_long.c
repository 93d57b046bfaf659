/* device_long.c - products and losses longer and larger than the table's tests: every buffer is used again,
 * and the large tiles are used; weights that stay on the device. Part of test_device. */
#include <stdlib.h>
#include <string.h>

#include "tests/simt/device_fixture.h"
#ifdef OPENLEDGER_SIMT
#include "tests/simt/simt.h"
#endif

#define LONG_M ((size_t)5)
#define LONG_N ((size_t)35)
#define LONG_K ((size_t)1500)

START_TEST(test_long_product)
{
    struct kernels_gemm gemm = {.m = LONG_M,
                                .n = LONG_N,
                                .k = LONG_K,
                                .a = {pool, LONG_K, 1},
                                .b = {pool + 2000, LONG_N, 1},
                                .c = want,
                                .c_stride = LONG_N};
    order(_i);
    kernels_gemm(scalar, &parallel_serial, &gemm);
    gemm.a.data = put_floats(pool, LONG_M * LONG_K);
    gemm.b.data = put_floats(pool + 2000, LONG_N * LONG_K);
    gemm.c = cuda_take(cuda, LONG_M * LONG_N * sizeof *gemm.c);
    cuda_gemm(cuda, &gemm);
    same(gemm.c, LONG_M * LONG_N);
}
END_TEST

#define LONG_BLOCKS ((LONG_K + KERNELS_QUANT - 1) / KERNELS_QUANT)
#define LONG_PADDED ((size_t)48) /* LONG_N in whole panels */

START_TEST(test_long_product_int8)
{
    static uint8_t rows[LONG_N * LONG_BLOCKS * KERNELS_Q8_SIZE];
    static int8_t w[LONG_PADDED * LONG_BLOCKS * KERNELS_QUANT];
    static uint16_t w_scales[LONG_PADDED * LONG_BLOCKS];
    static int8_t x[LONG_M * LONG_BLOCKS * KERNELS_QUANT];
    static float x_scales[LONG_M * LONG_BLOCKS];
    order(_i);
    for (size_t i = 0; i < LONG_N; i++) {
        kernels_quantize_q8(LONG_K, pool + i * LONG_K, rows + i * LONG_BLOCKS * KERNELS_Q8_SIZE);
    }
    ck_assert_uint_eq(kernels_int8_code_count(LONG_K, LONG_N), sizeof w);
    kernels_pack_int8(&parallel_serial, LONG_K, LONG_N, rows, w, w_scales);
    kernels_quantize(scalar, &parallel_serial, LONG_M, LONG_K, pool + 500, LONG_K, x, x_scales);
    struct kernels_gemm_int8 gemm = {.m = LONG_M,
                                     .n = LONG_N,
                                     .k = LONG_K,
                                     .x_codes = x,
                                     .x_scales = x_scales,
                                     .w_codes = w,
                                     .w_scales = w_scales,
                                     .c = want,
                                     .c_stride = LONG_N};
    kernels_gemm_int8(scalar, &parallel_serial, &gemm);
    gemm.x_codes = put(x, sizeof x);
    gemm.x_scales = put(x_scales, sizeof x_scales);
    gemm.w_codes = put(w, sizeof w);
    gemm.w_scales = put(w_scales, sizeof w_scales);
    gemm.c = cuda_take(cuda, LONG_M * LONG_N * sizeof *gemm.c);
    cuda_gemm_int8(cuda, &gemm);
    same(gemm.c, LONG_M * LONG_N);
}
END_TEST

START_TEST(test_long_loss)
{
    const size_t rows = 3;
    const size_t vocab = 9001;
    const int32_t targets[] = {9000, -1, 17};
    struct kernels_cross_entropy loss = {.rows = rows,
                                         .vocab = vocab,
                                         .logits = pool,
                                         .stride = vocab,
                                         .targets = targets,
                                         .out_loss = want + rows * vocab,
                                         .out_dlogits = want};
    order(_i);
    kernels_cross_entropy(scalar, &parallel_serial, &loss);
    float *there = cuda_take(cuda, (rows * vocab + rows) * sizeof *there);
    const size_t size = rows * vocab * sizeof *there;
    cuda_put(cuda, &(struct cuda_rows){1, size, size, size}, pool, there);
    loss.logits = there; /* in place */
    loss.out_dlogits = there;
    loss.out_loss = there + rows * vocab;
    loss.targets = put(targets, sizeof targets);
    cuda_cross_entropy(cuda, &loss);
    same(there, rows * vocab + rows);
}
END_TEST

/* ---- more tiles than multiprocessors: then they are the large ones ----------------------------- */

#define BIG_M ((size_t)66)
#define BIG_K ((size_t)17)

struct big {
    size_t n, panels; /* panels: packed numbers */
    float *b, *want, *got;
    uint16_t *narrow;
    void *packed;
};

static void big_compare(const struct big *big, enum kernels_type type, bool packed)
{
    struct kernels_gemm gemm = {.m = BIG_M,
                                .n = big->n,
                                .k = BIG_K,
                                .a = {pool, BIG_K, 1},
                                .b = {big->b, big->n, 1},
                                .packed = packed ? big->packed : NULL,
                                .type = type,
                                .c = big->want,
                                .c_stride = big->n};
    const size_t size = BIG_M * big->n * sizeof(float);
    const size_t number = type == KERNELS_F32 ? sizeof(float) : sizeof(uint16_t);
    const size_t mark = cuda_mark(cuda);
    if (type == KERNELS_F32) {
        kernels_pack(scalar, &parallel_serial, BIG_K, big->n, gemm.b, big->packed);
    } else {
        (type == KERNELS_BF16 ? kernels_to_bf16 : kernels_to_f16)(BIG_K * big->n, big->b,
                                                                  big->narrow);
        const struct kernels_matrix16 narrow = {big->narrow, big->n, 1};
        kernels_pack16(scalar, &parallel_serial, BIG_K, big->n, narrow, big->packed);
    }
    kernels_gemm(scalar, &parallel_serial, &gemm);
    gemm.a.data = put_floats(pool, BIG_M * BIG_K);
    if (packed) {
        gemm.packed = put(big->packed, big->panels * number);
    } else {
        gemm.b.data = put_floats(big->b, BIG_K * big->n);
    }
    gemm.c = cuda_take(cuda, size);
    cuda_gemm(cuda, &gemm);
    cuda_fetch(cuda, &(struct cuda_rows){1, size, size, size}, gemm.c, big->got);
    sync_ok();
    ck_assert_mem_eq(big->got, big->want, size);
    cuda_release(cuda, mark);
}

START_TEST(test_big_product)
{
    struct cuda_info info;
    cuda_info(cuda, &info);
    struct big big = {.n = (size_t)info.multiprocessor_count * 128 - 45};
    big.panels = kernels_packed_count(BIG_K, big.n);
    big.b = calloc(big.panels, sizeof *big.b);
    big.narrow = calloc(big.panels, sizeof *big.narrow);
    big.packed = calloc(big.panels, sizeof(float));
    big.want = calloc(BIG_M * big.n, sizeof *big.want);
    big.got = calloc(BIG_M * big.n, sizeof *big.got);
    ck_assert(big.b != NULL && big.narrow != NULL && big.packed != NULL && big.want != NULL &&
              big.got != NULL);
    for (size_t i = 0; i < BIG_K * big.n; i++) {
        big.b[i] = pool[i % (POOL - 7)];
    }
    order(_i);
    big_compare(&big, KERNELS_F32, false);
    big_compare(&big, KERNELS_F32, true);
    big_compare(&big, KERNELS_BF16, true);
    big_compare(&big, KERNELS_F16, true);
    free(big.b);
    free(big.narrow);
    free(big.packed);
    free(big.want);
    free(big.got);
}
END_TEST

/* ---- weights that stay: kernels_keep ------------------------------------------------------------ */

#define KEEP_M ((size_t)3)
#define KEEP_N ((size_t)40)
#define KEEP_K ((size_t)70)
#define KEEP_PACKED ((size_t)48 * KEEP_K)

/* The backend's product with the packed weights is scalar's with those of `like`. */
static void keep_compare(const struct kernels *backend, const float *packed, const float *like)
{
    struct kernels_gemm gemm = {.m = KEEP_M,
                                .n = KEEP_N,
                                .k = KEEP_K,
                                .a = {pool, KEEP_K, 1},
                                .packed = like,
                                .c = want,
                                .c_stride = KEEP_N};
    kernels_gemm(scalar, &parallel_serial, &gemm);
    gemm.packed = packed;
    gemm.c = got;
    kernels_gemm(backend, &parallel_serial, &gemm);
    ck_assert_mem_eq(got, want, KEEP_M * KEEP_N * sizeof *got);
}

/* What is kept is read from its copy (the test breaks the promise that it stays, to see that), at any
 * place in it that is aligned; what is forgotten, from the host again. */
START_TEST(test_keep)
{
    static float memory[16 + 2 * KEEP_PACKED] __attribute__((aligned(64)));
    struct note note = {""};
    const struct kernels *backend = kernels_get("cuda", &note);
    ck_assert_msg(backend != NULL, "%s", note.text);
    memcpy(memory, pool + 500, sizeof memory);
    ck_assert_int_eq(kernels_keep(backend, memory, 2 * KEEP_PACKED * sizeof *memory, &note),
                     ERR_OK);
    memset(memory, 0, sizeof memory);
    keep_compare(backend, memory, pool + 500);
    keep_compare(backend, memory + KEEP_PACKED, pool + 500 + KEEP_PACKED);
    keep_compare(backend, memory + 1, memory);               /* not aligned: from the host */
    keep_compare(backend, memory + 4 + KEEP_PACKED, memory); /* ends outside */
    kernels_forget(backend, memory + 1);                     /* not one */
    keep_compare(backend, memory, pool + 500);
    kernels_forget(backend, memory);
    kernels_forget(backend, memory);
    keep_compare(backend, memory, memory);
    ck_assert_int_eq(kernels_keep(scalar, memory, sizeof memory, &note), ERR_OK);
    kernels_forget(scalar, memory);
}
END_TEST

START_TEST(test_keep_int8)
{
    enum { BLOCKS = (KEEP_K + KERNELS_QUANT - 1) / KERNELS_QUANT, COLUMNS = 48 };
    static struct {
        int8_t codes[COLUMNS * BLOCKS * KERNELS_QUANT];
        uint16_t scales[COLUMNS * BLOCKS];
    } memory __attribute__((aligned(64)));
    static uint8_t rows[KEEP_N * BLOCKS * KERNELS_Q8_SIZE];
    static int8_t x[KEEP_M * BLOCKS * KERNELS_QUANT];
    static float x_scales[KEEP_M * BLOCKS];
    const struct kernels *backend = kernels_get("cuda", NULL);
    ck_assert_ptr_nonnull(backend);
    for (size_t i = 0; i < KEEP_N; i++) {
        kernels_quantize_q8(KEEP_K, pool + i * KEEP_K, rows + i * BLOCKS * KERNELS_Q8_SIZE);
    }
    kernels_pack_int8(&parallel_serial, KEEP_K, KEEP_N, rows, memory.codes, memory.scales);
    kernels_quantize(scalar, &parallel_serial, KEEP_M, KEEP_K, pool + 9000, KEEP_K, x, x_scales);
    struct kernels_gemm_int8 gemm = {.m = KEEP_M,
                                     .n = KEEP_N,
                                     .k = KEEP_K,
                                     .x_codes = x,
                                     .x_scales = x_scales,
                                     .w_codes = memory.codes,
                                     .w_scales = memory.scales,
                                     .c = want,
                                     .c_stride = KEEP_N};
    kernels_gemm_int8(scalar, &parallel_serial, &gemm);
    ck_assert_int_eq(kernels_keep(backend, &memory, sizeof memory, NULL), ERR_OK);
    memset(&memory, 0, sizeof memory);
    gemm.c = got;
    kernels_gemm_int8(backend, &parallel_serial, &gemm);
    kernels_forget(backend, &memory);
    ck_assert_mem_eq(got, want, KEEP_M * KEEP_N * sizeof *got);
}
END_TEST

START_TEST(test_keep_limits)
{
    static float memory[65];
    struct note note = {""};
    const struct kernels *backend = kernels_get("cuda", NULL);
    ck_assert_ptr_nonnull(backend);
#ifdef OPENLEDGER_SIMT
    for (uint64_t i = 1; i <= 5; i++) { /* each call of the runtime that cannot be done without */
        simt_fail(i);
        ck_assert_int_ne(kernels_keep(backend, memory, sizeof memory, &note), ERR_OK);
        ck_assert_ptr_nonnull(strstr(note.text, "cuda: "));
        simt_fail(0);
    }
#endif
    for (size_t i = 0; i < 64; i++) {
        ck_assert_int_eq(kernels_keep(backend, memory + i, sizeof *memory, &note), ERR_OK);
    }
    ck_assert_int_eq(kernels_keep(backend, memory + 64, sizeof *memory, &note), ERR_LIMIT);
    ck_assert_str_eq(note.text, "cuda: 64 regions are kept already");
    for (size_t i = 0; i < 64; i++) {
        kernels_forget(backend, memory + i);
    }
}
END_TEST

void device_long_add(TCase *tcase)
{
    tcase_add_loop_test(tcase, test_long_product, 0, ORDERS);
    tcase_add_loop_test(tcase, test_long_product_int8, 0, ORDERS);
    tcase_add_loop_test(tcase, test_long_loss, 0, ORDERS);
    tcase_add_loop_test(tcase, test_big_product, 0, ORDERS);
    tcase_add_test(tcase, test_keep);
    tcase_add_test(tcase, test_keep_int8);
    tcase_add_test(tcase, test_keep_limits);
}
