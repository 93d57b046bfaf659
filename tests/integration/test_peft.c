/* test_peft.c - adapters both ways between us and PyTorch, which reads and writes them as PEFT does: the
 * logits that an adapter gives here are those that it gives there. tests/e2e/peft_client.py is the
 * other side; SKIP where PyTorch is not installed. */
#include <check.h>
#include <math.h>

#include "shared/lm/adapter.h"
#include "shared/lm/session.h"
#include "shared/platform/process.h"
#include "tests/harness/folder.h"
#include "tests/harness/lm_random.h"

enum { TOKENS = 40, STEP = 10, SHOWN = TOKENS / STEP, VOCAB_MAX = 128, EXIT_SKIP = 77 };

static void put(const char *name, const struct buf *content)
{
    ck_assert_int_eq(file_write_quick(test_path(name), buf_bytes(content), 0644, NULL), ERR_OK);
}

/* Logits after every STEP tokens: [SHOWN][vocab]. */
static void logits_make(const struct lm_model *model, const struct lm_adapter *adapter,
                        struct buf *out)
{
    uint32_t vocab = lm_model_config(model)->vocab;
    uint32_t tokens[TOKENS];
    struct lm_session *session = NULL;
    struct lm_batch *batch = NULL;
    fixture_tokens(4, vocab, TOKENS, tokens);
    ck_assert_uint_le(vocab, VOCAB_MAX);
    ck_assert_int_eq(lm_session_create(model, TOKENS, &session), ERR_OK);
    ck_assert_int_eq(lm_batch_create(model, STEP, &batch), ERR_OK);
    for (uint32_t at = 0; at < TOKENS; at += STEP) {
        float logits[VOCAB_MAX];
        const struct lm_step step = {.session = session,
                                     .adapter = adapter,
                                     .tokens = tokens + at,
                                     .token_count = STEP,
                                     .out_logits = logits};
        ck_assert_int_eq(lm_batch_step(batch, &step, 1, &parallel_serial, NULL), ERR_OK);
        ck_assert_int_eq(buf_append(out, logits, vocab * sizeof *logits), ERR_OK);
    }
    lm_batch_destroy(batch);
    lm_session_destroy(session);
}

static void base_write(const struct random_model *random)
{
    struct buf text;
    struct buf weights;
    buf_init(&text, LM_CONFIG_SIZE_MAX);
    buf_init(&weights, (size_t)64 << 20);
    ck_assert_int_eq(lm_config_write(&random->config, &text), ERR_OK);
    ck_assert_int_eq(safetensors_write(random->tensors, random->count, &weights), ERR_OK);
    put("config.json", &text);
    put("model.safetensors", &weights);
    buf_clear(&text);
    uint32_t tokens[TOKENS];
    fixture_tokens(4, random->config.vocab, TOKENS, tokens);
    for (uint32_t i = 0; i < TOKENS; i++) {
        char number[32];
        (void)snprintf(number, sizeof number, "%s%u", i == 0 ? "{\"tokens\":[" : ",", tokens[i]);
        (void)buf_append_text(&text, number);
    }
    for (uint32_t i = 0; i < SHOWN; i++) {
        char number[32];
        (void)snprintf(number, sizeof number, "%s%u", i == 0 ? "],\"positions\":[" : ",",
                       (i + 1) * STEP - 1);
        (void)buf_append_text(&text, number);
    }
    ck_assert_int_eq(buf_append_text(&text, "]}"), ERR_OK);
    put("tokens.json", &text);
    buf_deinit(&weights);
    buf_deinit(&text);
}

