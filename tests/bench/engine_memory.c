/* engine_memory.c - peak memory beside the sum of what must be resident. See engine_bench.h.
 *
 * Each case runs in a process of its own (bench_engine --memory FILE CASE), so that no case sees what
 * another left. The model is mapped from a file, as a service maps it; once it is packed and the map is
 * gone the kernel's high-water mark is set back, so loading and running are judged apart. The program
 * itself, some ten megabytes, is in the peak and not in the sum. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/lm/session.h"
#include "shared/lm/trainer.h"
#include "shared/lm/weights.h"
#include "shared/platform/file.h"
#include "tests/bench/engine_bench.h"

enum { PROMPT = 512, AHEAD = 64, CONTEXT = 256, TEXTS = 4, RANK = 8 };
#define MEGA 1e-6

struct memory_case {
    const char *name, *what;
    enum lm_precision precision; /* of a served model */
    bool train, full, recompute;
};
static const struct memory_case CASES[] = {
    {.name = "serve-f16", .what = "135m serve f16", .precision = LM_F16},
    {.name = "serve-int8", .what = "135m serve int8", .precision = LM_INT8},
    {.name = "lora", .what = "135m adapter", .train = true},
    {.name = "lora-recompute", .what = "135m adapter, recompute", .train = true, .recompute = true},
    {.name = "full", .what = "12m all weights", .train = true, .full = true},
    {.name = "full-recompute",
     .what = "12m all weights, recompute",
     .train = true,
     .full = true,
     .recompute = true},
};
#define CASE_COUNT (sizeof CASES / sizeof CASES[0])

/* ---- in the child ---- */

static double peak_bytes(void)
{
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    double kib = 0.0;
    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        if (strncmp(line, "VmHWM:", 6) == 0) {
            kib = strtod(line + 6, NULL);
        }
    }
    if (status != NULL) {
        (void)fclose(status);
    }
    return kib * 1024.0;
}

/* False: this system cannot set the mark back. */
static bool peak_reset(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");
    bool ok = file != NULL && fputs("5", file) >= 0;
    return file != NULL && fclose(file) == 0 && ok;
}

static void say(const char *name, double bytes)
{
    (void)printf("%s %.3f\n", name, MEGA * bytes);
}

static enum err model_map(const char *path, const struct lm_load *how, struct lm_model **out,
                          double *out_size, struct note *note)
{
    const struct lm_config config = bench_shape("135m");
    struct file_map map = {0};
    struct buf json;
    buf_init(&json, LM_CONFIG_SIZE_MAX);
    enum err err = lm_config_write(&config, &json);
    if (err == ERR_OK) {
        err = file_map_open(path, &map, note);
    }
    if (err == ERR_OK) {
        err = lm_model_load(buf_bytes(&json), (struct bytes){map.data, map.size}, how, out, note);
        *out_size = (double)map.size;
    }
    file_map_close(&map);
    buf_deinit(&json);
    return err;
}

static enum err serve(const struct lm_model *model, double *out_needed, struct note *note)
{
    const struct lm_config *config = lm_model_config(model);
    struct lm_batch *batch = NULL;
    struct lm_session *session = NULL;
    uint32_t tokens[PROMPT + AHEAD];
    float *logits = malloc(config->vocab * sizeof *logits);
    enum err err = logits == NULL ? ERR_NO_MEMORY : lm_batch_create(model, PROMPT, &batch);
    if (err == ERR_OK) {
        err = lm_session_create(model, PROMPT + AHEAD, &session);
    }
    for (uint32_t i = 0; i < PROMPT + AHEAD; i++) {
        tokens[i] = 3 + i * 7919U % (config->vocab - 3);
    }
    for (uint32_t at = 0; err == ERR_OK && at < PROMPT + AHEAD; at += at == 0 ? PROMPT : 1) {
        struct lm_step step = {.session = session,
                               .tokens = tokens + at,
                               .token_count = at == 0 ? PROMPT : 1,
                               .out_logits = logits};
        err = lm_batch_step(batch, &step, 1, &parallel_serial, note);
    }
    *out_needed = (double)(lm_model_memory(model) + lm_session_memory(config, PROMPT + AHEAD) +
                           lm_acts_memory(&model->net, PROMPT, LM_RANK_MAX, LM_KEEP_NOTHING));
    lm_session_destroy(session);
    lm_batch_destroy(batch);
    free(logits);
    return err;
}

