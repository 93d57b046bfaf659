/* check.h - as much of Check as the tests of kernels and model use, for a build for another machine, for which
 * Debian's Check is not at hand: the same test files, each test in a process of its own, the same last line.
 *
 * Found before the real one by -Itests/cross. One translation unit; a test that fails says where and ends. */
#pragma once

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct cross_test {
    const char *name;
    void (*run)(int index);
    int index, signal;
};

typedef struct cross_suite { /* Check's names */
    const char *name;
    struct cross_test tests[256];
    int count, failed;
} Suite, TCase, SRunner;

static Suite cross_suite;

#define CK_NORMAL 0
#define START_TEST(name)                                                                           \
    static void name##_body(int _i);                                                               \
    static const struct cross_test name = {#name, name##_body, 0, 0};                              \
    static void name##_body(int _i __attribute__((unused)))
#define END_TEST

static inline Suite *suite_create(const char *name)
{
    cross_suite.name = name;
    return &cross_suite;
}
#define tcase_create(name) (&cross_suite)
#define tcase_set_timeout(tcase, seconds) ((void)(tcase))
#define suite_add_tcase(suite, tcase) ((void)(tcase))
#define srunner_create(suite) (suite)
#define srunner_free(runner) ((void)(runner))
#define srunner_ntests_failed(runner) ((runner)->failed)

static inline void cross_add(struct cross_test test, int signal, int first, int end)
{
    for (int i = first; i < end; i++) {
        if (cross_suite.count == (int)(sizeof cross_suite.tests / sizeof cross_suite.tests[0])) {
            (void)printf("more than %d tests\n", cross_suite.count);
            exit(EXIT_FAILURE);
        }
        test.index = i;
        test.signal = signal;
        cross_suite.tests[cross_suite.count++] = test;
    }
}
#define tcase_add_test(tcase, test) cross_add(test, 0, 0, 1)
#define tcase_add_loop_test(tcase, test, first, end) cross_add(test, 0, first, (int)(end))
#define tcase_add_loop_test_raise_signal(tcase, test, signal, first, end)                          \
    cross_add(test, signal, first, (int)(end))

static inline void srunner_run_all(Suite *suite, int verbosity)
{
    (void)verbosity;
    (void)printf("Running suite(s): %s\n", suite->name);
    for (int i = 0; i < suite->count; i++) {
        const struct cross_test *test = &suite->tests[i];
        int status = 0;
        (void)fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            test->run(test->index);
            exit(EXIT_SUCCESS);
        }
        int ended = child > 0 && waitpid(child, &status, 0) == child;
        int good = test->signal == 0 ? WIFEXITED(status) && WEXITSTATUS(status) == 0
                                     : WIFSIGNALED(status) && WTERMSIG(status) == test->signal;
        if (!ended || !good) {
            (void)printf("%s:%d: failed, status %#x\n", test->name, test->index, (unsigned)status);
            suite->failed++;
        }
    }
    (void)printf("%d%%: Checks: %d, Failures: %d, Errors: 0\n",
                 suite->count == 0 ? 0 : 100 * (suite->count - suite->failed) / suite->count,
                 suite->count, suite->failed);
}

#define ck_fail(...)                                                                               \
    do {                                                                                           \
        (void)printf("%s:%d: ", __FILE__, __LINE__);                                               \
        (void)printf(__VA_ARGS__);                                                                 \
        (void)printf("\n");                                                                        \
        exit(EXIT_FAILURE);                                                                        \
    } while (0)
#define ck_abort_msg(...) ck_fail(__VA_ARGS__)
#define ck_assert_msg(condition, ...)                                                              \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            ck_fail(__VA_ARGS__);                                                                  \
        }                                                                                          \
    } while (0)
#define ck_assert(condition) ck_assert_msg(condition, "%s", #condition)
#define ck_assert_ptr_null(p) ck_assert_msg((p) == NULL, "%s is not NULL", #p)
#define ck_assert_ptr_nonnull(p) ck_assert_msg((p) != NULL, "%s is NULL", #p)
#define ck_assert_str_eq(a, b) ck_assert_msg(strcmp(a, b) == 0, "%s is \"%s\"", #a, a)
#define ck_assert_mem_eq(a, b, size) ck_assert_msg(memcmp(a, b, size) == 0, "%s differs", #a)
#define ck_assert_uint_eq(a, b)                                                                    \
    ck_assert_msg((a) == (b), "%s is %llu, not %llu", #a, (unsigned long long)(a),                 \
                  (unsigned long long)(b))
#define ck_assert_int_eq(a, b)                                                                     \
    ck_assert_msg((a) == (b), "%s is %lld, not %lld", #a, (long long)(a), (long long)(b))
#define ck_assert_ptr_ne(a, b) ck_assert_msg((a) != (b), "%s is %s", #a, #b)
#define ck_assert_uint_lt(a, b)                                                                    \
    ck_assert_msg((a) < (b), "%s is %llu, not below %llu", #a, (unsigned long long)(a),            \
                  (unsigned long long)(b))
#define ck_assert_uint_le(a, b)                                                                    \
    ck_assert_msg((a) <= (b), "%s is %llu, above %llu", #a, (unsigned long long)(a),               \
                  (unsigned long long)(b))
