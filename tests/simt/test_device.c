/* test_device.c - what kernels/cuda does beyond the table of backends: paged attention, adapters of
 * different ranks, fused norms, graphs, the arena, failures. The bits are scalar's.
 *
 * Built for the simulated device (make simt) and, where CUDA is built, for a real one (make test-gpu). */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/harness/seed.h"
#include "tests/simt/device_fixture.h"
#ifdef OPENLEDGER_SIMT
#include "tests/simt/simt.h"
#endif

#define ARENA ((size_t)8 << 20)
#define SCRATCH ((size_t)1 << 20)

float pool[POOL], want[POOL], got[POOL];
struct cuda *cuda;
const struct kernels *scalar;

static void setup(void)
{
    struct note note = {""};
    scalar = kernels_get("scalar", NULL);
    for (size_t i = 0; i < POOL; i++) {
        pool[i] = (float)(int32_t)(test_rand() >> 40) * 0x1p-22F - 2.0F;
    }
    const struct cuda_options options = {ARENA, SCRATCH};
    ck_assert_msg(cuda_open(&options, &cuda, &note) == ERR_OK, "%s", note.text);
}

static void teardown(void)
{
    cuda_close(cuda);
    cuda = NULL;
}

void sync_ok(void)
{
    struct note note = {""};
    ck_assert_msg(cuda_sync(cuda, &note) == ERR_OK, "%s", note.text);
}

void *put(const void *data, size_t size)
{
    const struct cuda_rows flat = {1, size, size, size};
    void *device = cuda_take(cuda, size);
    ck_assert_ptr_nonnull(device);
    cuda_put(cuda, &flat, data, device);
    return device;
}

float *put_floats(const float *data, size_t count)
{
    return put(data, count * sizeof *data);
}

void same(const float *device, size_t count)
{
    const size_t size = count * sizeof *device;
    cuda_fetch(cuda, &(struct cuda_rows){1, size, size, size}, device, got);
    sync_ok();
    for (size_t i = 0; i < count; i++) {
        uint32_t bits[2];
        memcpy(&bits[0], &got[i], sizeof bits[0]);
        memcpy(&bits[1], &want[i], sizeof bits[1]);
        ck_assert_msg(bits[0] == bits[1], "number %zu is %08x, want %08x", i, bits[0], bits[1]);
    }
}

void order(int round)
{
#ifdef OPENLEDGER_SIMT
    simt_seed((uint64_t)round * 77);
#else
    (void)round;
#endif
}

/* ---- attention ---------------------------------------------------------------------------------- */

#define SEQUENCES ((size_t)3)
#define HEADS ((size_t)6)
#define KV_HEADS ((size_t)2)
#define DIM ((size_t)20)
#define Q_STRIDE ((size_t)125)
#define KV_STRIDE ((size_t)43)
#define PAGE ((size_t)16)
#define PAGES ((size_t)72)
#define POSITIONS_MAX ((size_t)601)
#define ROWS_MAX ((size_t)9)
#define ROWS (ROWS_MAX * SEQUENCES)

/* A decode step over three blocks, a chunk of a prompt that crosses a block, and a new sequence. */
static const size_t batch[SEQUENCES][2] = {{1, 600}, {9, 250}, {5, 0}}; /* rows, start */

struct paged_batch {
    struct cuda_sequence sequences[SEQUENCES];
    float keys[PAGES * PAGE * KV_STRIDE], values[PAGES * PAGE * KV_STRIDE]; /* as pages */
    uint32_t pages[SEQUENCES][POSITIONS_MAX / PAGE + 1];
    float *out;
};

static struct kernels_attention attention_shape(void)
{
    return (struct kernels_attention){.head_count = HEADS,
                                      .kv_head_count = KV_HEADS,
                                      .head_dim = DIM,
                                      .scale = 0.25F,
                                      .q_stride = Q_STRIDE,
                                      .kv_stride = KV_STRIDE,
                                      .out_stride = HEADS * DIM,
                                      .sequence_count = SEQUENCES};
}

/* Host addresses of sequence i's operands. */
static struct kernels_sequence sequence_of(size_t i)
{
    return (struct kernels_sequence){.row_count = batch[i][0],
                                     .start = batch[i][1],
                                     .q = pool + i * 2000,
                                     .k = pool + 9000 + i * 15000,
                                     .v = pool + 9500 + i * 15000,
                                     .out = want + i * ROWS_MAX * HEADS * DIM};
}