static enum err train(const struct memory_case *which, const struct lm_model *model,
                      double *out_needed, struct note *note)
{
    const struct lm_config config = bench_shape(which->full ? "12m" : "135m");
    const struct lm_adapter_config adapter = {
        .rank = RANK, .alpha = 2.0F * RANK, .targets = LM_TARGETS_ALL};
    struct lm_train_options options = which->full ? lm_pretrain_defaults() : lm_finetune_defaults();
    struct lm_trainer *trainer = NULL;
    options.recompute = which->recompute;
    enum err err = which->full
                       ? lm_trainer_create_full(&config, &options, NULL, &trainer, note)
                       : lm_trainer_create_adapter(model, &adapter, &options, NULL, &trainer, note);
    uint32_t tokens[TEXTS * (CONTEXT + 1)];
    struct lm_example examples[TEXTS];
    for (uint32_t i = 0; i < TEXTS * (CONTEXT + 1); i++) {
        tokens[i] = 3 + i * 7919U % (config.vocab - 3);
    }
    for (uint32_t i = 0; i < TEXTS; i++) {
        examples[i] =
            (struct lm_example){.tokens = tokens + (size_t)i * (CONTEXT + 1), .count = CONTEXT + 1};
    }
    if (err == ERR_OK) {
        struct lm_step_report report;
        err = lm_trainer_step(trainer, examples, TEXTS, &parallel_serial, &report, note);
    }
    if (err == ERR_OK) {
        const struct lm_acts *acts = &trainer->rows.acts;
        const uint64_t head = trainer->head == NULL ? 0 : (uint64_t)config.vocab * config.hidden;
        const uint64_t tables = which->full ? (uint64_t)config.context * config.head_dim : 0;
        *out_needed =
            (double)((model == NULL ? 0 : lm_model_memory(model)) +
                     lm_acts_memory(trainer->net, acts->rows, acts->rank, acts->keep) +
                     (4 * (uint64_t)trainer->count + trainer->packed_count + head + tables) *
                         sizeof(float));
    }
    lm_trainer_destroy(trainer);
    return err;
}

int bench_memory_child(const char *path, const char *name)
{
    const struct memory_case *which = NULL;
    for (size_t i = 0; i < CASE_COUNT; i++) {
        which = strcmp(CASES[i].name, name) == 0 ? &CASES[i] : which;
    }
    if (which == NULL) {
        (void)printf("void no case has the name %s\n", name);
        return 1;
    }
    const struct lm_load how = {.precision = which->precision, .serve_only = !which->train};
    struct note note = {0};
    struct lm_model *model = NULL;
    double file = 0.0;
    double needed = 0.0;
    enum err err = ERR_OK;
    if (!which->full) {
        err = model_map(path, &how, &model, &file, &note);
        say("load", peak_bytes());
        say("loaded", file + (model == NULL ? 0.0 : (double)lm_model_memory(model)));
    }
    if (!peak_reset()) {
        (void)printf("void the high-water mark cannot be set back\n");
    }
    if (err == ERR_OK) {
        err = which->train ? train(which, model, &needed, &note) : serve(model, &needed, &note);
    }
    say("peak", peak_bytes());
    say("needed", needed);
    if (err != ERR_OK) {
        (void)printf("void %s\n", note.text);
    }
    lm_model_destroy(model);
    return err == ERR_OK ? 0 : 1;
}

/* ---- in the parent ---- */

static bool model_write(const char *path)
{
    const struct lm_config config = bench_shape("135m");
    float *weights = bench_weights(&config);
    struct buf file;
    buf_init(&file, lm_config_weights(&config) * 2 + (1UL << 20));
    bool ok = bench_safetensors(&config, weights, &file);
    free(weights);
    ok = ok && file_write_atomic(path, buf_bytes(&file), 0644, NULL) == ERR_OK;
    buf_deinit(&file);
    return ok;
}

static void report(struct bench *bench, const char *name, const struct bench_number *ours,
                   const struct bench_number *theirs)
{
    const double peak = ours->value;
    const double sum = theirs->value;
    bench_report(bench, &(struct bench_row){.key = "memory",
                                            .name = name,
                                            .peer = "must be resident",
                                            .unit = "MB peak",
                                            .threads = 1,
                                            .ours = peak,
                                            .theirs = sum,
                                            .ratio = peak / sum});
}

void bench_memory(struct bench *bench)
{
    static char names[CASE_COUNT][2][64]; /* rows borrow them */
    char path[256];
    (void)snprintf(path, sizeof path, "%s/random-135m.safetensors", bench->folder);
    bool written = model_write(path);
    CHECK(written);
    for (size_t i = 0; i < CASE_COUNT; i++) {
        char self[] = "/proc/self/exe";
        char flag[] = "--memory";
        char name[32];
        (void)snprintf(name, sizeof name, "%s", CASES[i].name);
        (void)snprintf(names[i][0], sizeof names[i][0], "%s: load", CASES[i].what);
        (void)snprintf(names[i][1], sizeof names[i][1], "%s: run", CASES[i].what);
        char *argv[] = {self, flag, path, name, NULL};
        struct bench_number numbers[] = {
            {.name = "peak"}, {.name = "needed"}, {.name = "load"}, {.name = "loaded"}};
        if (!bench_peer_numbers(argv, numbers, CASES[i].full ? 2 : 4)) {
            bench->missing++;
            continue;
        }
        if (!CASES[i].full) {
            report(bench, names[i][0], &numbers[2], &numbers[3]);
        }
        report(bench, names[i][1], &numbers[0], &numbers[1]);
    }
    (void)remove(path);
}
