/* select.c - chooses a backend, and refuses one that does not give the specification's bits. */
#include <string.h>

#include "kernels/backend.h"
#include "shared/base/check.h"

/* Fastest first. Behind scalar come those that are used only when they are named. */
static const struct kernels *const backends[] = {
#if defined(__x86_64__)
    &kernels_avx512_amx, &kernels_avx512_vnni, &kernels_avx512, &kernels_avx2,
#elif defined(__aarch64__)
    &kernels_neon_dotprod,
    &kernels_neon,
#endif
    &kernels_scalar,
#ifdef OPENLEDGER_CUDA
    &kernels_cuda,
#endif
};
#define BACKEND_COUNT (sizeof backends / sizeof backends[0])

/* Shapes of the self-test: every kind of tile and tail, small enough for a few milliseconds. */
#define TEST_ROWS 23
#define TEST_DEPTH 37
#define TEST_COLUMNS 71
#define TEST_HEADS 2
#define TEST_DIM 20
#define TEST_WIDTH (TEST_HEADS * TEST_DIM)
#define TEST_COUNT (TEST_ROWS * TEST_COLUMNS)

struct self_test {
    float a[TEST_COUNT], b[TEST_DEPTH * TEST_COLUMNS], c[TEST_COUNT], d[TEST_COUNT];
    float weight[TEST_COLUMNS], row[TEST_COLUMNS], stats[TEST_HEADS * TEST_ROWS * 2];
    float dq[TEST_ROWS * TEST_WIDTH], dk[TEST_ROWS * TEST_DIM], dv[TEST_ROWS * TEST_DIM];
    int32_t targets[TEST_ROWS];
    uint32_t positions[TEST_ROWS];
    uint64_t digest;
};

#define TEST_BLOCKS 2 /* of TEST_DEPTH */
#define TEST_PANELS 5 /* of TEST_COLUMNS */
#define TEST_PACKED (TEST_PANELS * 16 * TEST_DEPTH)
struct narrow {
    uint16_t halves[TEST_DEPTH * TEST_COLUMNS], packed[TEST_PACKED];
    uint8_t rows[TEST_COLUMNS * TEST_BLOCKS * KERNELS_Q8_SIZE];
    int8_t codes[TEST_PANELS * TEST_BLOCKS * 16 * KERNELS_QUANT];
    uint16_t scales[TEST_PANELS * TEST_BLOCKS * 16];
    int8_t x_codes[TEST_ROWS * TEST_BLOCKS * KERNELS_QUANT];
    float x_scales[TEST_ROWS * TEST_BLOCKS];
};

/* Numbers in [-2, 2) from a linear congruential generator (Knuth, MMIX). */
static void fill(uint64_t *state, size_t count, float *out)
{
    for (size_t i = 0; i < count; i++) {
        *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        out[i] = (float)(int32_t)(*state >> 40) * 0x1p-22F - 2.0F;
    }
}

/* FNV-1a over the numbers' bits. */
static void digest(struct self_test *test, size_t count, const float *x)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        test->digest = (test->digest ^ bits) * UINT64_C(0x100000001b3);
    }
}

static void test_products(const struct kernels *kernels, struct self_test *test)
{
    struct kernels_gemm gemm = {
        .m = TEST_ROWS,
        .n = TEST_COLUMNS,
        .k = TEST_DEPTH,
        .a = {test->a, TEST_DEPTH, 1},
        .b = {test->b, TEST_COLUMNS, 1},
        .c = test->c,
        .c_stride = TEST_COLUMNS,
    };
    kernels_gemm(kernels, &parallel_serial, &gemm);
    gemm.a = (struct kernels_matrix){test->a, 1, TEST_ROWS};
    gemm.b = (struct kernels_matrix){test->b, 1, TEST_DEPTH};
    gemm.accumulate = true;
    kernels_gemm(kernels, &parallel_serial, &gemm);
    digest(test, TEST_COUNT, test->c);
}

