/* pretrain.c - openledger pretrain: a base model from text, by our own engine.
 *
 * Resumable: a checkpoint holds the whole state, the order of windows is a pure function of seed and
 * step, so a run that was stopped ends in the same bytes as one that was not. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/openledger/commands.h"
#include "services/openledger/pretrain_data.h"
#include "services/openledger/pretrain_expect.h"
#include "shared/base/check.h"
#include "shared/json/json.h"
#include "shared/lm/gradient.h"
#include "shared/lm/train.h"
#include "shared/lm/windows.h"
#include "shared/platform/clock.h"
#include "shared/platform/file.h"
#include "shared/platform/pool.h"
#include "shared/platform/settings.h"
#include "shared/platform/signals.h"

#define CHECKPOINT_LIMIT ((size_t)4 << 30) /* bytes */
#define MODEL_LIMIT ((size_t)4 << 30)      /* bytes of model.safetensors */
#define BATCH_MAX 1024U                    /* windows in a step */
#define QUICK_WINDOWS 48U                  /* held-out windows judged on the way */
#define FINAL_WINDOWS 2048U                /* and at the end, at most */

static const struct setting TABLE[] = {
    {.name = "corpus", .type = SETTING_TEXT, .doc = "training text, one JSON document a line"},
    {.name = "heldout", .type = SETTING_TEXT, .doc = "held-out text, same form"},
    {.name = "tokenizer", .type = SETTING_TEXT, .doc = "folder with tokenizer.json"},
    {.name = "out", .type = SETTING_TEXT, .doc = "folder for checkpoint and model"},
    {.name = "steps",
     .type = SETTING_U64,
     .fallback = "3000",
     .min = 1,
     .max = 1000000,
     .doc = "optimiser steps"},
    {.name = "batch",
     .type = SETTING_U64,
     .fallback = "16",
     .min = 1,
     .max = BATCH_MAX,
     .doc = "windows in a step"},
    {.name = "context",
     .type = SETTING_U64,
     .fallback = "256",
     .min = 8,
     .max = 8192,
     .doc = "tokens in a window; the model's longest text"},
    {.name = "seed", .type = SETTING_U64, .fallback = "1", .doc = "of weights and order"},
    {.name = "threads",
     .type = SETTING_U64,
     .fallback = "0",
     .max = 256,
     .doc = "threads; 0: one per core. Does not change the result"},
    {.name = "micro-batch-rows",
     .type = SETTING_U64,
     .fallback = "1024",
     .min = 1,
     .max = LM_MICRO_BATCH_ROWS_MAX,
     .doc = "tokens trained on at once, at least one window: memory. Does not change the result"},
    {.name = "recompute",
     .type = SETTING_BOOL,
     .fallback = "false",
     .doc = "layers run again in the backward pass: less memory, more time. Does not change the "
            "result"},
    {.name = "layers",
     .type = SETTING_U64,
     .fallback = "6",
     .min = 1,
     .max = LM_LAYERS_MAX,
     .doc = "transformer blocks"},
    {.name = "hidden",
     .type = SETTING_U64,
     .fallback = "192",
     .min = 2,
     .max = LM_HIDDEN_MAX,
     .doc = "width of the model"},
    {.name = "heads",
     .type = SETTING_U64,
     .fallback = "6",
     .min = 1,
     .max = LM_HEADS_MAX,
     .doc = "query heads"},
    {.name = "kv-heads",
     .type = SETTING_U64,
     .fallback = "2",
     .min = 1,
     .max = LM_HEADS_MAX,
     .doc = "key and value heads"},
    {.name = "ffn",
     .type = SETTING_U64,
     .fallback = "512",
     .min = 2,
     .max = LM_FFN_MAX,
     .doc = "width of the feed-forward block"},
    {.name = "rate",
     .type = SETTING_F64,
     .fallback = "0.003",
     .min = 1e-9,
     .max = 10,
     .doc = "peak learning rate"},
    {.name = "warmup",
     .type = SETTING_U64,
     .fallback = "100",
     .max = 1000000,
     .doc = "steps of linear warm-up"},
    {.name = "weight-decay",
     .type = SETTING_F64,
     .fallback = "0.1",
     .min = 0,
     .max = 10,
     .doc = "decoupled weight decay"},
    {.name = "save-every",
     .type = SETTING_U64,
     .fallback = "200",
     .min = 1,
     .max = 1000000,
     .doc = "steps between checkpoints"},
    {.name = "judge-every",
     .type = SETTING_U64,
     .fallback = "200",
     .min = 1,
     .max = 1000000,
     .doc = "steps between held-out losses"},
    {.name = "until",
     .type = SETTING_U64,
     .fallback = "0",
     .max = 1000000,
     .doc = "stop after this step with a checkpoint; 0: run to the end"},
    {.name = "expect",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "a manifest.json: fail unless the finished model has its digest"},
    {.name = "resume",
     .type = SETTING_BOOL,
     .fallback = "false",
     .doc = "go on from the checkpoint in --out"},
};

