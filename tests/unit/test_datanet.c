/* test_datanet.c - the datanet's domain: which rows are duplicates, and of which earlier row; versions.
 *
 * Method: rules on hand-made rows; then random rows against a model that compares every pair of
 * shingle sets the slow obvious way. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/datanet/datanet.h"
#include "services/datanet/dedupe.h"
#include "tests/harness/folder.h"
#include "tests/harness/ledger_world.h"
#include "tests/harness/seed.h"

static bool counts_all(void *context, uint32_t contribution)
{
    (void)context;
    (void)contribution;
    return true;
}

static bool counts_not(void *context, uint32_t contribution)
{
    return contribution != *(const uint32_t *)context;
}

static const struct dedupe_filter all = {.counts = counts_all};

static struct bytes text_of(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

static struct dedupe_result find(const struct dedupe *dedupe, uint64_t priority, const char *text)
{
    struct dedupe_result result;
    struct dedupe_row row = {.priority = priority, .contribution = 99};
    ck_assert_uint_eq(dedupe_find(dedupe, row, text_of(text), all, &result), ERR_OK);
    return result;
}

static void add(struct dedupe *dedupe, uint64_t priority, uint32_t row, const char *text)
{
    struct dedupe_row place = {
        .priority = priority, .contribution = (uint32_t)priority, .row = row};
    ck_assert_uint_eq(dedupe_add(dedupe, place, text_of(text)), ERR_OK);
}

static const char *const LONG_TEXT =
    "The harbour master wrote in his log that the ship had come in before the tide turned, with "
    "all "
    "hands safe, and that the cargo of salt and timber was sound and dry in the hold below.";
static const char *const LONG_TEXT_EDITED =
    "The harbour master wrote in his log that the ship had come in before the tide turned, with "
    "all "
    "hands safe, and that the cargo of salt and timber was sound and dry in the hold beneath.";

START_TEST(test_exact_ignores_case_space_and_punctuation)
{
    struct dedupe *dedupe = dedupe_create();
    add(dedupe, 5, 3, "Call me Ishmael. Some years ago");
    struct dedupe_result result = find(dedupe, 9, "call me   ISHMAEL, some years ago!");
    ck_assert_int_eq(result.verdict, DEDUPE_EXACT);
    ck_assert_uint_eq(result.of.priority, 5);
    ck_assert_uint_eq(result.of.row, 3);
    ck_assert_int_eq(find(dedupe, 9, "Call me Ahab. Some years ago").verdict, DEDUPE_UNIQUE);
    dedupe_destroy(dedupe);
}
END_TEST

START_TEST(test_near_is_found_and_far_is_not)
{
    struct dedupe *dedupe = dedupe_create();
    add(dedupe, 5, 0, LONG_TEXT);
    struct dedupe_result result = find(dedupe, 9, LONG_TEXT_EDITED);
    ck_assert_int_eq(result.verdict, DEDUPE_NEAR);
    ck_assert_uint_ge(result.similarity_bp, DEDUPE_NEAR_BP);
    ck_assert_uint_lt(result.similarity_bp, 10000);
    ck_assert_int_eq(find(dedupe, 9, "The harbour master wrote nothing at all that day.").verdict,
                     DEDUPE_UNIQUE);
    dedupe_destroy(dedupe);
}
END_TEST

/* The log's order decides, whatever order the rows arrived in. */
START_TEST(test_priority_not_arrival_decides)
{
    struct dedupe *dedupe = dedupe_create();
    add(dedupe, 20, 0, LONG_TEXT);
    ck_assert_int_eq(find(dedupe, 10, LONG_TEXT).verdict, DEDUPE_UNIQUE);
    add(dedupe, 10, 0, LONG_TEXT);
    ck_assert_uint_eq(find(dedupe, 30, LONG_TEXT).of.priority, 10);
    ck_assert_uint_eq(find(dedupe, 20, LONG_TEXT).of.priority, 10);
    dedupe_destroy(dedupe);
}
END_TEST

START_TEST(test_filter_hides_rejected_contributions)
{
    struct dedupe *dedupe = dedupe_create();
    add(dedupe, 5, 0, LONG_TEXT);
    uint32_t hidden = 5;
    struct dedupe_filter filter = {.counts = counts_not, .context = &hidden};
    struct dedupe_result result;
    struct dedupe_row row = {.priority = 9};
    ck_assert_uint_eq(dedupe_find(dedupe, row, text_of(LONG_TEXT), filter, &result), ERR_OK);
    ck_assert_int_eq(result.verdict, DEDUPE_UNIQUE);
    dedupe_destroy(dedupe);
}
END_TEST

START_TEST(test_empty_texts_are_equal)
{
    struct dedupe *dedupe = dedupe_create();
    ck_assert_int_eq(find(dedupe, 1, "").verdict, DEDUPE_UNIQUE);
    add(dedupe, 1, 0, "");
    ck_assert_int_eq(find(dedupe, 2, " ... ").verdict, DEDUPE_EXACT);
    dedupe_destroy(dedupe);
}
END_TEST

enum { MODEL_ROWS = 600, MODEL_WORDS = 40, SHINGLES = MODEL_WORDS - 4 };

/* Word sequences; a third of the rows are edits of an earlier one. */
static uint8_t words[MODEL_ROWS][MODEL_WORDS];

