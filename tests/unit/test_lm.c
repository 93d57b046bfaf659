/* test_lm.c - a real model's golden logits, the same bits however a text is run, and sampling. */
#include "shared/lm/gradient.h"

#include <math.h>

#include "shared/json/json.h"
#include "shared/lm/sample.h"
#include "shared/lm/session.h"
#include "shared/platform/pool.h"
#include "shared/token/tokenizer.h"
#include "tests/harness/lm_fixture.h"

enum { GOLDEN_COUNT = 21, GOLDEN_VOCAB = 512 };

/* ---- the golden model ---- */

static struct lm_model *golden_model(void)
{
    struct buf config;
    struct buf weights;
    struct lm_model *model = NULL;
    struct note note = {0};
    if (fixture_file("stories260K/config.json", &config) &&
        fixture_file("stories260K/model.safetensors", &weights)) {
        enum err err = lm_model_load(buf_bytes(&config), buf_bytes(&weights), NULL, &model, &note);
        ck_assert_msg(err == ERR_OK, "%s", note.text);
        buf_deinit(&weights);
    }
    buf_deinit(&config);
    return model;
}

static void golden_ids(uint32_t out[GOLDEN_COUNT])
{
    struct buf text;
    struct json *root = NULL;
    ck_assert(fixture_file("stories260K/golden.json", &text));
    ck_assert_int_eq(json_parse(buf_bytes(&text), 65536, &root, NULL), ERR_OK);
    const struct json *ids = json_member(root, "ids");
    ck_assert_uint_eq(json_count(ids), GOLDEN_COUNT);
    for (size_t i = 0; i < GOLDEN_COUNT; i++) {
        out[i] = (uint32_t)json_as_i64(json_item(ids, i), 0);
    }
    json_destroy(root);
    buf_deinit(&text);
}

START_TEST(test_golden_logits_and_greedy_text)
{
    struct lm_model *model = golden_model();
    if (model == NULL) {
        return;
    }
    uint32_t ids[GOLDEN_COUNT];
    golden_ids(ids);
    struct buf golden;
    ck_assert(fixture_file("stories260K/golden_logits.f32", &golden));
    ck_assert_uint_eq(golden.size, sizeof(float) * GOLDEN_COUNT * GOLDEN_VOCAB);
    struct lm_session *session = NULL;
    struct lm_batch *batch = NULL;
    struct lm_sampler *sampler = NULL;
    ck_assert_int_eq(lm_session_create(model, 64, &session), ERR_OK);
    ck_assert_int_eq(lm_batch_create(model, 4, &batch), ERR_OK);
    ck_assert_int_eq(lm_sampler_create(NULL, GOLDEN_VOCAB, &sampler), ERR_OK);
    struct lm_sampling greedy = {.temperature = 0.0F, .top_p = 1.0F};
    uint32_t made[GOLDEN_COUNT];
    for (uint32_t t = 0; t < GOLDEN_COUNT; t++) {
        float logits[GOLDEN_VOCAB] = {0};
        struct lm_step step = {
            .session = session, .tokens = &ids[t], .token_count = 1, .out_logits = logits};
        ck_assert_int_eq(lm_batch_step(batch, &step, 1, &parallel_serial, NULL), ERR_OK);
        for (uint32_t i = 0; i < GOLDEN_VOCAB; i++) {
            float want;
            memcpy(&want, golden.data + sizeof want * (t * GOLDEN_VOCAB + i), sizeof want);
            ck_assert(fabsf(logits[i] - want) <= 1e-4F);
        }
        ck_assert_int_eq(lm_sample(sampler, &greedy, logits, t, &made[t], NULL), ERR_OK);
        ck_assert(t + 1 == GOLDEN_COUNT || made[t] == ids[t + 1]);
    }
    struct buf file;
    struct buf text;
    struct lm_tokenizer *tokenizer = NULL;
    ck_assert(fixture_file("stories260K/tokenizer.json", &file));
    ck_assert_int_eq(lm_tokenizer_load(buf_bytes(&file), &tokenizer, NULL), ERR_OK);
    buf_init(&text, 4096);
    ck_assert_int_eq(lm_tokenizer_decode(tokenizer, made, GOLDEN_COUNT - 1, false, &text), ERR_OK);
    static const char STORY[] = "Once upon a time, there was a little girl named Lily.";
    ck_assert(strncmp(buf_text(&text), STORY, strlen(STORY)) == 0);
    buf_deinit(&text);
    buf_deinit(&file);
    buf_deinit(&golden);
    lm_tokenizer_destroy(tokenizer);
    lm_sampler_destroy(sampler);
    lm_batch_destroy(batch);
    lm_session_destroy(session);
    lm_model_destroy(model);
}
END_TEST

