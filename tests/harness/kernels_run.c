/* kernels_run.c - see kernels_run.h. */
#include "tests/harness/kernels_run.h"

#include <assert.h>
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/harness/seed.h"

#ifdef OPENLEDGER_SIMT
#include "tests/simt/simt.h"
#endif

#define AREA 400000      /* output numbers with gaps */
#define GAP ((size_t)40) /* sentinels around each output */
#define SENTINEL 0x7fa5a5a5U
#define BACKENDS_MAX 8
#define INPUTS_MAX 48U
#define INPUT_SIZE ((size_t)1 << 22) /* bytes: more than a whole pool */

/* A build for the simulated device (Makefile, SIMT) compares that device only: every run
 * with another order of the device's threads. */
#ifdef OPENLEDGER_SIMT
#define WORKERS 3
#define ROUNDS 1
static bool compared(const char *name)
{
    return strcmp(name, "cuda") == 0;
}
#else
#define WORKERS 1, 2, 3, 7
#define ROUNDS 4
static bool compared(const char *name)
{
    (void)name;
    return true;
}
#endif

/* The next run's order of the simulated device's threads: ascending at first. */
static void device_order(void)
{
#ifdef OPENLEDGER_SIMT
    static uint64_t seed;
    simt_seed(seed++);
#endif
}

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

float pool_plain[POOL], pool_odd[POOL];
static uint32_t area_want[AREA], area_got[AREA];
static bool area_used_want[AREA];

void pools_fill(void)
{
    const float odd[] = {0.0F,   -0.0F, 0x1p-149F, -0x1p-140F, 0x1p-126F, INFINITY,
                         -1e30F, NAN,   3e38F,     -87.5F,     95.0F,     -INFINITY};
    for (size_t i = 0; i < POOL; i++) {
        pool_plain[i] = (float)(int32_t)(test_rand() >> 40) * 0x1p-22F - 2.0F;
        pool_odd[i] = test_rand() % 8 == 0 ? odd[test_rand() % 12] : pool_plain[i];
    }
}

/* What an input was, and where it lies for the operation. */
struct input {
    const float *from, *at;
    size_t count;
};
static struct input inputs[INPUTS_MAX];

/* The end of slot `index`: behind it lies memory that cannot be touched. */
static float *input_end(uint32_t index)
{
    static char *memory;
    const size_t stride = 2 * INPUT_SIZE;
    if (memory == NULL) {
        void *made = mmap(NULL, INPUTS_MAX * stride, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        ck_assert_ptr_ne(made, MAP_FAILED);
        for (size_t i = 0; i < INPUTS_MAX; i++) {
            const int made_writable =
                mprotect((char *)made + i * stride, INPUT_SIZE, PROT_READ | PROT_WRITE);
            ck_assert_int_eq(made_writable, 0);
        }
        memory = made;
    }
    return (float *)(void *)(memory + index * stride + INPUT_SIZE);
}

static const float *pool_take(struct run *run, size_t count)
{
    ck_assert_uint_le(run->pool_used + count, POOL);
    run->pool_used += count;
    return run->pool + run->pool_used - count;
}

const float *in(struct run *run, size_t count)
{
    static_assert(sizeof pool_plain <= INPUT_SIZE, "an input fits its slot");
    const float *from = pool_take(run, count);
    ck_assert_uint_lt(run->inputs, INPUTS_MAX);
    float *at = input_end(run->inputs) - count;
    memcpy(at, from, count * sizeof *at);
    inputs[run->inputs++] = (struct input){from, at, count};
    return at;
}

/* An output with gaps on both sides, filled with numbers from the pool. */
float *out(struct run *run, size_t count)
{
    ck_assert_uint_le(run->area_used + count + 2 * GAP, AREA);
    uint32_t *data = run->area + run->area_used + GAP;
    memcpy(data, pool_take(run, count), count * sizeof *data);
    memset(area_used_want + run->area_used + GAP, 1, count);
    run->area_used += count + GAP;
    return (float *)data;
}

/* An output that starts at zero, as gradients and moments do. */
float *out_zero(struct run *run, size_t count)
{
    float *data = out(run, count);
    memset(data, 0, count * sizeof *data);
    return data;
}

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
    for (uint32_t i = 0; i < run.inputs; i++) {
        if (memcmp(inputs[i].at, inputs[i].from, inputs[i].count * sizeof(float)) != 0) {
            ck_abort_msg("%s changed its input %u", kernels_name(run.kernels), i);
        }
    }
}

static bool is_nan(uint32_t bits)
{
    return (bits & 0x7fffffff) > 0x7f800000;
}

/* The backend, or NULL if this machine does not support it: asked once, it tests itself each time. */
static const struct kernels *backend(size_t index)
{
    static const struct kernels *found[BACKENDS_MAX];
    static bool asked[BACKENDS_MAX];
    struct note note = {""};
    ck_assert_uint_lt(index, BACKENDS_MAX);
    if (!asked[index]) {
        found[index] = kernels_get(kernels_backend(index), &note);
        asked[index] = true;
        if (found[index] == NULL) {
            (void)printf("%s: compiled, unverified (%s)\n", kernels_backend(index), note.text);
        }
        ck_assert_msg(found[index] != NULL || strstr(note.text, "not supported") != NULL, "%s",
                      note.text);
    }
    return found[index];
}

/* One run on run.kernels; aborts the check unless it left area_want's bits. */
static void same(op_fn *op, struct run run, size_t round, bool odd)
{
    static const uint32_t workers[] = {WORKERS};
    struct shuffle shuffle = {workers[round]};
    const struct parallel parallel = {workers[round], &shuffle, shuffle_run};
    run.parallel = &parallel;
    run.area = area_got;
    device_order();
    run_op(op, run);
    for (size_t i = 0; i < AREA; i++) {
        if (area_want[i] != area_got[i] && !(is_nan(area_want[i]) && is_nan(area_got[i]))) {
            ck_abort_msg("%s, %u workers, size %zu, odd %d: word %zu is %08x, want %08x",
                         kernels_name(run.kernels), workers[round], run.size, odd, i, area_got[i],
                         area_want[i]);
        }
    }
}

/* Runs op on every backend, WORKERS, plain and odd numbers; all must agree. */
void same_everywhere(op_fn *op, size_t size, bool odd_too)
{
    const struct kernels *scalar = kernels_get("scalar", NULL);
    for (int odd = 0; odd <= (odd_too ? 1 : 0); odd++) {
        struct run run = {.kernels = scalar,
                          .parallel = &parallel_serial,
                          .size = size,
                          .pool = odd ? pool_odd : pool_plain,
                          .area = area_want};
        run_op(op, run);
        for (size_t b = 0; kernels_backend(b) != NULL; b++) {
            run.kernels = compared(kernels_backend(b)) ? backend(b) : NULL;
            for (size_t w = 0; run.kernels != NULL && w < ROUNDS; w++) {
                same(op, run, w, odd != 0);
            }
        }
    }
}
