/* test_lm_architectures.c - every architecture against a forward pass written in double. */
#include "shared/lm/session.h"
#include "shared/lm/trainer.h"
#include "tests/harness/lm_random.h"

enum { ROWS = 80 };

/* Logits after each token, fed one by one through the cache. The batch has no row to spare: what is
 * written past the end of one of its parts lands in another that is in use. */
/* NOLINTNEXTLINE(readability-non-const-parameter): goes into a step */
static void run(const struct lm_model *model, const uint32_t *tokens, float *out)
{
    struct lm_session *session = NULL;
    struct lm_batch *batch = NULL;
    uint32_t vocab = lm_model_config(model)->vocab;
    ck_assert_int_eq(lm_session_create(model, ROWS, &session), ERR_OK);
    ck_assert_int_eq(lm_batch_create(model, 1, &batch), ERR_OK);
    for (uint32_t t = 0; t < ROWS; t++) {
        struct lm_step step = {.session = session,
                               .tokens = tokens + t,
                               .token_count = 1,
                               .out_logits = out + (size_t)t * vocab};
        ck_assert_int_eq(lm_batch_step(batch, &step, 1, &parallel_serial, NULL), ERR_OK);
    }
    lm_batch_destroy(batch);
    lm_session_destroy(session);
}

START_TEST(test_logits_match_the_plain_forward)
{
    struct lm_config config = random_config((uint32_t)_i);
    struct random_model random;
    random_model_make(&random, &config);
    struct lm_model *model = random_model_load(&random, NULL);
    uint32_t tokens[ROWS];
    fixture_tokens(4, config.vocab, ROWS, tokens);
    float *got = calloc((size_t)ROWS * config.vocab, sizeof *got);
    double *want = calloc((size_t)ROWS * config.vocab, sizeof *want);
    ck_assert(got != NULL && want != NULL);
    run(model, tokens, got);
    plain_forward(&random, tokens, ROWS, want);
    double spread = 0.0;
    for (size_t i = 0; i < (size_t)ROWS * config.vocab; i++) {
        spread = fmax(spread, fabs(want[i]));
        ck_assert_msg(fabs((double)got[i] - want[i]) <= 2e-4 + 2e-5 * fabs(want[i]),
                      "row %zu, token %zu: %g, plainly %g", i / config.vocab, i % config.vocab,
                      (double)got[i], want[i]);
    }
    ck_assert(spread > 1.0); /* the comparison was of something */
    free(got);
    free(want);
    lm_model_destroy(model);
    random_model_free(&random);
}
END_TEST

/* All weights of an architecture whose gradients we do not make are refused, adapters are not. */
START_TEST(test_what_can_be_trained)
{
    struct lm_config config = random_config((uint32_t)_i);
    struct lm_train_options options = lm_pretrain_defaults();
    struct lm_trainer *trainer = NULL;
    struct note note = {0};
    bool whole = config.architecture == LM_LLAMA || config.architecture == LM_MISTRAL;
    enum err err = lm_trainer_create_full(&config, &options, NULL, &trainer, &note);
    ck_assert_int_eq(err, whole ? ERR_OK : ERR_INVALID);
    ck_assert(whole || strstr(note.text, "qwen") != NULL);
    lm_trainer_destroy(trainer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lm_architectures");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 120);
    tcase_add_loop_test(rules, test_logits_match_the_plain_forward, 0, RANDOM_VARIANTS);
    tcase_add_loop_test(rules, test_what_can_be_trained, 0, RANDOM_VARIANTS);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