/* ---- the same bits ---- */

enum { LONG = 290, VOCAB = 67 };

static void run_chunks(const struct lm_model *model, const struct lm_adapter *adapter,
                       /* NOLINTNEXTLINE(readability-non-const-parameter): goes into a step */
                       const uint32_t *tokens, uint32_t count, uint32_t chunk, float *out)
{
    struct lm_session *session = NULL;
    struct lm_batch *batch = NULL;
    ck_assert_int_eq(lm_session_create(model, FIXTURE_CONTEXT, &session), ERR_OK);
    ck_assert_int_eq(lm_batch_create(model, FIXTURE_CONTEXT, &batch), ERR_OK);
    for (uint32_t at = 0; at < count; at += chunk) {
        uint32_t now = count - at < chunk ? count - at : chunk;
        struct lm_step step = {.session = session,
                               .adapter = adapter,
                               .tokens = tokens + at,
                               .token_count = now,
                               .out_logits = out};
        ck_assert_int_eq(lm_batch_step(batch, &step, 1, &parallel_serial, NULL), ERR_OK);
    }
    ck_assert_uint_eq(lm_session_length(session), count);
    lm_batch_destroy(batch);
    lm_session_destroy(session);
}

START_TEST(test_chunks_and_cache_do_not_show)
{
    struct lm_model *model = fixture_model(NULL);
    struct lm_adapter *adapter = fixture_adapter(model, 3, LM_TARGETS_ALL, 5);
    uint32_t tokens[LONG];
    fixture_tokens(9, VOCAB, LONG, tokens);
    float whole[VOCAB];
    run_chunks(model, adapter, tokens, LONG, LONG, whole);
    static const uint32_t CHUNKS[] = {1, 7, 64, 255, 256, 257};
    for (size_t i = 0; i < sizeof CHUNKS / sizeof CHUNKS[0]; i++) {
        float logits[VOCAB];
        run_chunks(model, adapter, tokens, LONG, CHUNKS[i], logits);
        ck_assert_mem_eq(logits, whole, sizeof whole);
    }
    /* The training forward gives the very same probability. */
    uint32_t longer[LONG + 1];
    memcpy(longer, tokens, sizeof tokens);
    longer[LONG] = 11;
    float nll[LONG + 1] = {0};
    float *rows[1] = {nll};
    struct lm_example example = {.tokens = longer, .count = LONG + 1};
    struct lm_loss loss;
    ck_assert_int_eq(lm_losses(model, adapter, &example, 1, &parallel_serial, &loss, rows, NULL),
                     ERR_OK);
    struct lm_sampler *sampler = NULL;
    float logprob = 0.0F;
    ck_assert_int_eq(lm_sampler_create(NULL, VOCAB, &sampler), ERR_OK);
    ck_assert_int_eq(lm_logprob(sampler, whole, 11, &logprob), ERR_OK);
    ck_assert(logprob == -nll[LONG]);
    ck_assert_uint_eq(loss.count, LONG);
    lm_sampler_destroy(sampler);
    lm_adapter_destroy(adapter);
    lm_model_destroy(model);
}
END_TEST

