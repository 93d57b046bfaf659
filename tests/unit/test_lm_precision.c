/* test_lm_precision.c - the same weights in files of every type and models of every precision. */
#include "shared/json/json.h"
#include "shared/lm/gradient.h"
#include "shared/lm/session.h"
#include "shared/lm/weights.h"
#include "shared/platform/pool.h"
#include "tests/harness/data.h"
#include "tests/harness/lm_random.h"

enum { ROWS = 90, LORA_STEPS = 3 };

/* The files of a random model, its tensors stored as type. */
struct files {
    struct random_model random;
    struct buf config, weights;
};

static void files_make(struct files *files, const struct lm_config *config,
                       enum safetensors_type type)
{
    random_model_make(&files->random, config);
    for (uint32_t i = 0; i < files->random.count; i++) {
        files->random.tensors[i].type = type;
    }
    buf_init(&files->config, LM_CONFIG_SIZE_MAX);
    buf_init(&files->weights, (size_t)64 << 20);
    ck_assert_int_eq(lm_config_write(config, &files->config), ERR_OK);
    ck_assert_int_eq(safetensors_write(files->random.tensors, files->random.count, &files->weights),
                     ERR_OK);
}

static void files_free(struct files *files)
{
    buf_deinit(&files->config);
    buf_deinit(&files->weights);
    random_model_free(&files->random);
}

static struct lm_model *load(const struct files *files, const struct lm_load *how)
{
    struct lm_model *model = NULL;
    struct note note = {0};
    enum err err =
        lm_model_load(buf_bytes(&files->config), buf_bytes(&files->weights), how, &model, &note);
    ck_assert_msg(err == ERR_OK, "%s", note.text);
    return model;
}

/* Logits after ROWS tokens, in chunks of so many. */
/* NOLINTNEXTLINE(readability-non-const-parameter): goes into a step */
static void logits_make(const struct lm_model *model, uint32_t chunk, uint32_t threads, float *out)
{
    uint32_t tokens[ROWS];
    struct lm_session *session = NULL;
    struct lm_batch *batch = NULL;
    struct pool *pool = pool_create(threads);
    fixture_tokens(4, lm_model_config(model)->vocab, ROWS, tokens);
    ck_assert_ptr_nonnull(pool);
    ck_assert_int_eq(lm_session_create(model, ROWS, &session), ERR_OK);
    ck_assert_int_eq(lm_batch_create(model, ROWS, &batch), ERR_OK);
    for (uint32_t at = 0; at < ROWS; at += chunk) {
        struct lm_step step = {.session = session,
                               .tokens = tokens + at,
                               .token_count = ROWS - at < chunk ? ROWS - at : chunk,
                               .out_logits = out};
        ck_assert_int_eq(lm_batch_step(batch, &step, 1, pool_parallel(pool), NULL), ERR_OK);
    }
    lm_batch_destroy(batch);
    lm_session_destroy(session);
    pool_destroy(pool);
}

static struct digest lora_train(const struct lm_model *model)
{
    struct lm_train_options options = lm_finetune_defaults();
    struct lm_adapter *start = fixture_adapter(model, 3, 0x7f, 12);
    struct lm_trainer *trainer = NULL;
    options.step_count = 50;
    ck_assert_int_eq(lm_trainer_create_adapter(model, lm_adapter_get_config(start), &options,
                                               lm_adapter_vector(start), &trainer, NULL),
                     ERR_OK);
    for (uint32_t i = 0; i < LORA_STEPS; i++) {
        uint32_t tokens[40];
        struct lm_step_report report;
        fixture_tokens(i, lm_model_config(model)->vocab, 40, tokens);
        struct lm_example example = {.tokens = tokens, .count = 40};
        ck_assert_int_eq(lm_trainer_step(trainer, &example, 1, &parallel_serial, &report, NULL),
                         ERR_OK);
    }
    struct digest digest;
    lm_trainer_digest(trainer, &digest);
    lm_trainer_destroy(trainer);
    lm_adapter_destroy(start);
    return digest;
}

/* bf16 weights in memory give the bits of the same weights in fp32: digest, logits, training. */
START_TEST(test_narrow_weights_do_not_show)
{
    struct lm_config config = random_config((uint32_t)_i);
    struct files narrow;
    struct files wide;
    files_make(&narrow, &config, SAFETENSORS_BF16);
    files_make(&wide, &config, SAFETENSORS_F32);
    struct lm_load serve = {.serve_only = true, .precision = LM_BF16};
    struct lm_model *models[] = {load(&wide, NULL), load(&narrow, NULL), load(&wide, &serve)};
    struct digest digests[3];
    float logits[3][128];
    ck_assert_uint_le(config.vocab, 128);
    for (int i = 0; i < 3; i++) {
        lm_model_digest(models[i], &digests[i]);
        ck_assert(digest_equal(&digests[i], &digests[0]));
        logits_make(models[i], 7, 1, logits[i]);
        ck_assert_mem_eq(logits[i], logits[0], config.vocab * sizeof(float));
    }
    ck_assert_int_eq(lm_model_precision(models[1]), LM_FP32);
    struct digest trained_wide = lora_train(models[0]);
    struct digest trained_narrow = lora_train(models[1]);
    ck_assert(digest_equal(&trained_wide, &trained_narrow));
    struct note note = {0};
    ck_assert_int_eq(lm_model_gradients_check(models[1], &note), ERR_OK);
    ck_assert_int_eq(lm_model_gradients_check(models[2], &note), ERR_INVALID);
    for (int i = 0; i < 3; i++) {
        lm_model_destroy(models[i]);
    }
    files_free(&narrow);
    files_free(&wide);
}
END_TEST