static const struct settings_spec SPEC = {
    .program = "openledger pretrain",
    .usage = "--corpus FILE --heldout FILE --tokenizer FOLDER --out FOLDER [options]",
    .about = "Trains a base model and writes it as a Hugging Face folder.",
    .table = TABLE,
    .count = sizeof TABLE / sizeof TABLE[0],
};

/* Everything of one run. */
struct run {
    const struct settings *settings;
    const char *out;
    struct pretrain_data corpus, heldout;
    struct lm_windows windows, judged;
    struct lm_trainer *trainer;
    struct pool *pool;
    struct digest expected; /* zero: whatever comes */
    uint32_t batch;
    struct lm_example *examples; /* batch of them, or FINAL_WINDOWS */
};

static enum err checkpoint_save(const struct run *run, struct note *note)
{
    char path[FILE_PATH_SIZE];
    struct buf bytes;
    buf_init(&bytes, CHECKPOINT_LIMIT);
    enum err err = lm_trainer_save(run->trainer, &bytes);
    if (err == ERR_OK) {
        err = file_path(path, "%s/checkpoint.bin", run->out);
    }
    if (err == ERR_OK) {
        err = file_write_atomic(path, buf_bytes(&bytes), 0644, note);
    }
    buf_deinit(&bytes);
    return err;
}

static enum err checkpoint_load(const struct run *run, struct note *note)
{
    char path[FILE_PATH_SIZE];
    struct buf bytes;
    buf_init(&bytes, CHECKPOINT_LIMIT);
    enum err err = file_path(path, "%s/checkpoint.bin", run->out);
    if (err == ERR_OK) {
        err = file_read(path, &bytes, note);
    }
    if (err == ERR_OK) {
        err = lm_trainer_restore(run->trainer, buf_bytes(&bytes), note);
    }
    buf_deinit(&bytes);
    return err;
}

/* Mean held-out loss of the model as it would ship (bf16), over at most window_max windows spread
 * evenly. */
static enum err judge(const struct run *run, uint32_t window_max, struct lm_model **out_model,
                      double *out_loss, struct note *note)
{
    uint32_t all = run->judged.window_count;
    uint32_t count = all < window_max ? all : window_max;
    struct lm_loss *losses = calloc(count, sizeof *losses);
    struct lm_model *model = NULL;
    enum err err =
        losses == NULL ? ERR_NO_MEMORY : lm_trainer_take_model(run->trainer, &model, note);
    if (err == ERR_OK) {
        for (uint32_t i = 0; i < count; i++) {
            run->examples[i] = lm_windows_at(&run->judged, (uint32_t)((uint64_t)i * all / count));
        }
        err = lm_losses(model, NULL, run->examples, count, pool_parallel(run->pool), losses, NULL,
                        note);
    }
    if (err == ERR_OK) {
        double sum = 0.0;
        uint64_t tokens = 0;
        for (uint32_t i = 0; i < count; i++) {
            sum += losses[i].sum_nll;
            tokens += losses[i].count;
        }
        *out_loss = sum / (double)tokens;
    }
    if (err == ERR_OK && out_model != NULL) {
        *out_model = model;
        model = NULL;
    }
    lm_model_destroy(model);
    free(losses);
    return err;
}

static void progress(const struct lm_step_report *report, uint32_t step_count, double rate,
                     uint64_t tokens_per_step)
{
    double left =
        rate > 0.0 ? (double)(step_count - report->step) * (double)tokens_per_step / rate : 0.0;
    (void)fprintf(stderr,
                  "step %u/%u  loss %.4f  norm %.3f  rate %.2e  %.0f tokens/s  eta %.0f min\n",
                  report->step, step_count, report->loss, (double)report->gradient_norm,
                  (double)report->learning_rate, rate, left / 60.0);
}

