/* test_llama.c - real trained models as GGUF files of each type, here and in llama.cpp: a prompt and 64
 * greedy tokens, logits compared at every step. tests/e2e/llama_client.mjs is the other side; SKIP
 * where it is not installed.
 *
 * What is compared runs on llama.cpp's tokens, so that one near tie does not end the comparison. F32:
 * float rounding only. F16: llama.cpp rounds some activations to f16 before products, we do none. Q8_0:
 * both quantise activations in blocks of 32, with scales that are not the same; neither is the truth, so
 * both are held against the same weights in fp32. */
#include <check.h>
#include <math.h>

#include "shared/lineage/bundle.h"
#include "shared/lineage/lineage.h"
#include "shared/lm/session.h"
#include "shared/platform/process.h"
#include "tests/harness/folder.h"
#include "tests/harness/gguf_file.h"

enum { PROMPT_MAX = 40, ANSWER = 64, EXIT_SKIP = 77 };

static const struct {
    uint32_t type;
    const char *name;
    double logit_max; /* largest difference of a logit */
    double loss_max;  /* of the mean loss of the answer, nats */
} TYPES[] = {{GGUF_FILE_TYPE_F32, "f32", 1e-4, 1e-5},
             {GGUF_FILE_TYPE_F16, "f16", 0.05, 1e-3},
             {GGUF_FILE_TYPE_Q8_0, "q8_0", 0.5, 0.02}};
enum { TYPE_COUNT = sizeof TYPES / sizeof TYPES[0] };

/* ---- the file ---- */

/* The model's tensors as fp32, which gguf_file_model changes to what it stores. */
static void values_take(const struct lm_weights *weights, struct random_model *out)
{
    *out = (struct random_model){.config = weights->config};
    ck_assert_uint_le(weights->count, RANDOM_TENSORS_MAX);
    for (uint32_t t = 0; t < weights->count; t++) {
        const struct lm_view *view = &weights->views[t];
        size_t count = (size_t)view->rows * view->columns;
        float *values = malloc(count * sizeof *values);
        ck_assert_ptr_nonnull(values);
        static const enum kernels_type KINDS[] = {[LM_DTYPE_F32] = KERNELS_F32,
                                                  [LM_DTYPE_F16] = KERNELS_F16,
                                                  [LM_DTYPE_BF16] = KERNELS_BF16};
        kernels_widen(KINDS[view->dtype], count, view->data.data, values);
        (void)snprintf(out->names[t], RANDOM_NAME_SIZE, "%s", view->name);
        out->tensors[t] = (struct safetensors_source){
            .name = out->names[t], .type = SAFETENSORS_F32, .values = values};
        out->tensors[t].dim_count = view->vector ? 1 : 2;
        out->tensors[t].dims[0] = view->vector ? view->columns : view->rows;
        out->tensors[t].dims[1] = view->columns;
        out->count++;
    }
}

/* Words do not matter to logits; llama.cpp wants one for every id and for every byte. */
static void vocabulary_put(struct gguf_file *file, uint32_t vocab)
{
    enum { ARRAY = 9, I32 = 5, FIRST = 3, END = FIRST + 256 };
    ck_assert_uint_gt(vocab, END);
    gguf_file_string(file, "tokenizer.ggml.model", "llama");
    gguf_file_meta(file, "tokenizer.ggml.tokens", ARRAY);
    (void)buf_append_u32le(&file->meta, GGUF_FILE_TEXT);
    (void)buf_append_u64le(&file->meta, vocab);
    for (uint32_t i = 0; i < vocab; i++) {
        bool byte = i >= FIRST && i < END;
        char word[32];
        (void)snprintf(word, sizeof word, byte ? "<0x%02X>" : "w%u", byte ? i - FIRST : i);
        gguf_file_text(&file->meta, word);
    }
    gguf_file_meta(file, "tokenizer.ggml.scores", ARRAY);
    (void)buf_append_u32le(&file->meta, GGUF_FILE_F32);
    (void)buf_append_u64le(&file->meta, vocab);
    for (uint32_t i = 0; i < vocab; i++) {
        float score = -(float)i;
        (void)buf_append(&file->meta, &score, sizeof score);
    }
    gguf_file_meta(file, "tokenizer.ggml.token_type", ARRAY);
    (void)buf_append_u32le(&file->meta, I32);
    (void)buf_append_u64le(&file->meta, vocab);
    for (uint32_t i = 0; i < vocab; i++) { /* unknown, control, byte, normal */
        (void)buf_append_u32le(&file->meta, i == 0 ? 2 : i < FIRST ? 3 : i < END ? 6 : 1);
    }
}