/* f16: the bits of a model whose weights were rounded to f16 before. */
START_TEST(test_f16_is_the_rounded_model)
{
    struct lm_config config = random_config(0);
    struct files plain;
    struct files rounded;
    files_make(&plain, &config, SAFETENSORS_F32);
    files_make(&rounded, &config, SAFETENSORS_F32);
    for (uint32_t i = 0; i < plain.random.count; i++) {
        struct safetensors_source *from = &plain.random.tensors[i];
        if (from->dim_count == 2) { /* matrices only */
            /* NOLINTNEXTLINE(performance-no-int-to-ptr): the harness owns them */
            float *values = (float *)(uintptr_t)rounded.random.tensors[i].values;
            for (uint64_t j = 0; j < from->dims[0] * from->dims[1]; j++) {
                uint16_t half;
                kernels_to_f16(1, &from->values[j], &half);
                kernels_from_f16(1, &half, &values[j]);
            }
        }
    }
    buf_deinit(&rounded.weights);
    buf_init(&rounded.weights, (size_t)64 << 20);
    ck_assert_int_eq(
        safetensors_write(rounded.random.tensors, rounded.random.count, &rounded.weights), ERR_OK);
    struct lm_load how = {.precision = LM_F16};
    struct lm_model *a = load(&plain, &how);
    struct lm_model *b = load(&rounded, NULL);
    float got[128];
    float want[128];
    logits_make(a, ROWS, 1, got);
    logits_make(b, ROWS, 1, want);
    ck_assert_mem_eq(got, want, config.vocab * sizeof(float));
    struct digest trained_a = lora_train(a);
    struct digest trained_b = lora_train(b);
    ck_assert(digest_equal(&trained_a, &trained_b));
    lm_model_destroy(a);
    lm_model_destroy(b);
    files_free(&plain);
    files_free(&rounded);
}
END_TEST

/* int8: near the fp32 model, the same bits everywhere, no gradients, a profile of its own. */
START_TEST(test_int8)
{
    struct lm_config config = random_config((uint32_t)_i);
    struct files files;
    files_make(&files, &config, SAFETENSORS_BF16);
    struct lm_model *plain = load(&files, NULL);
    float near[128];
    float want[128];
    logits_make(plain, ROWS, 1, near);
    struct lm_load how = {.kernels = kernels_get("scalar", NULL), .precision = LM_INT8};
    struct lm_model *model = load(&files, &how);
    logits_make(model, ROWS, 1, want);
    lm_model_destroy(model);
    for (size_t i = 0; kernels_backend(i) != NULL; i++) {
        how.kernels = kernels_get(kernels_backend(i), NULL);
        if (how.kernels == NULL) {
            continue; /* this machine has no such backend */
        }
        model = load(&files, &how);
        for (uint32_t threads = 1; threads <= 7; threads += 2) {
            float got[128];
            logits_make(model, 1 + 11 * threads, threads, got);
            ck_assert_mem_eq(got, want, config.vocab * sizeof(float));
        }
        struct note note = {0};
        ck_assert_int_eq(lm_model_gradients_check(model, &note), ERR_INVALID);
        ck_assert_ptr_nonnull(strstr(note.text, "int8"));
        ck_assert_uint_lt(lm_model_memory(model), lm_model_memory(plain) + 1);
        lm_model_destroy(model);
    }
    double difference = 0.0;
    double size = 0.0;
    for (uint32_t v = 0; v < config.vocab; v++) {
        difference += (double)(near[v] - want[v]) * (double)(near[v] - want[v]);
        size += (double)near[v] * (double)near[v];
    }
    ck_assert_double_gt(difference, 0.0); /* it was quantised */
    ck_assert_double_lt(difference, 0.05 * size);
    struct digest fp32;
    struct digest int8;
    lm_profile_id(&(struct lm_profile){.precision = LM_FP32}, &fp32);
    lm_profile_id(&(struct lm_profile){.precision = LM_INT8}, &int8);
    ck_assert(!digest_equal(&fp32, &int8));
    lm_model_destroy(plain);
    files_free(&files);
}
END_TEST