/* Steps until done, told to stop, or the --until step. */
static enum err train(struct run *run, struct note *note)
{
    const struct settings *settings = run->settings;
    uint32_t step_count = lm_trainer_options(run->trainer)->step_count;
    uint64_t until = settings_u64(settings, "until");
    until = until == 0 || until > step_count ? step_count : until;
    uint64_t tokens = (uint64_t)run->batch * run->windows.context;
    uint64_t mark_ms = clock_mono_ms();
    uint32_t mark_step = lm_trainer_steps(run->trainer);
    enum err err = ERR_OK;
    while (err == ERR_OK && lm_trainer_steps(run->trainer) < until && !signals_stop_requested()) {
        struct lm_step_report report;
        lm_windows_step(&run->windows, lm_trainer_steps(run->trainer), run->batch, run->examples);
        err = lm_trainer_step(run->trainer, run->examples, run->batch, pool_parallel(run->pool),
                              &report, note);
        if (err != ERR_OK) {
            break;
        }
        uint64_t now_ms = clock_mono_ms();
        if (now_ms - mark_ms >= 10000 || report.step == until) {
            double seconds = (double)(now_ms - mark_ms + 1) / 1000.0;
            progress(&report, step_count,
                     (double)(report.step - mark_step) * (double)tokens / seconds, tokens);
            mark_ms = now_ms;
            mark_step = report.step;
        }
        if (report.step % settings_u64(settings, "save-every") == 0) {
            err = checkpoint_save(run, note);
        }
        if (err == ERR_OK && report.step % settings_u64(settings, "judge-every") == 0) {
            double loss = 0.0;
            err = judge(run, QUICK_WINDOWS, NULL, &loss, note);
            (void)fprintf(stderr, "step %u  held-out loss %.4f\n", report.step, loss);
        }
    }
    return err == ERR_OK ? checkpoint_save(run, note) : err;
}

static enum err output_write(const struct run *run, const char *name, struct bytes content,
                             struct note *note)
{
    char path[FILE_PATH_SIZE];
    enum err err = file_path(path, "%s/%s", run->out, name);
    return err == ERR_OK ? file_write_atomic(path, content, 0644, note) : err;
}

/* The tokenizer's files travel with the model. */
static enum err tokenizer_copy(const struct run *run, struct note *note)
{
    static const char *const NAMES[] = {"tokenizer.json", "tokenizer_config.json"};
    enum err err = ERR_OK;
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0] && err == ERR_OK; i++) {
        char path[FILE_PATH_SIZE];
        struct buf bytes;
        buf_init(&bytes, LM_TOKENIZER_FILE_MAX);
        err = file_path(path, "%s/%s", settings_text(run->settings, "tokenizer"), NAMES[i]);
        if (err == ERR_OK && file_exists(path)) {
            err = file_read(path, &bytes, note);
            if (err == ERR_OK) {
                err = output_write(run, NAMES[i], buf_bytes(&bytes), note);
            }
        }
        buf_deinit(&bytes);
    }
    return err;
}

static void manifest_data(struct json_writer *writer, const char *key,
                          const struct pretrain_data *data)
{
    char text[DIGEST_TEXT_SIZE];
    json_write_key(writer, key);
    json_begin_object(writer);
    json_put_text(writer, "sha256", digest_format(&data->digest, text));
    json_put_u64(writer, "documents", data->document_count);
    json_put_u64(writer, "bytes", data->byte_count);
    json_put_u64(writer, "tokens", data->ids.count);
    json_write_key(writer, "sources");
    json_begin_array(writer);
    for (uint32_t i = 0; i < data->source_count; i++) {
        json_begin_object(writer);
        json_put_text(writer, "source", data->sources[i].name);
        json_put_u64(writer, "documents", data->sources[i].document_count);
        json_put_u64(writer, "tokens", data->sources[i].token_count);
        json_end_object(writer);
    }
    json_end_array(writer);
    json_end_object(writer);
}

