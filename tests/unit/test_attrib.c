/* test_attrib.c - Proof of Attribution on a real model with an adapter trained here.
 *
 * stories260K and random "languages": each contributor's rows are walks over a few tokens of their
 * own, and one contributor's rows hold one fixed sentence. An adapter learns them; then an answer that
 * is the sentence must be credited to that contributor, the same bits come out for any number of
 * threads, and foreign bytes cannot pass for an index. */
#include "shared/attrib/attrib.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/lm/train.h"
#include "shared/platform/file.h"
#include "shared/platform/pool.h"
#include "tests/harness/seed.h"

enum { CONTRIBUTORS = 8, ROWS = 64, ROW_TOKENS = 40, SENTENCE = 14, PROMPT = 6, STEPS = 60 };
enum { PLANTED = 5 }; /* the contributor with the sentence */

static uint32_t tokens[ROWS][ROW_TOKENS];
static uint32_t sentence[SENTENCE];
static struct attrib_row rows[ROWS];
static struct lm_model *model;
static struct lm_adapter *adapter;
static struct pool *pool;

static const char *data_folder(void)
{
    const char *folder = getenv("OPENLEDGER_TEST_DATA");
    return folder != NULL ? folder : "../shared/data";
}

/* For what is done before Check runs, too. */
static void must(bool ok, const struct note *note)
{
    if (!ok) {
        printf("failed: %s\n", note->text);
        abort();
    }
}

static bool load_model(void)
{
    char path[FILE_PATH_SIZE];
    struct buf config;
    struct buf weights;
    struct note note = {""};
    buf_init(&config, 1U << 20);
    buf_init(&weights, 64U << 20);
    bool ok = file_path(path, "%s/stories260K/config.json", data_folder()) == ERR_OK &&
              file_read(path, &config, &note) == ERR_OK &&
              file_path(path, "%s/stories260K/model.safetensors", data_folder()) == ERR_OK &&
              file_read(path, &weights, &note) == ERR_OK;
    if (ok) {
        must(lm_model_load(buf_bytes(&config), buf_bytes(&weights), NULL, &model, &note) == ERR_OK,
             &note);
    }
    buf_deinit(&config);
    buf_deinit(&weights);
    return ok;
}

static void make_rows(void)
{
    for (uint32_t i = 0; i < SENTENCE; i++) {
        sentence[i] = 100 + (uint32_t)(test_rand() % 300);
    }
    for (uint32_t r = 0; r < ROWS; r++) {
        uint32_t who = r % CONTRIBUTORS;
        for (uint32_t i = 0; i < ROW_TOKENS; i++) {
            tokens[r][i] = 20 + 40 * who + (uint32_t)(test_rand() % 30);
        }
        if (who == PLANTED) {
            memcpy(tokens[r] + 4 + r % 16, sentence, sizeof sentence);
        }
        rows[r] = (struct attrib_row){.example = {.tokens = tokens[r], .count = ROW_TOKENS}};
        memset(rows[r].contributor.bytes, (int)(0x80 + who), ACCOUNT_ID_SIZE);
    }
}

static void train(void)
{
    struct lm_train_options options = lm_finetune_defaults();
    options.step_count = STEPS;
    options.learning_rate = 5e-3F;
    struct lm_adapter_config shape = {.rank = 4, .alpha = 8.0F, .targets = LM_TARGETS_ALL};
    struct lm_trainer *trainer = NULL;
    struct note note = {""};
    must(lm_trainer_create_adapter(model, &shape, &options, NULL, &trainer, &note) == ERR_OK,
         &note);
    for (uint32_t step = 0; step < STEPS; step++) {
        struct lm_example batch[8];
        struct lm_step_report report;
        for (uint32_t i = 0; i < 8; i++) {
            batch[i] = rows[(step * 8 + i) % ROWS].example;
        }
        must(lm_trainer_step(trainer, batch, 8, pool_parallel(pool), &report, &note) == ERR_OK,
             &note);
    }
    must(lm_trainer_take_adapter(trainer, &adapter, &note) == ERR_OK, &note);
    lm_trainer_destroy(trainer);
}

static struct attrib_index *build(const struct parallel *parallel)
{
    struct attrib_index *index = NULL;
    struct attrib_source source = {.dataset_root = {{1}}, .profile = {{2}}};
    struct note note = {""};
    const struct attrib_build build = {.model = model,
                                       .adapter = adapter,
                                       .rows = rows,
                                       .row_count = ROWS,
                                       .source = &source,
                                       .parallel = parallel};
    enum err err = attrib_index_build(&build, &index, &note);
    must(err == ERR_OK, &note);
    return index;
}

static void save(const struct attrib_index *index, struct buf *out)
{
    struct note note = {""};
    buf_init(out, ATTRIB_INDEX_MAX);
    must(attrib_index_save(index, out) == ERR_OK, &note);
}