/* A model in two shards, and indexes that lie. */
START_TEST(test_shards)
{
    struct lm_config config = random_config(0);
    struct files files;
    struct buf first;
    struct buf second;
    struct buf index;
    files_make(&files, &config, SAFETENSORS_BF16);
    struct random_model *random = &files.random;
    uint32_t half = random->count / 2;
    buf_init(&first, (size_t)64 << 20);
    buf_init(&second, (size_t)64 << 20);
    buf_init(&index, (size_t)1 << 20);
    ck_assert_int_eq(safetensors_write(random->tensors, half, &first), ERR_OK);
    ck_assert_int_eq(safetensors_write(random->tensors + half, random->count - half, &second),
                     ERR_OK);
    (void)buf_append_text(&index, "{\"metadata\":{},\"weight_map\":{");
    for (uint32_t i = 0; i < random->count; i++) {
        (void)buf_append_text(&index, i == 0 ? "\"" : ",\"");
        (void)buf_append_text(&index, random->names[i]);
        (void)buf_append_text(&index, i < half ? "\":\"a.safetensors\"" : "\":\"b.safetensors\"");
    }
    (void)buf_append_text(&index, "}}");
    struct lm_file parts[] = {{"config.json", buf_bytes(&files.config)},
                              {"model.safetensors.index.json", buf_bytes(&index)},
                              {"a.safetensors", buf_bytes(&first)},
                              {"b.safetensors", buf_bytes(&second)}};
    struct lm_model *whole = load(&files, NULL);
    struct lm_model *sharded = NULL;
    struct note note = {0};
    ck_assert_msg(lm_model_open(parts, 4, NULL, &sharded, &note) == ERR_OK, "%s", note.text);
    struct digest a;
    struct digest b;
    lm_model_digest(whole, &a);
    lm_model_digest(sharded, &b);
    ck_assert(digest_equal(&a, &b));
    struct lm_model *none = NULL;
    ck_assert_int_eq(lm_model_open(parts, 3, NULL, &none, &note), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(note.text, "b.safetensors"));
    parts[3].data = parts[2].data; /* the second file is not what the index says */
    ck_assert_int_eq(lm_model_open(parts, 4, NULL, &none, &note), ERR_INVALID);
    parts[1].data.size -= 1;
    ck_assert_int_eq(lm_model_open(parts, 4, NULL, &none, &note), ERR_INVALID);
    ck_assert_ptr_null(none);
    lm_model_destroy(whole);
    lm_model_destroy(sharded);
    buf_deinit(&first);
    buf_deinit(&second);
    buf_deinit(&index);
    files_free(&files);
}
END_TEST

/* The shipped base has the digest that its manifest says. */
START_TEST(test_base_digest)
{
    static const char FOLDER[] = "deploy/models/openledger-3m/";
    static const char *const NAMES[] = {"manifest.json", "config.json", "model.safetensors"};
    struct buf data[3];
    bool there = true;
    for (int i = 0; i < 3; i++) {
        char path[FILE_PATH_SIZE];
        ck_assert_int_eq(file_path(path, "%s%s", FOLDER, NAMES[i]), ERR_OK);
        buf_init(&data[i], (size_t)64 << 20);
        there = there && test_read(path, &data[i]);
    }
    if (there) {
        struct lm_model *model = NULL;
        struct json *manifest = NULL;
        const char *want = NULL;
        struct digest digest;
        char got[DIGEST_TEXT_SIZE];
        ck_assert_int_eq(
            lm_model_load(buf_bytes(&data[1]), buf_bytes(&data[2]), NULL, &model, NULL), ERR_OK);
        ck_assert_int_eq(json_parse(buf_bytes(&data[0]), 1 << 20, &manifest, NULL), ERR_OK);
        ck_assert_int_eq(json_get_text(manifest, "model_digest", &want, NULL), ERR_OK);
        lm_model_digest(model, &digest);
        ck_assert_str_eq(digest_format(&digest, got), want);
        json_destroy(manifest);
        lm_model_destroy(model);
    }
    for (int i = 0; i < 3; i++) {
        buf_deinit(&data[i]);
    }
}
END_TEST

START_TEST(test_names)
{
    enum lm_precision precision = LM_STORED;
    struct note note = {0};
    ck_assert_int_eq(lm_precision_find("f16", &precision, &note), ERR_OK);
    ck_assert_int_eq(precision, LM_F16);
    ck_assert_int_eq(lm_precision_find("int4", &precision, &note), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(note.text, "int8"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lm_precision");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 120);
    tcase_add_loop_test(rules, test_narrow_weights_do_not_show, 0, RANDOM_VARIANTS);
    tcase_add_test(rules, test_f16_is_the_rounded_model);
    tcase_add_loop_test(rules, test_int8, 0, RANDOM_VARIANTS);
    tcase_add_test(rules, test_shards);
    tcase_add_test(rules, test_base_digest);
    tcase_add_test(rules, test_names);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