static void manifest_write(const struct run *run, const struct lm_model *model,
                           struct bytes weights, double loss, struct buf *out)
{
    const struct lm_train_options *options = lm_trainer_options(run->trainer);
    char text[DIGEST_TEXT_SIZE];
    struct digest digest;
    struct json_writer writer;
    json_writer_init(&writer, out, true);
    json_begin_object(&writer);
    json_put_text(&writer, "kind", PRETRAIN_MANIFEST_KIND);
    lm_model_digest(model, &digest);
    json_put_text(&writer, "model_digest", digest_format(&digest, text));
    sha256(weights, &digest);
    json_put_text(&writer, "model.safetensors", digest_format(&digest, text));
    json_put_text(&writer, "tokenizer.json", digest_format(&run->corpus.tokenizer_digest, text));
    json_put_u64(&writer, "parameters", lm_config_weights(lm_model_config(model)));
    json_put_double(&writer, "heldout_loss", loss);
    json_put_u64(&writer, "tokens_seen",
                 (uint64_t)options->step_count * run->batch * run->windows.context);
    manifest_data(&writer, "corpus", &run->corpus);
    manifest_data(&writer, "heldout", &run->heldout);
    json_write_key(&writer, "settings");
    json_begin_object(&writer);
    json_put_u64(&writer, "seed", options->seed);
    json_put_u64(&writer, "steps", options->step_count);
    json_put_u64(&writer, "warmup", options->warmup_count);
    json_put_u64(&writer, "batch", run->batch);
    json_put_u64(&writer, "context", run->windows.context);
    json_put_double(&writer, "rate", settings_f64(run->settings, "rate"));
    json_put_double(&writer, "weight_decay", settings_f64(run->settings, "weight-decay"));
    json_put_double(&writer, "clip_norm", (double)options->clip_norm);
    json_end_object(&writer);
    struct buf command;
    buf_init(&command, 4096);
    (void)buf_printf(&command,
                     "openledger pretrain --corpus train.jsonl --heldout heldout.jsonl "
                     "--tokenizer tokenizer --out model --steps %u --batch %u --context %u "
                     "--seed %" PRIu64 " --layers %" PRIu64 " --hidden %" PRIu64 " --heads %" PRIu64
                     " --kv-heads %" PRIu64 " --ffn %" PRIu64
                     " --rate %g --warmup %u --weight-decay %g",
                     options->step_count, run->batch, run->windows.context, options->seed,
                     settings_u64(run->settings, "layers"), settings_u64(run->settings, "hidden"),
                     settings_u64(run->settings, "heads"), settings_u64(run->settings, "kv-heads"),
                     settings_u64(run->settings, "ffn"), settings_f64(run->settings, "rate"),
                     options->warmup_count, settings_f64(run->settings, "weight-decay"));
    json_put_text(&writer, "command", buf_text(&command));
    buf_deinit(&command);
    json_end_object(&writer);
    (void)buf_append_byte(out, '\n');
}

/* The finished model: bf16 weights and everything that belongs to them. */
static enum err ship(const struct run *run, struct note *note)
{
    struct lm_model *model = NULL;
    double loss = 0.0;
    struct buf weights;
    struct buf text;
    buf_init(&weights, MODEL_LIMIT);
    buf_init(&text, (size_t)16 << 20);
    enum err err = judge(run, FINAL_WINDOWS, &model, &loss, note);
    if (err == ERR_OK) {
        (void)fprintf(stderr, "final held-out loss %.4f (bf16)\n", loss);
        err = lm_model_export(model, &weights);
    }
    if (err == ERR_OK) {
        err = output_write(run, "model.safetensors", buf_bytes(&weights), note);
    }
    if (err == ERR_OK) {
        err = lm_config_write(lm_model_config(model), &text);
    }
    if (err == ERR_OK) {
        err = output_write(run, "config.json", buf_bytes(&text), note);
    }
    buf_clear(&text);
    if (err == ERR_OK) {
        err = lm_generation_config_write(lm_model_config(model), &text);
    }
    if (err == ERR_OK) {
        err = output_write(run, "generation_config.json", buf_bytes(&text), note);
    }
    buf_clear(&text);
    if (err == ERR_OK) {
        err = tokenizer_copy(run, note);
    }
    if (err == ERR_OK) {
        manifest_write(run, model, buf_bytes(&weights), loss, &text);
        err = buf_err(&text);
    }
    if (err == ERR_OK) {
        err = output_write(run, "manifest.json", buf_bytes(&text), note);
    }
    if (err == ERR_OK && !digest_is_zero(&run->expected)) {
        struct digest made;
        lm_model_digest(model, &made);
        err = pretrain_expect_check(&run->expected, &made, note);
        if (err == ERR_OK) {
            char digest[DIGEST_TEXT_SIZE];
            (void)fprintf(stderr, "the model is the expected one: %s\n",
                          digest_format(&made, digest));
        }
    }
    buf_deinit(&weights);
    buf_deinit(&text);
    lm_model_destroy(model);
    return err;
}

