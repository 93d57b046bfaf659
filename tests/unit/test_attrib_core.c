/* test_attrib_core.c - attrib's exact parts: eigenpairs and spans, against slow obvious models. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shared/attrib/jacobi.h"
#include "shared/attrib/spans.h"
#include "tests/harness/seed.h"

/* ---- Jacobi ----------------------------------------------------------------------------------- */

START_TEST(test_known_eigenpairs)
{
    double a[4] = {2, 1, 1, 2}; /* eigenvalues 3 and 1, vectors (1, 1) and (1, -1) over sqrt 2 */
    double values[2];
    double vectors[4];
    ck_assert_int_eq(jacobi_eigen(2, a, values, vectors), ERR_OK);
    ck_assert_double_eq_tol(values[0], 3.0, 1e-14);
    ck_assert_double_eq_tol(values[1], 1.0, 1e-14);
    ck_assert_double_eq_tol(vectors[0], sqrt(0.5), 1e-14);
    ck_assert_double_eq_tol(vectors[2], sqrt(0.5), 1e-14);
    ck_assert_double_eq_tol(vectors[1], sqrt(0.5), 1e-14); /* the first of equals is positive */
    ck_assert_double_eq_tol(vectors[3], -sqrt(0.5), 1e-14);
}
END_TEST

START_TEST(test_random_matrices_are_rebuilt)
{
    enum { N = 24 };
    for (uint32_t round = 0; round < 20; round++) {
        uint32_t n = 1 + (uint32_t)(test_rand() % N);
        double a[N * N];
        double kept[N * N];
        double values[N];
        double v[N * N];
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t j = 0; j <= i; j++) {
                a[i * n + j] = (double)(int64_t)(test_rand() >> 32) / 4294967296.0 - 0.5;
                a[j * n + i] = a[i * n + j];
            }
        }
        memcpy(kept, a, sizeof a);
        ck_assert_int_eq(jacobi_eigen(n, a, values, v), ERR_OK);
        for (uint32_t i = 0; i < n; i++) {
            ck_assert(i == 0 || values[i] <= values[i - 1]);
            for (uint32_t j = 0; j < n; j++) {
                double rebuilt = 0;
                double dot = 0;
                for (uint32_t k = 0; k < n; k++) {
                    rebuilt += v[i * n + k] * values[k] * v[j * n + k];
                    dot += v[k * n + i] * v[k * n + j];
                }
                ck_assert_double_eq_tol(rebuilt, kept[i * n + j], 1e-10);
                ck_assert_double_eq_tol(dot, i == j ? 1.0 : 0.0, 1e-12);
            }
        }
    }
}
END_TEST

START_TEST(test_zero_and_non_finite_matrices)
{
    double zero[9] = {0};
    double values[3];
    double vectors[9];
    ck_assert_int_eq(jacobi_eigen(3, zero, values, vectors), ERR_OK);
    for (uint32_t i = 0; i < 9; i++) {
        ck_assert(vectors[i] == (i % 4 == 0 ? 1.0 : 0.0));
    }
    double bad[4] = {1, (double)NAN, (double)NAN, 1};
    ck_assert_int_eq(jacobi_eigen(2, bad, values, vectors), ERR_INVALID);
    double huge[4] = {1e300, 1e300, 1e300, 1e300};
    ck_assert_int_eq(jacobi_eigen(2, huge, values, vectors), ERR_INVALID);
}
END_TEST

/* ---- spans ------------------------------------------------------------------------------------ */

enum { ROWS = 12, ROW_TOKENS = 40, ANSWER = 60, PROMPT = 30, VOCAB = 3 };

static uint32_t tokens[ROWS][ROW_TOKENS];
static uint8_t masks[ROWS][ROW_TOKENS];
static struct lm_example rows[ROWS];

static void make_rows(void)
{
    for (uint32_t r = 0; r < ROWS; r++) {
        for (uint32_t i = 0; i < ROW_TOKENS; i++) {
            tokens[r][i] = (uint32_t)(test_rand() % VOCAB);
            masks[r][i] = test_rand() % 10 != 0;
        }
        rows[r] = (struct lm_example){.tokens = tokens[r],
                                      .mask = masks[r],
                                      .count = 1 + (uint32_t)(test_rand() % ROW_TOKENS)};
    }
}

/* Does query stand in row r at `at`, all of it counted? */
static bool stands(uint32_t r, uint32_t at, const uint32_t *query, uint32_t count)
{
    bool ok = at + count <= rows[r].count;
    for (uint32_t i = 0; ok && i < count; i++) {
        ok = rows[r].tokens[at + i] == query[i] && rows[r].mask[at + i] != 0;
    }
    return ok;
}