/* The scalar results go to want; the batch goes to the device, keys and values in pages all over the
 * place, which the sequences' tables name. */
static void paged_fill(struct paged_batch *out)
{
    const struct kernels_attention shape = attention_shape();
    uint32_t next = 0;
    memset(want, 0, sizeof want);
    for (size_t i = 0; i < SEQUENCES; i++) {
        const struct kernels_sequence sequence = sequence_of(i);
        struct kernels_attention one = shape;
        one.sequences = &sequence;
        one.sequence_count = 1;
        kernels_attention(scalar, &parallel_serial, &one);
        for (size_t j = 0; j < sequence.row_count + sequence.start; j++) {
            uint32_t *page = &out->pages[i][j / PAGE];
            *page = j % PAGE == 0 ? (uint32_t)((size_t)next++ * 5 % PAGES)
                                  : *page; /* 5 and 72 have no common factor */
            const size_t at = (*page * PAGE + j % PAGE) * KV_STRIDE;
            memcpy(out->keys + at, sequence.k + j * KV_STRIDE, KV_STRIDE * sizeof(float));
            memcpy(out->values + at, sequence.v + j * KV_STRIDE, KV_STRIDE * sizeof(float));
        }
    }
    ck_assert_uint_le(next, PAGES);
    const float *keys = put_floats(out->keys, PAGES * PAGE * KV_STRIDE);
    const float *values = put_floats(out->values, PAGES * PAGE * KV_STRIDE);
    memset(got, 0, sizeof got);
    out->out = put_floats(got, ROWS * HEADS * DIM);
    for (size_t i = 0; i < SEQUENCES; i++) {
        struct kernels_sequence rows = sequence_of(i);
        rows.q = put_floats(rows.q, rows.row_count * Q_STRIDE);
        rows.k = keys;
        rows.v = values;
        rows.out = out->out + i * ROWS_MAX * HEADS * DIM;
        out->sequences[i] = (struct cuda_sequence){rows, put(out->pages[i], sizeof out->pages[i])};
    }
}

START_TEST(test_paged_attention)
{
    static struct paged_batch paged;
    order(_i);
    paged_fill(&paged);
    const struct cuda_attention attention = {.shape = attention_shape(),
                                             .sequences =
                                                 put(paged.sequences, sizeof paged.sequences),
                                             .row_max = ROWS_MAX,
                                             .position_max = POSITIONS_MAX,
                                             .page_size = PAGE};
    cuda_attention(cuda, &attention);
    same(paged.out, ROWS * HEADS * DIM);
}
END_TEST

/* A scratch for 4 rows at a time gives the same bits; one for no row is refused by name. */
START_TEST(test_attention_scratch)
{
    static struct paged_batch paged;
    const size_t row = 4 * HEADS * SEQUENCES * 3 * (DIM + 2);
    for (size_t rows = 4; rows <= 4; rows -= 4) {
        struct note note = {""};
        cuda_close(cuda);
        const struct cuda_options options = {ARENA, rows == 0 ? row - 4 : rows * row};
        ck_assert_int_eq(cuda_open(&options, &cuda, &note), ERR_OK);
        paged_fill(&paged);
        const struct cuda_attention attention = {.shape = attention_shape(),
                                                 .sequences =
                                                     put(paged.sequences, sizeof paged.sequences),
                                                 .row_max = ROWS_MAX,
                                                 .position_max = POSITIONS_MAX,
                                                 .page_size = PAGE};
        cuda_attention(cuda, &attention);
        if (rows > 0) {
            same(paged.out, ROWS * HEADS * DIM);
        } else {
            ck_assert_int_eq(cuda_sync(cuda, &note), ERR_LIMIT);
            ck_assert_str_eq(note.text, "cuda: attention scratch: 4752 bytes needed, 4748 left");
            sync_ok(); /* reported once */
        }
    }
}
END_TEST

/* ---- adapters ------------------------------------------------------------------------------------- */

