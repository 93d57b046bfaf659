/* kernels_run.c - see kernels_run.h. */
#include "tests/harness/kernels_run.h"

#include <check.h>
#include <math.h>
#include <string.h>

#include "tests/harness/seed.h"

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

const float *in(struct run *run, size_t count)
{
    ck_assert_uint_le(run->pool_used + count, POOL);
    run->pool_used += count;
    return run->pool + run->pool_used - count;
}

/* An output with gaps on both sides, filled with numbers from the pool. */
float *out(struct run *run, size_t count)
{
    ck_assert_uint_le(run->area_used + count + 2 * GAP, AREA);
    uint32_t *data = run->area + run->area_used + GAP;
    memcpy(data, in(run, count), count * sizeof *data);
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
}

static bool is_nan(uint32_t bits)
{
    return (bits & 0x7fffffff) > 0x7f800000;
}

/* Runs op on every backend, workers 1, 2, 3, 7, plain and odd numbers; all must agree. */
void same_everywhere(op_fn *op, size_t size, bool odd_too)
{
    static const char *const names[] = {"scalar", "avx2", "avx512", "avx512-vnni", "avx512-amx"};
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
        for (size_t b = 0; b < sizeof names / sizeof names[0]; b++) {
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