/* Weights of 16 bits and of 8. */
static void test_narrow(const struct kernels *kernels, struct self_test *test)
{
    const struct parallel *serial = &parallel_serial;
    struct narrow narrow;
    struct kernels_gemm gemm = {.m = TEST_ROWS,
                                .n = TEST_COLUMNS,
                                .k = TEST_DEPTH,
                                .a = {test->a, TEST_DEPTH, 1},
                                .packed = narrow.packed,
                                .c = test->c,
                                .c_stride = TEST_COLUMNS};
    CHECK(kernels_packed_count(TEST_DEPTH, TEST_COLUMNS) <= TEST_PACKED);
    CHECK(kernels_int8_code_count(TEST_DEPTH, TEST_COLUMNS) <= sizeof narrow.codes);
    for (int i = 0; i < 2; i++) {
        gemm.type = i == 0 ? KERNELS_BF16 : KERNELS_F16;
        (i == 0 ? kernels_to_bf16 : kernels_to_f16)(TEST_DEPTH * TEST_COLUMNS, test->b,
                                                    narrow.halves);
        kernels_pack16(kernels, serial, TEST_DEPTH, TEST_COLUMNS,
                       (struct kernels_matrix16){narrow.halves, TEST_COLUMNS, 1}, narrow.packed);
        kernels_gemm(kernels, serial, &gemm);
        digest(test, TEST_COUNT, test->c);
    }
    for (size_t j = 0; j < TEST_COLUMNS; j++) {
        kernels_quantize_q8(TEST_DEPTH, test->b + j * TEST_DEPTH,
                            narrow.rows + j * TEST_BLOCKS * KERNELS_Q8_SIZE);
    }
    kernels_pack_int8(serial, TEST_DEPTH, TEST_COLUMNS, narrow.rows, narrow.codes, narrow.scales);
    kernels_quantize(kernels, serial, TEST_ROWS, TEST_DEPTH, test->a, TEST_DEPTH, narrow.x_codes,
                     narrow.x_scales);
    const struct kernels_gemm_int8 int8 = {.m = TEST_ROWS,
                                           .n = TEST_COLUMNS,
                                           .k = TEST_DEPTH,
                                           .x_codes = narrow.x_codes,
                                           .x_scales = narrow.x_scales,
                                           .w_codes = narrow.codes,
                                           .w_scales = narrow.scales,
                                           .c = test->c,
                                           .c_stride = TEST_COLUMNS};
    kernels_gemm_int8(kernels, serial, &int8);
    digest(test, TEST_COUNT, test->c);
}

static void test_attention(const struct kernels *kernels, struct self_test *test)
{
    struct kernels_sequence sequence = {
        .row_count = TEST_ROWS,
        .q = test->a,
        .k = test->b,
        .v = test->b + TEST_ROWS * TEST_DIM,
        .out = test->c,
        .stats = test->stats,
        .dout = test->d,
        .dq = test->dq,
        .dk = test->dk,
        .dv = test->dv,
    };
    const struct kernels_attention attention = {
        .head_count = TEST_HEADS,
        .kv_head_count = 1,
        .head_dim = TEST_DIM,
        .scale = 0.25F,
        .q_stride = TEST_WIDTH,
        .kv_stride = TEST_DIM,
        .out_stride = TEST_WIDTH,
        .sequences = &sequence,
        .sequence_count = 1,
    };
    kernels_attention(kernels, &parallel_serial, &attention);
    kernels_attention_backward(kernels, &parallel_serial, &attention);
    digest(test, TEST_ROWS * TEST_WIDTH, test->c);
    digest(test, TEST_ROWS * TEST_WIDTH, test->dq);
    digest(test, TEST_ROWS * TEST_DIM, test->dk);
    digest(test, TEST_ROWS * TEST_DIM, test->dv);
}

static void test_rows(const struct kernels *kernels, struct self_test *test)
{
    const struct parallel *serial = &parallel_serial;
    kernels_rmsnorm(kernels, serial, TEST_ROWS, TEST_COLUMNS, 1e-5F, test->a, test->weight, test->c,
                    test->row);
    const struct kernels_rmsnorm_backward norm = {TEST_ROWS,    TEST_COLUMNS, test->a,
                                                  test->weight, test->row,    test->c,
                                                  test->d,      true,         test->weight};
    kernels_rmsnorm_backward(kernels, serial, &norm);
    digest(test, TEST_COUNT, test->c);
    digest(test, TEST_COUNT, test->d);
    digest(test, TEST_COLUMNS, test->weight);
    kernels_swiglu(kernels, serial, TEST_COUNT, test->a, test->d, test->c);
    kernels_swiglu_backward(kernels, serial, TEST_COUNT, test->a, test->c, test->d, test->d,
                            test->c);
    const struct kernels_cross_entropy loss = {.rows = TEST_ROWS,
                                               .vocab = TEST_COLUMNS,
                                               .logits = test->a,
                                               .stride = TEST_COLUMNS,
                                               .targets = test->targets,
                                               .out_loss = test->row,
                                               .out_dlogits = test->a};
    kernels_cross_entropy(kernels, serial, &loss);
    const struct kernels_rope rope = {.rows = TEST_ROWS,
                                      .head_count = 1,
                                      .head_dim = TEST_COLUMNS - 1,
                                      .x = test->c,
                                      .stride = TEST_COLUMNS,
                                      .positions = test->positions,
                                      .cos = test->b,
                                      .sin = test->b + TEST_COLUMNS};
    kernels_rope(kernels, serial, &rope);
    digest(test, TEST_ROWS, test->row);
    digest(test, TEST_COUNT, test->a);
    digest(test, TEST_COUNT, test->c);
    digest(test, TEST_COUNT, test->d);
}