/* The planted question: a prompt in the contributor's language, the sentence as the answer. */
static struct attrib_question planted_question(void)
{
    static uint32_t prompt[PROMPT];
    for (uint32_t i = 0; i < PROMPT; i++) {
        prompt[i] = 20 + 40 * PLANTED + i;
    }
    return (struct attrib_question){prompt, PROMPT, sentence, SENTENCE};
}

static void assert_whole(const struct attrib_result *result)
{
    uint64_t sum = result->unearned_ppb;
    for (uint32_t i = 0; i < result->share_count; i++) {
        const struct attrib_share *share = &result->shares[i];
        ck_assert_uint_ge(share->share_ppb, 1);
        ck_assert_uint_eq(share->share_ppb, share->influence_ppb + share->span_ppb);
        ck_assert(i == 0 ||
                  account_id_compare(&result->shares[i - 1].account, &share->account) < 0);
        sum += share->share_ppb;
    }
    ck_assert_uint_eq(sum, ATTRIB_WHOLE_PPB);
}

START_TEST(test_planted_sentence_is_credited)
{
    struct attrib_index *index = build(pool_parallel(pool));
    struct attrib_question question = planted_question();
    struct attrib_measure *measure = NULL;
    struct attrib_result result;
    struct note note = {""};
    ck_assert_int_eq(attrib_measure_create(index, model, adapter, &question, pool_parallel(pool),
                                           &measure, &note),
                     ERR_OK);
    ck_assert_int_eq(attrib_divide(index, measure, &result), ERR_OK);
    assert_whole(&result);
    const struct attrib_share *best = NULL;
    for (uint32_t i = 0; i < result.share_count; i++) {
        if (best == NULL || result.shares[i].share_ppb > best->share_ppb) {
            best = &result.shares[i];
        }
    }
    ck_assert_ptr_nonnull(best);
    ck_assert_mem_eq(&best->account, &rows[PLANTED].contributor, ACCOUNT_ID_SIZE);
    ck_assert_uint_eq(best->span_ppb, ATTRIB_WHOLE_PPB / 2); /* every token, one contributor */
    ck_assert_uint_gt(best->influence_ppb, ATTRIB_WHOLE_PPB / 5);
    ck_assert_uint_eq(result.evidence[0].row % CONTRIBUTORS, PLANTED);
    ck_assert_uint_eq(result.evidence[0].span_length, SENTENCE);
    uint32_t row = result.evidence[0].row;
    ck_assert_mem_eq(tokens[row] + result.evidence[0].span_row_at, sentence, sizeof sentence);
    struct attrib_control control;
    ck_assert_int_eq(
        attrib_shuffle_control(index, measure, &rows[PLANTED].contributor, 50, &control), ERR_OK);
    ck_assert_uint_eq(control.share_ppb, best->share_ppb);
    ck_assert_uint_lt(control.shuffled_share_ppb, ATTRIB_WHOLE_PPB / 8); /* chance: 1 of 8 */
    printf("planted share %.3f (influence %.3f), shuffled %.3f\n", best->share_ppb / 1e9,
           best->influence_ppb / 1e9, control.shuffled_share_ppb / 1e9);
    attrib_result_deinit(&result);
    attrib_measure_destroy(measure);
    attrib_index_destroy(index);
}
END_TEST

START_TEST(test_unrelated_answer_earns_little)
{
    struct attrib_index *index = build(pool_parallel(pool));
    uint32_t prompt[2] = {1, 403};
    uint32_t answer[20];
    for (uint32_t i = 0; i < 20; i++) {
        answer[i] = 360 + (uint32_t)(test_rand() % 140);
    }
    struct attrib_question question = {prompt, 2, answer, 20};
    struct attrib_result result;
    struct note note = {""};
    ck_assert_int_eq(
        attrib_shares(index, model, adapter, &question, pool_parallel(pool), &result, &note),
        ERR_OK);
    assert_whole(&result);
    printf("unrelated answer: unearned %.3f\n", result.unearned_ppb / 1e9);
    ck_assert_uint_gt(result.unearned_ppb, ATTRIB_WHOLE_PPB / 10 * 9);
    attrib_result_deinit(&result);
    attrib_index_destroy(index);
}
END_TEST

