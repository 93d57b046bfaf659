/* test_lm_digest.c - one constant for a 50-step training and one for a served text, on every backend,
 * thread count and way of cutting the work. A backend that this machine cannot run is said to be
 * compiled and unverified: it is not among what passed. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/platform/pool.h"
#include "tests/harness/lm_digest.h"

static const uint32_t THREADS[] = {1, 2, 3, 7};
#define THREADS_COUNT (sizeof THREADS / sizeof THREADS[0])

static int backend_count(void)
{
    int count = 0;
    while (kernels_backend((size_t)count) != NULL) {
        count++;
    }
    return count;
}

/* NULL: not on this machine. One that is here but misses scalar's self-test is a failure. */
static const struct kernels *backend(int index)
{
    struct note note = {""};
    const char *name = kernels_backend((size_t)index);
    const struct kernels *kernels = kernels_get(name, &note);
    if (kernels == NULL) {
        ck_assert_msg(strstr(note.text, "self-test") == NULL, "%s", note.text);
        (void)printf("%s: compiled, unverified (%s)\n", name, note.text);
        (void)fflush(stdout);
    }
    return kernels;
}

/* The specification is slow: it runs fewer pairs of thread count and way than the others. */
static bool is_scalar(const struct kernels *kernels)
{
    return kernels != NULL && strcmp(kernels_name(kernels), "scalar") == 0;
}

static void expect(const struct digest *digest, const char *want, const struct kernels *kernels,
                   uint32_t threads, size_t way)
{
    char text[DIGEST_TEXT_SIZE];
    (void)digest_format(digest, text);
    ck_assert_msg(strcmp(text, want) == 0, "%s, %u threads, way %zu: %s", kernels_name(kernels),
                  threads, way, text);
}

START_TEST(test_fifty_steps)
{
    static const struct lm_digest_training WAYS[] = {
        {.micro_batches = 1},
        {.micro_batches = 4, .cut = 23},
        {.micro_batches = 8, .recompute = true},
        {.micro_batches = 4, .recompute = true},
        {.micro_batches = 1, .cut = 23, .recompute = true},
        {.micro_batches = 8},
    };
    const size_t ways = sizeof WAYS / sizeof WAYS[0];
    const struct kernels *kernels = backend(_i);
    for (size_t t = 0; t < THREADS_COUNT && kernels != NULL; t++) {
        struct pool *pool = pool_create(THREADS[t]);
        ck_assert_ptr_nonnull(pool);
        /* Every way and every count; more pairs of them on the backend that this machine would choose. */
        const size_t step = kernels == kernels_get(NULL, NULL) ? 2 : THREADS_COUNT;
        for (size_t way = t % step; way < (is_scalar(kernels) ? 3 : ways); way += step) {
            struct lm_digest_training how = WAYS[way];
            struct digest digest = {{0}};
            struct note note = {""};
            how.kernels = kernels;
            how.parallel = pool_parallel(pool);
            ck_assert_msg(lm_digest_train(&how, &digest, &note) == ERR_OK, "%s", note.text);
            expect(&digest, LM_DIGEST_TRAINED, kernels, THREADS[t], way);
        }
        pool_destroy(pool);
    }
}
END_TEST

START_TEST(test_served_text)
{
    static const struct lm_digest_serving WAYS[] = {
        {.chunk = 1000, .company = 1},
        {.chunk = 1, .company = 1},
        {.chunk = 7, .company = 1},
        {.chunk = 64, .company = 1},
        {.chunk = 7, .company = 2},
        {.chunk = 1000, .company = 33},
        {.chunk = 64, .company = 100},
        {.chunk = 1000, .company = 1, .forget = true},
        {.chunk = 7, .company = 2, .forget = true},
    };
    const size_t ways = sizeof WAYS / sizeof WAYS[0];
    const struct kernels *kernels = backend(_i);
    for (size_t t = 0; t < THREADS_COUNT && kernels != NULL; t++) {
        struct pool *pool = pool_create(THREADS[t]);
        ck_assert_ptr_nonnull(pool);
        const size_t step = is_scalar(kernels) ? THREADS_COUNT : 1;
        for (size_t way = t % step; way < ways; way += step) {
            for (int int8 = 0; int8 < 2; int8++) {
                struct lm_digest_serving how = WAYS[way];
                struct digest digest = {{0}};
                struct note note = {""};
                how.kernels = kernels;
                how.parallel = pool_parallel(pool);
                how.int8 = int8 == 1;
                ck_assert_msg(lm_digest_serve(&how, &digest, &note) == ERR_OK, "%s", note.text);
                expect(&digest, how.int8 ? LM_DIGEST_SERVED_INT8 : LM_DIGEST_SERVED, kernels,
                       THREADS[t], way);
            }
        }
        pool_destroy(pool);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lm_digest");
    TCase *tcase = tcase_create("one digest everywhere");
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, test_fifty_steps, 0, backend_count());
    tcase_add_loop_test(tcase, test_served_text, 0, backend_count());
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