#define LORA_IN ((size_t)150)
#define LORA_OUT ((size_t)37)
#define LORA_COUNT ((size_t)30)
#define LORA_RANK_MAX ((size_t)33)
START_TEST(test_lora)
{
    static const struct {
        size_t row, row_count;
        uint32_t rank;
    } runs[] = {{0, 1, 8}, {1, 4, 0}, {5, 11, 33}, {16, 1, 1}, {18, 12, 17}}; /* row 17: none */
    struct cuda_lora_segment segments[5];
    float ax[LORA_COUNT * LORA_RANK_MAX];
    float low[LORA_COUNT * LORA_OUT];
    order(_i);
    memcpy(want, pool + 50000, sizeof(float) * LORA_COUNT * LORA_OUT);
    float *y = put_floats(pool + 50000, LORA_COUNT * LORA_OUT);
    for (size_t i = 0; i < 5; i++) {
        const size_t row = runs[i].row;
        const size_t count = runs[i].row_count;
        const size_t rank = runs[i].rank;
        const float *a = pool + 5000 + i * 4000;
        const float *b = pool + 30000 + i * 1500;
        const float scale = 0.3F + (float)i;
        segments[i] = (struct cuda_lora_segment){row,
                                                 count,
                                                 (uint32_t)rank,
                                                 scale,
                                                 rank == 0 ? NULL : put_floats(a, rank * LORA_IN),
                                                 rank == 0 ? NULL : put_floats(b, rank * LORA_OUT)};
        if (rank == 0) {
            continue;
        }
        kernels_gemm(scalar, &parallel_serial,
                     &(struct kernels_gemm){.m = count,
                                            .n = rank,
                                            .k = LORA_IN,
                                            .a = {pool + row * LORA_IN, LORA_IN, 1},
                                            .b = {a, 1, LORA_IN},
                                            .c = ax,
                                            .c_stride = rank});
        kernels_gemm(scalar, &parallel_serial,
                     &(struct kernels_gemm){.m = count,
                                            .n = LORA_OUT,
                                            .k = rank,
                                            .a = {ax, rank, 1},
                                            .b = {b, 1, rank},
                                            .c = low,
                                            .c_stride = LORA_OUT});
        kernels_axpy(scalar, &parallel_serial, count * LORA_OUT, scale, low, want + row * LORA_OUT);
    }
    const struct cuda_lora lora = {.in = LORA_IN,
                                   .out = LORA_OUT,
                                   .row_count = LORA_COUNT,
                                   .rank_max = LORA_RANK_MAX,
                                   .segments = put(segments, sizeof segments),
                                   .segment_count = 5,
                                   .x = put_floats(pool, LORA_COUNT * LORA_IN),
                                   .ax = cuda_take(cuda, sizeof ax),
                                   .y = y};
    cuda_lora(cuda, &lora);
    same(y, LORA_COUNT * LORA_OUT);
}
END_TEST

/* ---- rows -------------------------------------------------------------------------------------------- */

/* A narrow row, one with a block of threads of its own, and one longer than a block holds at a time. */
static void norm_check(size_t rows, size_t width)
{
    const size_t size = rows * width;
    kernels_add(scalar, &parallel_serial, size, pool, pool + size, want);
    kernels_rmsnorm(scalar, &parallel_serial, rows, width, 1e-5F, want, pool + 9000, want + size,
                    want + 2 * size);
    float *out = cuda_take(cuda, (2 * size + rows) * sizeof *out);
    struct cuda_rmsnorm norm = {.rows = rows,
                                .width = width,
                                .eps = 1e-5F,
                                .x = put_floats(pool, size),
                                .add = put_floats(pool + size, size),
                                .sum = out,
                                .weight = put_floats(pool + 9000, width),
                                .y = out + size,
                                .inv = out + 2 * size};
    cuda_rmsnorm(cuda, &norm);
    same(out, 2 * size + rows);
    /* Without a residual, in place, and nothing but y. */
    norm.add = NULL;
    norm.x = out;
    norm.y = out;
    norm.inv = NULL;
    memmove(want, want + size, size * sizeof *want);
    cuda_rmsnorm(cuda, &norm);
    same(out, size);
}

START_TEST(test_residual_norm)
{
    order(_i);
    norm_check(21, 67);
    norm_check(5, 700);
    norm_check(3, 4500);
}
END_TEST