static void file_write(const struct lineage_bundle *bundle, uint32_t type, struct buf *out)
{
    struct lm_weights weights = {0};
    struct random_model values;
    struct gguf_file file;
    ck_assert_int_eq(lm_weights_init(&weights, bundle->files, bundle->count, NULL), ERR_OK);
    values_take(&weights, &values);
    gguf_file_init(&file);
    gguf_file_model(&file, &values, "llama", type);
    vocabulary_put(&file, weights.config.vocab);
    gguf_file_write(&file, out);
    ck_assert_int_eq(file_write_quick(test_path("model.gguf"), buf_bytes(out), 0644, NULL), ERR_OK);
    gguf_file_deinit(&file);
    random_model_free(&values);
    lm_weights_deinit(&weights);
}

/* ---- the comparison ---- */

/* Runs llama.cpp; false: it is not there. */
static bool peer_run(const uint32_t *prompt, uint32_t count, struct buf *out_logits,
                     uint32_t answer[ANSWER])
{
    char numbers[PROMPT_MAX + 1][16];
    char model[FILE_PATH_SIZE];
    char logits[FILE_PATH_SIZE];
    const char *argv[PROMPT_MAX + 8] = {"node", "tests/e2e/llama_client.mjs", model, logits};
    struct buf said;
    int exit_code = -1;
    struct note note = {""};
    ck_assert_int_eq(file_path(model, "%s/model.gguf", test_folder), ERR_OK);
    ck_assert_int_eq(file_path(logits, "%s/logits.f32", test_folder), ERR_OK);
    (void)snprintf(numbers[0], sizeof numbers[0], "%d", ANSWER);
    argv[4] = numbers[0];
    for (uint32_t i = 0; i < count; i++) {
        (void)snprintf(numbers[i + 1], sizeof numbers[0], "%u", prompt[i]);
        argv[5 + i] = numbers[i + 1];
    }
    buf_init(&said, 1U << 16);
    enum err err = process_output(argv, 60000, &said, &exit_code, &note);
    bool there = err != ERR_NOT_FOUND && exit_code != EXIT_SKIP;
    if (there) {
        ck_assert_msg(err == ERR_OK && exit_code == 0, "exit %d: %s %s", exit_code, note.text,
                      buf_text(&said));
        const char *at = buf_text(&said);
        for (uint32_t i = 0; i < ANSWER; i++) {
            char *end = NULL;
            answer[i] = (uint32_t)strtoul(at, &end, 10);
            ck_assert_ptr_ne(end, at);
            at = end;
        }
        ck_assert_int_eq(file_read(logits, out_logits, &note), ERR_OK);
    }
    buf_deinit(&said);
    return there;
}

static double loss_of(const float *logits, uint32_t vocab, uint32_t token)
{
    uint32_t best = 0;
    double sum = 1.0; /* of exp(logit - best), the best's own first */
    for (uint32_t v = 1; v < vocab; v++) {
        best = logits[v] > logits[best] ? v : best;
    }
    for (uint32_t v = 0; v < vocab; v++) {
        sum += v == best ? 0.0 : exp((double)logits[v] - (double)logits[best]);
    }
    return (double)logits[best] + log(sum) - (double)logits[token];
}

/* A prompt and what llama.cpp made of it. */
struct answered {
    struct lm_ids prompt;
    uint32_t tokens[ANSWER];
    struct buf logits; /* [ANSWER][vocab] */
};

/* The same rows by a model of ours, on the same tokens: [ANSWER][vocab], to be freed. */
static float *rows_make(const struct lm_model *model, const struct answered *answered)
{
    size_t vocab = lm_model_config(model)->vocab;
    float *rows = calloc(ANSWER * vocab, sizeof *rows);
    struct lm_session *session = NULL;
    struct lm_batch *batch = NULL;
    ck_assert_ptr_nonnull(rows);
    ck_assert_int_eq(lm_session_create(model, PROMPT_MAX + ANSWER, &session), ERR_OK);
    ck_assert_int_eq(lm_batch_create(model, PROMPT_MAX, &batch), ERR_OK);
    for (size_t i = 0; i < ANSWER; i++) {
        const struct lm_step step = {.session = session,
                                     .tokens =
                                         i == 0 ? answered->prompt.items : &answered->tokens[i - 1],
                                     .token_count = i == 0 ? (uint32_t)answered->prompt.count : 1,
                                     .out_logits = rows + i * vocab};
        ck_assert_int_eq(lm_batch_step(batch, &step, 1, &parallel_serial, NULL), ERR_OK);
    }
    lm_batch_destroy(batch);
    lm_session_destroy(session);
    return rows;
}

static double squares(const float *a, const float *b, size_t count)
{
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    }
    return sum;
}