START_TEST(test_company_in_the_batch_does_not_show)
{
    enum { COUNT = 6 };
    struct lm_model *model = fixture_model(NULL);
    struct lm_adapter *a = fixture_adapter(model, 3, LM_TARGETS_ALL, 1);
    struct lm_adapter *b = fixture_adapter(model, 16, 1U << LM_Q | 1U << LM_DOWN, 2);
    const struct lm_adapter *adapters[COUNT] = {a, NULL, b, b, a, NULL};
    /* More than LM_PART_ROWS for each of 3 workers: parts end within the texts, and run beside each other. */
    const uint32_t lengths[COUNT] = {67, 1, 120, 3, 133, 90};
    struct pool *pool = pool_create(3);
    struct lm_session *sessions[COUNT];
    struct lm_step steps[COUNT];
    uint32_t tokens[COUNT][LONG];
    float together[COUNT][VOCAB];
    struct lm_batch *batch = NULL;
    ck_assert_ptr_nonnull(pool);
    ck_assert_int_eq(lm_batch_create(model, 414, &batch), ERR_OK);
    for (uint32_t i = 0; i < COUNT; i++) {
        fixture_tokens(100 + i, VOCAB, LONG, tokens[i]);
        ck_assert_int_eq(lm_session_create(model, FIXTURE_CONTEXT, &sessions[i]), ERR_OK);
        steps[i] = (struct lm_step){.session = sessions[i],
                                    .adapter = adapters[i],
                                    .tokens = tokens[i],
                                    .token_count = lengths[i],
                                    .out_logits = together[i]};
    }
    float alone[COUNT][VOCAB];
    for (uint32_t i = 0; i < COUNT; i++) {
        run_chunks(model, adapters[i], tokens[i], lengths[i], 60, alone[i]);
    }
    for (int again = 0; again < 20; again++) { /* how the workers meet is luck */
        for (uint32_t i = 0; i < COUNT; i++) {
            lm_session_truncate(sessions[i], 0);
        }
        ck_assert_int_eq(lm_batch_step(batch, steps, COUNT, pool_parallel(pool), NULL), ERR_OK);
        ck_assert_mem_eq(alone, together, sizeof alone);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        steps[i].tokens = tokens[i] + lengths[i];
        steps[i].token_count = i % 2 + 1;
    }
    ck_assert_int_eq(lm_batch_step(batch, steps, COUNT, pool_parallel(pool), NULL), ERR_OK);
    for (uint32_t i = 0; i < COUNT; i++) {
        run_chunks(model, adapters[i], tokens[i], lengths[i] + i % 2 + 1, 5, alone[i]);
        ck_assert_mem_eq(alone[i], together[i], sizeof alone[i]);
        lm_session_destroy(sessions[i]);
    }
    pool_destroy(pool);
    lm_batch_destroy(batch);
    lm_adapter_destroy(a);
    lm_adapter_destroy(b);
    lm_model_destroy(model);
}
END_TEST

/* Panels of 16 bits serve values that are bf16's, panels of fp32 all others: the same bits. The one number that
 * is not bf16's meets only zeros in B. */
START_TEST(test_type_of_panels_does_not_show)
{
    enum { RANK = 3 };
    struct lm_model *model = fixture_model(NULL);
    struct lm_adapter *made = fixture_adapter(model, RANK, LM_TARGETS_ALL, 5);
    const struct lm_adapter_config *config = lm_adapter_get_config(made);
    const uint64_t size = lm_adapter_size(lm_model_config(model), config);
    float *vector = malloc(size * sizeof *vector);
    struct lm_adapter *narrow = NULL;
    struct lm_adapter *wide = NULL;
    struct lm_adapter_place place;
    ck_assert_ptr_nonnull(vector);
    memcpy(vector, lm_adapter_vector(made), size * sizeof *vector);
    ck_assert(lm_adapter_offset(lm_model_config(model), config, 1, LM_UP, &place));
    for (uint32_t i = 0; i < place.out; i++) {
        vector[place.b_offset + (uint64_t)i * RANK] = 0.0F;
    }
    ck_assert_int_eq(lm_adapter_create(model, config, vector, &narrow, NULL), ERR_OK);
    vector[place.a_offset] = 0x1.000002p-4F;
    ck_assert_int_eq(lm_adapter_create(model, config, vector, &wide, NULL), ERR_OK);
    ck_assert_uint_lt(lm_adapter_memory(narrow), lm_adapter_memory(wide));
    ck_assert_mem_eq(lm_adapter_vector(wide), vector, size * sizeof *vector);
    uint32_t tokens[LONG];
    fixture_tokens(9, VOCAB, LONG, tokens);
    for (uint32_t chunk = 1; chunk <= LONG; chunk = chunk * 5 + 1) { /* few rows, many rows */
        float of_narrow[VOCAB];
        float of_wide[VOCAB];
        run_chunks(model, narrow, tokens, LONG, chunk, of_narrow);
        run_chunks(model, wide, tokens, LONG, chunk, of_wide);
        ck_assert_mem_eq(of_narrow, of_wide, sizeof of_wide);
    }
    free(vector);
    lm_adapter_destroy(made);
    lm_adapter_destroy(narrow);
    lm_adapter_destroy(wide);
    lm_model_destroy(model);
}
END_TEST