#define EMBED_COUNT ((size_t)40)
#define EMBED_WIDTH ((size_t)33)
#define EMBED_TABLE ((size_t)7)
START_TEST(test_embedding)
{
    uint32_t ids[EMBED_COUNT];
    order(_i);
    for (size_t i = 0; i < EMBED_COUNT; i++) {
        ids[i] = (uint32_t)(i * i % EMBED_TABLE);
    }
    const uint32_t *ids_there = put(ids, sizeof ids);
    float *out = cuda_take(cuda, sizeof *out * EMBED_COUNT * EMBED_WIDTH);
    kernels_embed(scalar, &parallel_serial, EMBED_COUNT, EMBED_WIDTH, pool, ids, want);
    cuda_embed(cuda, EMBED_COUNT, EMBED_WIDTH, put_floats(pool, EMBED_TABLE * EMBED_WIDTH),
               ids_there, out);
    same(out, EMBED_COUNT * EMBED_WIDTH);
    memcpy(want, pool + 500, sizeof *want * EMBED_TABLE * EMBED_WIDTH);
    float *table = put_floats(pool + 500, EMBED_TABLE * EMBED_WIDTH);
    kernels_embed_backward(scalar, &parallel_serial, EMBED_COUNT, EMBED_WIDTH, ids, pool, want);
    cuda_embed_backward(cuda, EMBED_COUNT, EMBED_WIDTH, ids_there,
                        put_floats(pool, EMBED_COUNT * EMBED_WIDTH), table);
    same(table, EMBED_TABLE * EMBED_WIDTH);
}
END_TEST

/* Sums by blocks, as kernels_sum_squares takes them. */
#define LANES_COUNT (3 * KERNELS_SUM_BLOCK + 77)
#define LANES_BLOCKS ((size_t)4)
START_TEST(test_lanes)
{
    order(_i);
    const float *x = put_floats(pool, LANES_COUNT);
    float *out = cuda_take(cuda, LANES_BLOCKS * sizeof *out);
    for (size_t b = 0; b < LANES_BLOCKS; b++) {
        const size_t count = b < 3 ? KERNELS_SUM_BLOCK : 77;
        want[b] = (float)kernels_sum_squares(scalar, count, pool + b * KERNELS_SUM_BLOCK);
    }
    cuda_lanes(cuda, CUDA_SUM_SQUARES, LANES_COUNT, KERNELS_SUM_BLOCK, x, out);
    same(out, LANES_BLOCKS);
}
END_TEST

/* ---- graphs, memory, failures ---------------------------------------------------------------------- */

#define M ((size_t)3)
#define N ((size_t)50)
#define K ((size_t)170)

/* want = exp(a b^T); out, on the device, the same from what lies at a and b there. */
static void product_want(const float *a, const float *b)
{
    kernels_gemm(
        scalar, &parallel_serial,
        &(struct kernels_gemm){
            .m = M, .n = N, .k = K, .a = {a, K, 1}, .b = {b, 1, K}, .c = want, .c_stride = N});
    kernels_exp(scalar, &parallel_serial, M * N, want, want);
}

static void product_queue(const float *a, const float *b, float *out)
{
    cuda_gemm(cuda,
              &(struct kernels_gemm){
                  .m = M, .n = N, .k = K, .a = {a, K, 1}, .b = {b, 1, K}, .c = out, .c_stride = N});
    cuda_map(cuda, CUDA_EXP, &(struct cuda_map_args){.count = M * N, .in = {out}, .out = {out}});
}

START_TEST(test_graph)
{
    float *a = cuda_take(cuda, M * K * sizeof *a);
    const float *b = put_floats(pool + 1000, N * K);
    float *out = cuda_take(cuda, M * N * sizeof *out);
    cuda_record_begin(cuda);
    product_queue(a, b, out);
    struct cuda_graph *graph = cuda_record_end(cuda);
    ck_assert_ptr_nonnull(graph);
    for (size_t step = 0; step < 3; step++) { /* data changes, addresses do not */
        const size_t size = M * K * sizeof *a;
        const float *x = pool + 20000 + step * 1000;
        cuda_put(cuda, &(struct cuda_rows){1, size, size, size}, x, a);
        cuda_graph_run(cuda, graph);
        product_want(x, pool + 1000);
        same(out, M * N);
    }
    cuda_graph_destroy(graph);
    cuda_graph_destroy(NULL);
}
END_TEST