START_TEST(test_same_bits_for_any_threads_and_after_loading)
{
    struct attrib_index *one = build(&parallel_serial);
    struct attrib_index *many = build(pool_parallel(pool));
    struct attrib_index *loaded = NULL;
    struct buf a;
    struct buf b;
    struct buf c;
    struct note note = {""};
    save(one, &a);
    save(many, &b);
    ck_assert(bytes_equal(buf_bytes(&a), buf_bytes(&b)));
    ck_assert_int_eq(attrib_index_load(buf_bytes(&a), &loaded, &note), ERR_OK);
    save(loaded, &c);
    ck_assert(bytes_equal(buf_bytes(&a), buf_bytes(&c)));
    struct attrib_question question = planted_question();
    struct attrib_result x;
    struct attrib_result y;
    ck_assert_int_eq(attrib_shares(one, model, adapter, &question, &parallel_serial, &x, &note),
                     ERR_OK);
    ck_assert_int_eq(
        attrib_shares(loaded, model, adapter, &question, pool_parallel(pool), &y, &note), ERR_OK);
    ck_assert_uint_eq(x.share_count, y.share_count);
    ck_assert_mem_eq(x.shares, y.shares, x.share_count * sizeof *x.shares);
    ck_assert_mem_eq(x.evidence, y.evidence, sizeof x.evidence);
    attrib_result_deinit(&x);
    attrib_result_deinit(&y);
    attrib_index_destroy(one);
    attrib_index_destroy(many);
    attrib_index_destroy(loaded);
    buf_deinit(&a);
    buf_deinit(&b);
    buf_deinit(&c);
}
END_TEST

START_TEST(test_hostile_indexes)
{
    struct attrib_index *index = build(pool_parallel(pool));
    struct buf good;
    struct note note = {""};
    save(index, &good);
    for (uint32_t round = 0; round < 300; round++) {
        struct buf bad;
        buf_init(&bad, ATTRIB_INDEX_MAX);
        (void)buf_append_bytes(&bad, buf_bytes(&good));
        if (round % 3 == 0) { /* cut anywhere, often in the header */
            buf_truncate(&bad, test_rand() % (round % 2 == 0 ? 400 : bad.size));
        } else {
            size_t reach = round % 2 == 0 ? 300 : bad.size;
            for (uint32_t i = 0; i < 4; i++) {
                bad.data[test_rand() % reach] = (uint8_t)test_rand();
            }
        }
        /* hand over an exact allocation, so that the sanitizer sees one byte too many */
        uint8_t *exact = malloc(bad.size + 1);
        ck_assert_ptr_nonnull(exact);
        memcpy(exact, bad.data, bad.size);
        struct attrib_index *loaded = NULL;
        enum err err = attrib_index_load(bytes_of(exact, bad.size), &loaded, &note);
        ck_assert(err == ERR_OK || err == ERR_INVALID);
        if (err == ERR_OK) { /* damaged numbers may pass; they must not do harm */
            struct attrib_question question = planted_question();
            struct attrib_result result;
            err =
                attrib_shares(loaded, model, adapter, &question, &parallel_serial, &result, &note);
            if (err == ERR_OK) {
                assert_whole(&result);
                attrib_result_deinit(&result);
            }
        }
        attrib_index_destroy(loaded);
        free(exact);
        buf_deinit(&bad);
    }
    buf_deinit(&good);
    attrib_index_destroy(index);
}
END_TEST

START_TEST(test_bad_questions)
{
    struct attrib_index *index = build(pool_parallel(pool));
    struct attrib_question good = planted_question();
    struct attrib_result result;
    struct note note = {""};
    struct attrib_question question = good;
    question.answer_count = 0;
    ck_assert_int_eq(
        attrib_shares(index, model, adapter, &question, &parallel_serial, &result, &note),
        ERR_RANGE);
    uint32_t outside[2] = {1, 1000000};
    question = good;
    question.answer = outside;
    question.answer_count = 2;
    ck_assert_int_eq(
        attrib_shares(index, model, adapter, &question, &parallel_serial, &result, &note),
        ERR_RANGE);
    struct lm_adapter *other = NULL;
    uint64_t size = lm_adapter_size(lm_model_config(model), lm_adapter_get_config(adapter));
    float *vector = calloc(size, sizeof *vector);
    ck_assert_int_eq(
        lm_adapter_create(model, lm_adapter_get_config(adapter), vector, &other, &note), ERR_OK);
    ck_assert_int_eq(attrib_shares(index, model, other, &good, &parallel_serial, &result, &note),
                     ERR_INVALID);
    free(vector);
    lm_adapter_destroy(other);
    attrib_index_destroy(index);
}
END_TEST

int main(void)
{
    if (!load_model()) {
        printf("SKIP: no stories260K in %s\n", data_folder());
        return EXIT_SUCCESS;
    }
    pool = pool_create(2);
    make_rows();
    train();
    Suite *suite = suite_create("attrib");
    TCase *tcase = tcase_create("shares");
    tcase_set_timeout(tcase, 180);
    tcase_add_test(tcase, test_planted_sentence_is_credited);
    tcase_add_test(tcase, test_unrelated_answer_earns_little);
    tcase_add_test(tcase, test_same_bits_for_any_threads_and_after_loading);
    tcase_add_test(tcase, test_hostile_indexes);
    tcase_add_test(tcase, test_bad_questions);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK); /* the pool's threads do not survive a fork */
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    lm_adapter_destroy(adapter);
    lm_model_destroy(model);
    pool_destroy(pool);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