/* A forgotten tail leaves no trace. */
START_TEST(test_truncated_session_goes_on)
{
    struct lm_model *model = fixture_model(NULL);
    struct lm_session *session = NULL;
    struct lm_batch *batch = NULL;
    uint32_t tokens[30];
    float first[VOCAB];
    float again[VOCAB];
    fixture_tokens(3, VOCAB, 30, tokens);
    ck_assert_int_eq(lm_session_create(model, 30, &session), ERR_OK);
    ck_assert_int_eq(lm_batch_create(model, 30, &batch), ERR_OK);
    struct lm_step step = {
        .session = session, .tokens = tokens, .token_count = 30, .out_logits = first};
    ck_assert_int_eq(lm_batch_step(batch, &step, 1, &parallel_serial, NULL), ERR_OK);
    ck_assert_int_eq(lm_batch_step(batch, &step, 1, &parallel_serial, NULL), ERR_RANGE);
    ck_assert_uint_eq(lm_session_length(session), 30);
    lm_session_truncate(session, 12);
    step = (struct lm_step){
        .session = session, .tokens = tokens + 12, .token_count = 18, .out_logits = again};
    ck_assert_int_eq(lm_batch_step(batch, &step, 1, &parallel_serial, NULL), ERR_OK);
    ck_assert_mem_eq(first, again, sizeof first);
    uint32_t bad = VOCAB;
    lm_session_truncate(session, 0);
    step.tokens = &bad;
    step.token_count = 1;
    ck_assert_int_eq(lm_batch_step(batch, &step, 1, &parallel_serial, NULL), ERR_RANGE);
    lm_batch_destroy(batch);
    lm_session_destroy(session);
    lm_model_destroy(model);
}
END_TEST

/* ---- sampling ---- */

START_TEST(test_sampling_follows_its_distribution)
{
    enum { COUNT = 5, DRAWS = 20000 };
    const float logits[COUNT] = {0.0F, 2.0F, 1.0F, 2.0F, -50.0F};
    struct lm_sampler *sampler = NULL;
    ck_assert_int_eq(lm_sampler_create(NULL, COUNT, &sampler), ERR_OK);
    struct lm_sampling sampling = {.temperature = 1.0F, .top_p = 1.0F, .seed = 4};
    uint32_t seen[COUNT] = {0};
    for (uint64_t i = 0; i < DRAWS; i++) {
        uint32_t token = COUNT;
        ck_assert_int_eq(lm_sample(sampler, &sampling, logits, i, &token, NULL), ERR_OK);
        ck_assert_uint_lt(token, COUNT);
        seen[token]++;
    }
    double total = 1.0 + 2.0 * exp(2.0) + exp(1.0);
    for (uint32_t i = 0; i < COUNT; i++) {
        double want = exp((double)logits[i]) / total;
        ck_assert(fabs((double)seen[i] / DRAWS - want) < 0.015);
    }
    sampling.top_k = 2; /* ties go to the smaller id: 1 and 3 stay */
    for (uint64_t i = 0; i < 200; i++) {
        uint32_t token = COUNT;
        ck_assert_int_eq(lm_sample(sampler, &sampling, logits, i, &token, NULL), ERR_OK);
        ck_assert(token == 1 || token == 3);
    }
    sampling.top_k = 0;
    sampling.top_p = 0.3F; /* 1 alone has 0.39 */
    uint32_t token = COUNT;
    ck_assert_int_eq(lm_sample(sampler, &sampling, logits, 1, &token, NULL), ERR_OK);
    ck_assert_uint_eq(token, 1);
    uint32_t top[COUNT];
    float logprobs[COUNT];
    ck_assert_int_eq(lm_top(sampler, logits, COUNT, top, logprobs), ERR_OK);
    const uint32_t order[COUNT] = {1, 3, 2, 0, 4};
    ck_assert_mem_eq(top, order, sizeof order);
    ck_assert(fabs((double)logprobs[0] - log(exp(2.0) / total)) < 1e-5);
    const float bad[COUNT] = {0.0F, NAN, 0.0F, 0.0F, 0.0F};
    ck_assert_int_eq(lm_sample(sampler, &sampling, bad, 0, &token, NULL), ERR_INVALID);
    sampling.top_p = 0.0F;
    ck_assert_int_eq(lm_sampling_check(&sampling), ERR_RANGE);
    lm_sampler_destroy(sampler);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lm");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 120);
    tcase_add_test(rules, test_golden_logits_and_greedy_text);
    tcase_add_test(rules, test_chunks_and_cache_do_not_show);
    tcase_add_test(rules, test_company_in_the_batch_does_not_show);
    tcase_add_test(rules, test_type_of_panels_does_not_show);
    tcase_add_test(rules, test_truncated_session_goes_on);
    tcase_add_test(rules, test_sampling_follows_its_distribution);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