static void test_optimiser(const struct kernels *kernels, struct self_test *test)
{
    memset(test->stats, 0, sizeof test->stats);
    const struct kernels_adamw step = {.count = TEST_HEADS * TEST_ROWS,
                                       .weight = test->a,
                                       .grad = test->b,
                                       .m = test->stats,
                                       .v = test->stats + TEST_HEADS * TEST_ROWS,
                                       .step = 3,
                                       .rate = 0.01F,
                                       .beta1 = 0.9F,
                                       .beta2 = 0.99F,
                                       .eps = 1e-8F,
                                       .weight_decay = 0.1F,
                                       .grad_scale = 0.5F};
    kernels_adamw(kernels, &parallel_serial, &step);
    kernels_axpy(kernels, &parallel_serial, TEST_COLUMNS, 0.3F, test->a, test->b);
    kernels_scale(kernels, &parallel_serial, TEST_COLUMNS, 60.0F, test->b, test->c);
    kernels_exp(kernels, &parallel_serial, TEST_COLUMNS, test->c, test->c);
    test->row[0] = kernels_sum(kernels, TEST_COLUMNS, test->b);
    test->row[1] = kernels_max(kernels, TEST_COLUMNS, test->b);
    test->row[2] = (float)kernels_sum_squares(kernels, TEST_COLUMNS, test->b);
    digest(test, TEST_COLUMNS, test->a);
    digest(test, TEST_COLUMNS, test->b);
    digest(test, TEST_COLUMNS, test->c);
    digest(test, 3, test->row);
}

static uint64_t self_test(const struct kernels *kernels)
{
    struct self_test test = {.digest = UINT64_C(0xcbf29ce484222325)};
    uint64_t state = 1;
    fill(&state, TEST_COUNT, test.a);
    fill(&state, TEST_DEPTH * TEST_COLUMNS, test.b);
    fill(&state, TEST_COUNT, test.d);
    fill(&state, TEST_COLUMNS, test.weight);
    for (uint32_t i = 0; i < TEST_ROWS; i++) {
        test.targets[i] = (int32_t)(i * 3) - 1;
        test.positions[i] = i % 7;
    }
    test_products(kernels, &test);
    test_narrow(kernels, &test);
    test_attention(kernels, &test);
    test_rows(kernels, &test);
    test_optimiser(kernels, &test);
    return test.digest;
}

const char *kernels_backend(size_t index)
{
    return index < BACKEND_COUNT ? backends[index]->name : NULL;
}

const struct kernels *kernels_get(const char *name, struct note *note)
{
    enum err refused = ERR_OK;
    if (note != NULL) {
        note->text[0] = '\0';
    }
    for (size_t i = 0; i < BACKEND_COUNT; i++) {
        const struct kernels *kernels = backends[i];
        if (name != NULL && strcmp(name, kernels->name) != 0) {
            continue;
        }
        refused = ERR_OK;
        if (!kernels->supported()) {
            refused = ERR_UNAVAILABLE;
            if (name != NULL && kernels->explain == NULL) {
                (void)note_set(note, refused, "kernels %s: not supported by this cpu", name);
            } else if (name != NULL) {
                kernels->explain(note);
                (void)note_wrap(note, refused, "kernels %s: not supported by this machine", name);
            }
        } else if (kernels != &kernels_scalar && self_test(kernels) != self_test(&kernels_scalar)) {
            refused = note_set(note, ERR_CORRUPT, "kernels %s: self-test differs from scalar",
                               kernels->name);
        }
        if (refused == ERR_OK) {
            return kernels;
        }
    }
    if (refused == ERR_OK) {
        (void)note_set(note, ERR_NOT_FOUND, "kernels %s: unknown backend", name);
    }
    return NULL;
}