static void ours_write(const struct lm_model *model, uint32_t targets)
{
    struct lm_adapter *adapter = fixture_adapter(model, 5, targets, 3);
    struct buf config;
    struct buf weights;
    struct buf logits;
    buf_init(&config, LM_CONFIG_SIZE_MAX);
    buf_init(&weights, (size_t)64 << 20);
    buf_init(&logits, 1U << 20);
    ck_assert_int_eq(file_make_folders(test_path("ours"), NULL), ERR_OK);
    ck_assert_int_eq(lm_adapter_export(adapter, "base", &config, &weights), ERR_OK);
    logits_make(model, adapter, &logits);
    put("ours/adapter_config.json", &config);
    put("ours/adapter_model.safetensors", &weights);
    put("ours.f32", &logits);
    lm_adapter_destroy(adapter);
    buf_deinit(&logits);
    buf_deinit(&weights);
    buf_deinit(&config);
}

static void read_into(struct buf *out, const char *format, const char *name)
{
    char path[FILE_PATH_SIZE];
    char inside[128];
    (void)snprintf(inside, sizeof inside, "theirs-%s%s", name, format);
    ck_assert_int_eq(file_path(path, "%s/%s", test_folder, inside), ERR_OK);
    ck_assert_int_eq(file_read(path, out, NULL), ERR_OK);
}

static void theirs_check(const struct lm_model *model, const char *name)
{
    struct lm_adapter *adapter = NULL;
    struct note note = {""};
    struct buf config;
    struct buf weights;
    struct buf want;
    struct buf got;
    buf_init(&config, LM_CONFIG_SIZE_MAX);
    buf_init(&weights, (size_t)64 << 20);
    buf_init(&want, 1U << 20);
    buf_init(&got, 1U << 20);
    read_into(&config, "/adapter_config.json", name);
    read_into(&weights, "/adapter_model.safetensors", name);
    read_into(&want, ".f32", name);
    enum err err =
        lm_adapter_import(model, buf_bytes(&config), buf_bytes(&weights), &adapter, &note);
    ck_assert_msg(err == ERR_OK, "%s: %s", name, note.text);
    logits_make(model, adapter, &got);
    ck_assert_uint_eq(got.size, want.size);
    double largest = 0.0;
    for (size_t at = 0; at < got.size; at += sizeof(float)) {
        float ours;
        float theirs;
        memcpy(&ours, got.data + at, sizeof ours);
        memcpy(&theirs, want.data + at, sizeof theirs);
        double error = fabs((double)ours - (double)theirs);
        ck_assert_msg(error <= 1e-4 + 1e-4 * fabs((double)theirs), "%s: logit %zu is %g, not %g",
                      name, at / sizeof(float), (double)ours, (double)theirs);
        largest = error > largest ? error : largest;
    }
    (void)printf("theirs-%s: largest difference %.2g\n", name, largest);
    lm_adapter_destroy(adapter);
    buf_deinit(&got);
    buf_deinit(&want);
    buf_deinit(&weights);
    buf_deinit(&config);
}

START_TEST(test_both_ways)
{
    struct random_model random;
    struct lm_config config = random_config(LM_LLAMA);
    struct buf said;
    int exit_code = -1;
    struct note note = {""};
    config.tied = _i == 0;
    test_folder_make();
    random_model_make(&random, &config);
    struct lm_model *model = random_model_load(&random, NULL);
    base_write(&random);
    ours_write(model, _i == 0 ? LM_TARGETS_ALL : 1U << LM_Q | 1U << LM_DOWN);
    const char *const client[] = {"/usr/bin/python3", "tests/e2e/peft_client.py", test_folder,
                                  NULL};
    buf_init(&said, 1U << 16);
    enum err err = process_output(client, 60000, &said, &exit_code, &note);
    if (err == ERR_NOT_FOUND || exit_code == EXIT_SKIP) {
        (void)printf("SKIP: python3-torch is not installed\n");
    } else {
        ck_assert_msg(err == ERR_OK && exit_code == 0, "exit %d: %s %s", exit_code, note.text,
                      buf_text(&said));
        theirs_check(model, "lora");
        theirs_check(model, "rslora");
        theirs_check(model, "half");
    }
    (void)fflush(stdout);
    buf_deinit(&said);
    lm_model_destroy(model);
    random_model_free(&random);
    test_folder_remove();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("peft");
    TCase *tests = tcase_create("torch");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_both_ways, 0, 2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
