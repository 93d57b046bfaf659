/* test_digest.c - the 50 steps of training and the served texts of tests/harness/lm_digest.h on another machine's
 * fastest backend: the digests that every backend here comes to. One way each: an emulator is slow. */
#include <check.h>

#include "shared/platform/pool.h"
#include "tests/harness/lm_digest.h"

static void expect(const struct digest *digest, const char *want)
{
    char text[DIGEST_TEXT_SIZE];
    (void)digest_format(digest, text);
    ck_assert_str_eq(text, want);
}

static const struct kernels *fastest(void)
{
    struct note note = {""};
    const struct kernels *kernels = kernels_get(NULL, &note);
    ck_assert_ptr_nonnull(kernels);
    ck_assert_msg(strcmp(kernels_name(kernels), "scalar") != 0, "refused: %s", note.text);
    return kernels;
}

START_TEST(test_fifty_steps)
{
    struct pool *pool = pool_create(2);
    const struct lm_digest_training how = {.kernels = fastest(),
                                           .parallel = pool_parallel(pool),
                                           .micro_batches = 4,
                                           .cut = 23,
                                           .recompute = true};
    struct digest digest = {{0}};
    struct note note = {""};
    ck_assert_msg(lm_digest_train(&how, &digest, &note) == ERR_OK, "%s", note.text);
    expect(&digest, LM_DIGEST_TRAINED);
    pool_destroy(pool);
}
END_TEST

START_TEST(test_served_text)
{
    struct pool *pool = pool_create(2);
    const struct lm_digest_serving how = {.kernels = fastest(),
                                          .parallel = pool_parallel(pool),
                                          .int8 = _i == 1,
                                          .chunk = 64,
                                          .company = 2};
    struct digest digest = {{0}};
    struct note note = {""};
    ck_assert_msg(lm_digest_serve(&how, &digest, &note) == ERR_OK, "%s", note.text);
    expect(&digest, how.int8 ? LM_DIGEST_SERVED_INT8 : LM_DIGEST_SERVED);
    pool_destroy(pool);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("digest on another machine");
    TCase *tcase = tcase_create("one digest everywhere");
    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, test_fifty_steps);
    tcase_add_loop_test(tcase, test_served_text, 0, 2);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