START_TEST(test_arena)
{
    struct note note = {""};
    const size_t mark = cuda_mark(cuda);
    unsigned char *first = cuda_take(cuda, 1000);
    unsigned char *second = cuda_take(cuda, 1);
    ck_assert_uint_eq((uintptr_t)second % 256, 0);
    ck_assert(second >= first + 1000);
    ck_assert_ptr_null(cuda_take(cuda, ARENA));
    ck_assert_int_eq(cuda_sync(cuda, &note), ERR_LIMIT);
    ck_assert_ptr_nonnull(strstr(note.text, "cuda: arena: 8388608 bytes needed"));
    cuda_release(cuda, mark);
    ck_assert_ptr_eq(cuda_take(cuda, ARENA), first);
    sync_ok();
}
END_TEST

#ifdef OPENLEDGER_SIMT
/* A whole life of a context; true if it went well, with the right bits. */
static bool life(struct note *note)
{
    const struct cuda_options options = {ARENA, SCRATCH};
    const size_t size = M * K * sizeof(float);
    bool ok = false;
    if (cuda_open(&options, &cuda, note) != ERR_OK) {
        cuda = NULL;
        return false;
    }
    float *a = cuda_take(cuda, size);
    float *b = cuda_take(cuda, N * K * sizeof *b);
    float *out = cuda_take(cuda, M * N * sizeof *out);
    cuda_record_begin(cuda);
    product_queue(a, b, out);
    struct cuda_graph *graph = cuda_record_end(cuda);
    cuda_put(cuda, &(struct cuda_rows){1, size, size, size}, pool, a);
    cuda_put(cuda, &(struct cuda_rows){N, K * sizeof *b, K * sizeof *b, (K + 1) * sizeof *b},
             pool + 1000, b);
    if (graph != NULL) {
        cuda_graph_run(cuda, graph);
    }
    cuda_fetch(
        cuda, &(struct cuda_rows){1, M * N * sizeof *out, M * N * sizeof *out, M * N * sizeof *out},
        out, got);
    ok = cuda_sync(cuda, note) == ERR_OK;
    cuda_graph_destroy(graph);
    cuda_close(cuda);
    cuda = NULL;
    return ok;
}

/* Every call of the runtime fails in turn: the note names a call, nothing leaks (ASan looks), and the
 * next life is sound. */
START_TEST(test_failures)
{
    cuda_close(cuda);
    simt_fail(0);
    const uint64_t before = simt_calls();
    struct note note = {""};
    ck_assert(life(&note));
    const uint64_t calls = simt_calls() - before;
    uint64_t unnoticed = 0; /* the device's name and figures, closing */
    for (uint64_t i = 1; i <= calls; i++) {
        note.text[0] = '\0';
        simt_fail(i);
        if (life(&note)) {
            unnoticed++;
        } else {
            ck_assert_msg(strncmp(note.text, "cuda: ", 6) == 0, "call %d: %s", (int)i, note.text);
        }
        simt_fail(0);
    }
    ck_assert_uint_ge(calls, 15);
    ck_assert_uint_eq(unnoticed, 6);
    ck_assert(life(&note));
}
END_TEST
#endif

int main(void)
{
    Suite *suite = suite_create("device");
    TCase *tcase = tcase_create("bits");
    struct note note = {""};
    if (!cuda_available(&note)) {
        printf("SKIP: %s\n", note.text);
        return 0;
    }
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, test_paged_attention, 0, ORDERS);
    tcase_add_test(tcase, test_attention_scratch);
    tcase_add_loop_test(tcase, test_lora, 0, ORDERS);
    tcase_add_loop_test(tcase, test_residual_norm, 0, ORDERS);
    tcase_add_loop_test(tcase, test_embedding, 0, ORDERS);
    tcase_add_loop_test(tcase, test_lanes, 0, ORDERS);
    device_long_add(tcase);
    tcase_add_test(tcase, test_graph);
    tcase_add_test(tcase, test_arena);
#ifdef OPENLEDGER_SIMT
    tcase_add_test(tcase, test_failures);
#endif
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK); /* a CUDA context does not survive fork */
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