/* Another choice than llama.cpp's is only right between two that are nearly tied. */
static void rows_compare(const char *name, size_t type, const float *ours,
                         const struct answered *answered, uint32_t vocab)
{
    const float *theirs = (const float *)(const void *)answered->logits.data;
    double tolerance = TYPES[type].logit_max;
    double largest = 0.0;
    double losses[2] = {0.0, 0.0};
    uint32_t same = 0;
    for (size_t i = 0; i < ANSWER; i++) {
        const float *row = ours + i * vocab;
        const float *other = theirs + i * vocab;
        uint32_t chosen = answered->tokens[i];
        uint32_t best = 0;
        for (uint32_t v = 0; v < vocab; v++) {
            double error = fabs((double)row[v] - (double)other[v]);
            ck_assert_msg(error <= tolerance, "step %zu, logit %u: %g, llama.cpp's %g", i, v,
                          (double)row[v], (double)other[v]);
            largest = error > largest ? error : largest;
            best = row[v] > row[best] ? v : best;
        }
        ck_assert_double_le((double)row[best] - (double)row[chosen], 2 * tolerance);
        same += best == chosen;
        losses[0] += loss_of(row, vocab, chosen) / ANSWER;
        losses[1] += loss_of(other, vocab, chosen) / ANSWER;
    }
    (void)printf(
        "%s %s: logits within %.2g, loss %.6f, llama.cpp's %.6f, %u of %d choices the same\n", name,
        TYPES[type].name, largest, losses[0], losses[1], same, ANSWER);
    ck_assert_double_le(fabs(losses[0] - losses[1]), TYPES[type].loss_max);
}

/* How far int8 activations move logits: as far as llama.cpp's do, from the same weights in fp32. */
static void int8_compare(const struct lm_file *file, const float *ours,
                         const struct answered *answered)
{
    struct lm_model *wide = NULL;
    struct lm_load how = {.precision = LM_FP32};
    ck_assert_int_eq(lm_model_open(file, 1, &how, &wide, NULL), ERR_OK);
    size_t count = (size_t)ANSWER * lm_model_config(wide)->vocab;
    float *exact = rows_make(wide, answered);
    double own = sqrt(squares(ours, exact, count) / (double)count);
    double peer = sqrt(squares((const float *)(const void *)answered->logits.data, exact, count) /
                       (double)count);
    (void)printf("  int8 activations move logits by %.4f (rms), llama.cpp's by %.4f\n", own, peer);
    ck_assert_double_le(own, 1.1 * peer);
    free(exact);
    lm_model_destroy(wide);
}

static void model_compare(const char *folder, size_t type)
{
    struct lineage_bundle *bundle = NULL;
    struct lineage_base *base = NULL;
    struct lm_model *model = NULL;
    struct answered answered;
    struct buf file;
    struct note note = {""};
    struct bytes text = bytes_of_text("Once upon a time there was a king");
    ck_assert_msg(lineage_bundle_map(folder, &bundle, &note) == ERR_OK, "%s", note.text);
    ck_assert_int_eq(lineage_base_build(bundle, NULL, &base, &note), ERR_OK);
    lm_ids_init(&answered.prompt, PROMPT_MAX);
    buf_init(&answered.logits, (size_t)64 << 20);
    ck_assert_int_eq(lm_tokenizer_encode(base->tokenizer, text, false, &answered.prompt, &note),
                     ERR_OK);
    file_write(bundle, TYPES[type].type, &file);
    const struct lm_file files[] = {{"model.gguf", buf_bytes(&file)}};
    ck_assert_msg(lm_model_open(files, 1, NULL, &model, &note) == ERR_OK, "%s", note.text);
    uint32_t vocab = lm_model_config(model)->vocab;
    if (peer_run(answered.prompt.items, (uint32_t)answered.prompt.count, &answered.logits,
                 answered.tokens)) {
        ck_assert_uint_eq(answered.logits.size, (size_t)ANSWER * vocab * sizeof(float));
        float *ours = rows_make(model, &answered);
        rows_compare(strrchr(folder, '/') + 1, type, ours, &answered, vocab);
        if (lm_model_precision(model) == LM_INT8) {
            int8_compare(files, ours, &answered);
        }
        free(ours);
    } else {
        (void)puts("SKIP: node-llama-cpp is not installed in tests/bench");
    }
    (void)fflush(stdout);
    lm_ids_deinit(&answered.prompt);
    lm_model_destroy(model);
    lineage_base_destroy(base);
    lineage_bundle_close(bundle);
    buf_deinit(&answered.logits);
    buf_deinit(&file);
}

START_TEST(test_shipped_base)
{
    test_folder_make();
    model_compare("deploy/models/openledger-3m", (size_t)_i);
    test_folder_remove();
}
END_TEST

START_TEST(test_stories)
{
    char folder[FILE_PATH_SIZE];
    const char *data = getenv("OPENLEDGER_TEST_DATA");
    ck_assert_int_eq(file_path(folder, "%s/stories260K", data == NULL ? "../shared/data" : data),
                     ERR_OK);
    if (!file_exists(folder)) {
        (void)printf("SKIP: no %s\n", folder);
        return;
    }
    test_folder_make();
    model_compare(folder, (size_t)_i);
    test_folder_remove();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("llama");
    TCase *tests = tcase_create("llama.cpp");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_shipped_base, 0, TYPE_COUNT);
    tcase_add_loop_test(tests, test_stories, 0, TYPE_COUNT - 1); /* no rows of whole blocks */
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