static enum err trainer_make(struct run *run, struct note *note)
{
    const struct settings *settings = run->settings;
    struct lm_config config = {
        .hidden = (uint32_t)settings_u64(settings, "hidden"),
        .ffn = (uint32_t)settings_u64(settings, "ffn"),
        .layer_count = (uint32_t)settings_u64(settings, "layers"),
        .head_count = (uint32_t)settings_u64(settings, "heads"),
        .kv_head_count = (uint32_t)settings_u64(settings, "kv-heads"),
        .vocab = run->corpus.vocab,
        .context = (uint32_t)settings_u64(settings, "context"),
        .norm_epsilon = 1e-5F,
        .rope_theta = 10000.0F,
        .tied = true,
        .bos = LM_NO_TOKEN,
        .eos = run->corpus.end_of_text,
    };
    config.head_dim = config.hidden / config.head_count;
    struct lm_train_options options = lm_pretrain_defaults();
    options.seed = settings_u64(settings, "seed");
    options.step_count = (uint32_t)settings_u64(settings, "steps");
    options.warmup_count = (uint32_t)settings_u64(settings, "warmup");
    options.learning_rate = (float)settings_f64(settings, "rate");
    options.weight_decay = (float)settings_f64(settings, "weight-decay");
    options.micro_batch_rows = (uint32_t)settings_u64(settings, "micro-batch-rows");
    options.recompute = settings_bool(settings, "recompute");
    if (options.warmup_count > options.step_count / 2) {
        options.warmup_count = options.step_count / 2;
    }
    return lm_trainer_create_full(&config, &options, NULL, &run->trainer, note);
}

static enum err run_prepare(struct run *run, struct note *note)
{
    const struct settings *settings = run->settings;
    const char *tokenizer = settings_text(settings, "tokenizer");
    uint32_t context = (uint32_t)settings_u64(settings, "context");
    uint64_t seed = settings_u64(settings, "seed");
    const char *expect = settings_text(settings, "expect");
    enum err err = file_make_folders(run->out, note);
    if (err == ERR_OK && expect[0] != '\0') {
        err = pretrain_expect_load(expect, &run->expected, note);
    }
    if (err == ERR_OK) {
        err = pretrain_data_load(&run->corpus, settings_text(settings, "corpus"), tokenizer, note);
    }
    if (err == ERR_OK) {
        err =
            pretrain_data_load(&run->heldout, settings_text(settings, "heldout"), tokenizer, note);
    }
    if (err == ERR_OK) {
        (void)fprintf(stderr, "corpus: %" PRIu64 " documents, %zu tokens; held out: %zu tokens\n",
                      run->corpus.document_count, run->corpus.ids.count, run->heldout.ids.count);
        err = lm_windows_init(&run->windows, run->corpus.ids.items, run->corpus.ids.count, context,
                              seed);
        if (err == ERR_OK) {
            err = lm_windows_init(&run->judged, run->heldout.ids.items, run->heldout.ids.count,
                                  context, seed);
        }
        if (err == ERR_RANGE) {
            err = note_set(note, err, "corpus or held-out text is shorter than one window");
        }
    }
    if (err == ERR_OK) {
        run->batch = (uint32_t)settings_u64(settings, "batch");
        run->examples = calloc(FINAL_WINDOWS, sizeof *run->examples);
        run->pool = pool_create((uint32_t)settings_u64(settings, "threads"));
        err = run->examples == NULL || run->pool == NULL ? ERR_NO_MEMORY : trainer_make(run, note);
    }
    if (err == ERR_OK && settings_bool(settings, "resume")) {
        err = checkpoint_load(run, note);
    }
    return err;
}

static void run_deinit(struct run *run)
{
    lm_trainer_destroy(run->trainer);
    pool_destroy(run->pool);
    lm_windows_deinit(&run->windows);
    lm_windows_deinit(&run->judged);
    pretrain_data_deinit(&run->corpus);
    pretrain_data_deinit(&run->heldout);
    free(run->examples);
}

int cmd_pretrain(int argc, char **argv)
{
    static_assert(BATCH_MAX <= FINAL_WINDOWS, "one array serves both");
    struct note note = {0};
    struct settings *settings = NULL;
    enum err err = settings_load(&SPEC, argc, argv, &settings, &note);
    if (err != ERR_OK) {
        (void)fprintf(stderr, "openledger pretrain: %s\n", note.text);
        return EXIT_USAGE;
    }
    if (settings_help_wanted(settings)) {
        struct buf help;
        buf_init(&help, 65536);
        settings_help(&SPEC, &help);
        (void)fputs(buf_text(&help), stdout);
        buf_deinit(&help);
        settings_destroy(settings);
        return EXIT_DONE;
    }
    struct run run = {.settings = settings, .out = settings_text(settings, "out")};
    err = run_prepare(&run, &note);
    if (err == ERR_OK) {
        err = train(&run, &note);
    }
    if (err == ERR_OK) {
        uint32_t done = lm_trainer_steps(run.trainer);
        if (done == lm_trainer_options(run.trainer)->step_count) {
            err = ship(&run, &note);
        } else {
            (void)fprintf(stderr, "stopped after step %u; --resume goes on\n", done);
        }
    }
    run_deinit(&run);
    settings_destroy(settings);
    if (err != ERR_OK) {
        (void)fprintf(stderr, "openledger pretrain: %s (%s)\n", note.text, err_name(err));
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}