static bool anywhere(const uint32_t *query, uint32_t count)
{
    for (uint32_t r = 0; r < ROWS; r++) {
        for (uint32_t at = 0; at < rows[r].count; at++) {
            if (stands(r, at, query, count)) {
                return true;
            }
        }
    }
    return false;
}

static bool in_prompt(const uint32_t *prompt, const uint32_t *query, uint32_t count)
{
    for (uint32_t at = 0; at + count <= PROMPT; at++) {
        if (memcmp(prompt + at, query, count * sizeof *query) == 0) {
            return true;
        }
    }
    return false;
}

/* The cover by its definition: try every length from the longest down, every start from the left. */
static uint32_t model_cover(const uint32_t *prompt, const uint32_t *answer, struct spans_match *out)
{
    bool taken[ANSWER] = {false};
    uint32_t count = 0;
    for (uint32_t length = ANSWER; length >= SPANS_LENGTH_MIN; length--) {
        for (uint32_t start = 0; start + length <= ANSWER; start++) {
            bool open = true;
            for (uint32_t i = start; i < start + length; i++) {
                open = open && !taken[i];
            }
            if (open && anywhere(answer + start, length) &&
                !in_prompt(prompt, answer + start, length)) {
                out[count++] = (struct spans_match){.start = start, .length = length};
                memset(taken + start, true, length);
            }
        }
    }
    return count;
}

START_TEST(test_cover_equals_the_model)
{
    uint32_t found = 0;
    for (uint32_t round = 0; round < 60; round++) {
        uint32_t prompt[PROMPT];
        uint32_t answer[ANSWER];
        make_rows();
        for (uint32_t i = 0; i < PROMPT; i++) {
            prompt[i] = (uint32_t)(test_rand() % VOCAB);
        }
        for (uint32_t i = 0; i < ANSWER; i++) {
            answer[i] = (uint32_t)(test_rand() % VOCAB);
        }
        memcpy(answer + 5, tokens[3] + 2, 20 * sizeof *answer); /* long copies, some prompted */
        memcpy(prompt + 3, tokens[3] + 4, 9 * sizeof *answer);
        struct spans *spans = NULL;
        ck_assert_int_eq(spans_create(rows, ROWS, &spans), ERR_OK);
        struct spans_list list;
        ck_assert_int_eq(spans_find(spans, prompt, PROMPT, answer, ANSWER, &list), ERR_OK);
        struct spans_match model[ANSWER];
        uint32_t count = model_cover(prompt, answer, model);
        ck_assert_uint_eq(list.count, count);
        for (uint32_t i = 0; i < list.count; i++) {
            const struct spans_match *match = &list.items[i];
            bool known = false;
            for (uint32_t j = 0; j < count; j++) {
                known =
                    known || (model[j].start == match->start && model[j].length == match->length);
            }
            ck_assert(known);
            uint32_t place = 0;
            for (uint32_t r = 0; r < ROWS; r++) { /* every row that has it, at its first place */
                for (uint32_t at = 0; at < rows[r].count; at++) {
                    if (stands(r, at, answer + match->start, match->length)) {
                        ck_assert_uint_lt(place, match->place_count);
                        ck_assert_uint_eq(match->places[place].row, r);
                        ck_assert_uint_eq(match->places[place].at, at);
                        place++;
                        break;
                    }
                }
            }
            ck_assert_uint_eq(place, match->place_count);
            found++;
        }
        spans_list_deinit(&list);
        spans_destroy(spans);
    }
    ck_assert_uint_gt(found, 60);
}
END_TEST

START_TEST(test_rows_without_text)
{
    uint32_t ids[3] = {1, 2, 3};
    uint8_t none[3] = {0, 0, 0};
    struct lm_example row = {.tokens = ids, .mask = none, .count = 3};
    struct spans *spans = NULL;
    ck_assert_int_eq(spans_create(&row, 1, &spans), ERR_OK);
    uint32_t answer[8] = {1, 2, 3, 1, 2, 3, 1, 2};
    struct spans_list list;
    ck_assert_int_eq(spans_find(spans, ids, 3, answer, 8, &list), ERR_OK);
    ck_assert_uint_eq(list.count, 0);
    spans_list_deinit(&list);
    spans_destroy(spans);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attrib_core");
    TCase *tcase = tcase_create("exact");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, test_known_eigenpairs);
    tcase_add_test(tcase, test_random_matrices_are_rebuilt);
    tcase_add_test(tcase, test_zero_and_non_finite_matrices);
    tcase_add_test(tcase, test_cover_equals_the_model);
    tcase_add_test(tcase, test_rows_without_text);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