static void model_text(uint32_t row, char *out, size_t out_size)
{
    size_t used = 0;
    for (uint32_t i = 0; i < MODEL_WORDS; i++) {
        int size = snprintf(out + used, out_size - used, "w%u ", words[row][i]);
        used += (size_t)size;
    }
}

/* True if one of the first `count` shingles of row a is shingle i of row b. */
static bool model_has(uint32_t a, uint32_t count, uint32_t b, uint32_t i)
{
    for (uint32_t k = 0; k < count; k++) {
        if (memcmp(&words[a][k], &words[b][i], 5) == 0) {
            return true;
        }
    }
    return false;
}

static uint32_t model_similarity_bp(uint32_t a, uint32_t b)
{
    uint32_t both = 0;
    uint32_t either = 0;
    for (uint32_t i = 0; i < SHINGLES; i++) {
        bool first = !model_has(a, i, a, i);
        bool in_b = model_has(b, SHINGLES, a, i);
        both += first && in_b;
        either += first;
        either += !model_has(b, i, b, i) && !model_has(a, SHINGLES, b, i);
    }
    return both * 10000 / either;
}

START_TEST(test_random_rows_match_the_model)
{
    struct dedupe *dedupe = dedupe_create();
    uint32_t missed = 0;
    uint32_t duplicates = 0;
    for (uint32_t row = 0; row < MODEL_ROWS; row++) {
        for (uint32_t i = 0; i < MODEL_WORDS; i++) {
            words[row][i] = (uint8_t)(test_rand() % 250);
        }
        if (row > 0 && test_rand() % 3 == 0) {
            memcpy(words[row], words[test_rand() % row], MODEL_WORDS);
            words[row][test_rand() % 6] = (uint8_t)(test_rand() % 250);
        }
        char text[MODEL_WORDS * 6];
        model_text(row, text, sizeof text);
        struct dedupe_result result = find(dedupe, row + 1, text);
        bool expected = false;
        for (uint32_t k = 0; k < row && !expected; k++) {
            expected = model_similarity_bp(k, row) >= DEDUPE_NEAR_BP;
        }
        /* MinHash may miss (0.02 % at the threshold), but never invents. */
        ck_assert(expected || result.verdict == DEDUPE_UNIQUE);
        duplicates += expected;
        missed += expected && result.verdict == DEDUPE_UNIQUE;
        add(dedupe, row + 1, 0, text);
    }
    ck_assert_uint_gt(duplicates, MODEL_ROWS / 5);
    ck_assert_uint_le(missed, duplicates / 100);
    dedupe_destroy(dedupe);
}
END_TEST

/* ---- versions ---------------------------------------------------------------------------------- */

static enum err nothing_uploaded(void *context, const struct digest *contribution,
                                 struct digest *out_content)
{
    (void)context;
    (void)contribution;
    (void)out_content;
    return ERR_NOT_FOUND;
}

START_TEST(test_no_version_without_accepted_rows)
{
    struct note note = {""};
    struct blob_store *blobs = NULL;
    struct world *world = world_create();
    struct arena *arena = arena_create(1U << 20);
    Openledger__V1__PublishVersion *version = NULL;
    Openledger__V1__CreateDatanet create = OPENLEDGER__V1__CREATE_DATANET__INIT;
    create.name = world_text("empty");
    create.title = world_text("Empty");
    create.licence = world_text("MIT");
    create.permission = OPENLEDGER__V1__PERMISSION__PERMISSION_ALLOWED;
    WORLD_ACTION(body, CREATE_DATANET, create_datanet, &create);
    ck_assert_int_eq(world_try(world, WORLD_OWNER, &body), ERR_OK);
    ck_assert_int_eq(blob_open(test_path("blobs"), &blobs, &note), ERR_OK);
    struct datanet *datanet =
        datanet_create(blobs, (struct datanet_uploads){.content = nothing_uploaded});
    ck_assert_int_eq(
        datanet_prepare_version(datanet, world->ledger, "empty", arena, &version, &note),
        ERR_NOT_FOUND);
    ck_assert_str_eq(note.text, "datanet 'empty' has no accepted rows");
    ck_assert_ptr_null(version);
    ck_assert_int_eq(
        datanet_prepare_version(datanet, world->ledger, "absent", arena, &version, &note),
        ERR_NOT_FOUND);
    ck_assert_str_eq(note.text, "no datanet 'absent'");
    datanet_destroy(datanet);
    blob_close(blobs);
    arena_destroy(arena);
    world_destroy(world);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("datanet");
    TCase *rules = tcase_create("dedupe");
    tcase_add_test(rules, test_exact_ignores_case_space_and_punctuation);
    tcase_add_test(rules, test_near_is_found_and_far_is_not);
    tcase_add_test(rules, test_priority_not_arrival_decides);
    tcase_add_test(rules, test_filter_hides_rejected_contributions);
    tcase_add_test(rules, test_empty_texts_are_equal);
    tcase_add_test(rules, test_random_rows_match_the_model);
    tcase_set_timeout(rules, 60);
    suite_add_tcase(suite, rules);
    TCase *versions = tcase_create("versions");
    tcase_add_checked_fixture(versions, test_folder_make, test_folder_remove);
    tcase_add_test(versions, test_no_version_without_accepted_rows);
    suite_add_tcase(suite, versions);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
