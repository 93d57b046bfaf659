/* cmd_base.c - model: base models registered, listed, and judged under each precision. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "services/openledger/act.h"
#include "services/openledger/commands.h"
#include "services/openledger/form.h"
#include "services/openledger/output.h"
#include "services/openledger/pretrain_data.h"
#include "shared/base/hex.h"
#include "shared/json/json.h"
#include "shared/lineage/bundle.h"
#include "shared/lineage/lineage.h"
#include "shared/lm/gradient.h"
#include "shared/lm/windows.h"
#include "shared/platform/pool.h"

static int finish(struct cli *cli, struct key_pair *keys, enum err err, const char *what)
{
    int code = err == ERR_OK ? 0 : cli_fail(cli, what);
    key_pair_destroy(keys);
    cli_close(cli);
    return code;
}

static int model_register(int argc, char **argv)
{
    static const struct setting SETTINGS[] = {
        {.name = "blob-dir",
         .type = SETTING_TEXT,
         .fallback = "",
         .doc = "the suite's blob folder; empty: <home>/blobs"},
        {.name = "licence", .type = SETTING_TEXT, .fallback = "Apache-2.0", .doc = "SPDX"},
        {.name = "precision",
         .type = SETTING_TEXT,
         .fallback = "stored",
         .doc = "arithmetic for all services: fp32, bf16, f16, int8 (no training); stored: the "
                "file's"}};
    static const struct cli_spec SPEC = {
        .name = "openledger model register",
        .usage = "NAME FOLDER|FILE.gguf",
        .about = "Stores a Hugging Face folder (sharded or not), or one GGUF file, and registers "
                 "it as a\n"
                 "base model. A run that was cut off goes on where it stopped.",
        .settings = SETTINGS,
        .count = sizeof SETTINGS / sizeof *SETTINGS,
        .positional_min = 2,
        .positional_max = 2};
    struct cli cli;
    struct key_pair *keys = NULL;
    char blobs[FILE_PATH_SIZE];
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    const char *folder = settings_text(cli.settings, "blob-dir");
    enum err err =
        folder[0] != '\0' ? file_path(blobs, "%s", folder) : file_path(blobs, "%s/blobs", cli.home);
    struct act_model model = {.name = settings_positional(cli.settings, 0),
                              .folder = settings_positional(cli.settings, 1),
                              .blob_folder = blobs,
                              .licence = settings_text(cli.settings, "licence")};
    const char *precision = settings_text(cli.settings, "precision");
    err = err != ERR_OK ? err : lm_precision_find(precision, &model.precision, &cli.note);
    err = err != ERR_OK ? err : cli_signer(&cli, &keys);
    err = err != ERR_OK ? err : act_register_model(&cli, keys, &model);
    return finish(&cli, keys, err, "model register");
}

static int model_list(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger model list", .usage = "", .about = "Lists the base models."};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    Openledger__V1__ListRequest request = OPENLEDGER__V1__LIST_REQUEST__INIT;
    const Openledger__V1__ListModelsReply *reply;
    enum err err = cli_call(&cli, "Registry.ListModels", &request.base, &reply);
    if (err == ERR_OK && !cli_print_json(&cli, &reply->base)) {
        static const char *const HEADERS[] = {"NAME", "LICENCE", "CONTENT"};
        struct output_table *table = output_table_create(3, HEADERS);
        for (size_t i = 0; i < reply->n_models; i++) {
            char hex[2 * DIGEST_SIZE + 1];
            output_cell(table, "%s", reply->models[i]->name);
            output_cell(table, "%s", reply->models[i]->licence);
            output_cell(table, "%s", cli_hex(reply->models[i]->content, hex));
        }
        output_table_finish(table);
    }
    return finish(&cli, NULL, err, "model list");
}

/* ---- evaluate: perplexity of each precision ---- */

enum { EVALUATE_CONTEXT_MAX = 512, EVALUATE_WINDOWS_MAX = 4096 };

/* What was found under one precision. */
struct found {
    double loss;      /* nats per token */
    uint64_t memory;  /* bytes of weights */
    struct digest id; /* of the arithmetic profile */
};

struct evaluation {
    struct lineage_bundle *bundle;
    struct pretrain_data heldout;
    struct lm_windows windows;
    struct lm_example *examples; /* [count] */
    struct lm_loss *losses;      /* [count] */
    uint32_t count;
    struct pool *pool;
};

/* Maps the model, makes the text into ids with its tokenizer. */
static enum err evaluation_read(struct evaluation *run, const char *path, const char *heldout,
                                struct lm_config *out_config, struct note *note)
{
    struct lm_weights weights = {0};
    struct bytes tokenizer = {0};
    struct buf made;
    buf_init(&made, LM_TOKENIZER_FILE_MAX);
    enum err err = lineage_bundle_map(path, &run->bundle, note);
    err = err ? err : lineage_bundle_tokenizer(run->bundle, &made, &tokenizer, note);
    err = err ? err : lm_weights_init(&weights, run->bundle->files, run->bundle->count, note);
    err = err ? err : pretrain_data_read(&run->heldout, heldout, tokenizer, note);
    *out_config = weights.config;
    lm_weights_deinit(&weights);
    buf_deinit(&made);
    return err;
}

static enum err evaluation_open(struct evaluation *run, const char *path, const char *heldout,
                                uint32_t windows_max, struct note *note)
{
    struct lm_config config;
    enum err err = evaluation_read(run, path, heldout, &config, note);
    if (err != ERR_OK) {
        return err;
    }
    uint32_t context =
        config.context < EVALUATE_CONTEXT_MAX ? config.context : EVALUATE_CONTEXT_MAX;
    err =
        lm_windows_init(&run->windows, run->heldout.ids.items, run->heldout.ids.count, context, 0);
    if (err != ERR_OK) {
        return note_set(note, err, "%s has %zu tokens, %u are needed", heldout,
                        run->heldout.ids.count, context + 1);
    }
    uint32_t all = run->windows.window_count;
    run->count = all < windows_max ? all : windows_max;
    run->examples = calloc(run->count, sizeof *run->examples);
    run->losses = calloc(run->count, sizeof *run->losses);
    run->pool = pool_create(0);
    if (run->examples == NULL || run->losses == NULL || run->pool == NULL) {
        return ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < run->count; i++) { /* spread over the whole text */
        run->examples[i] = lm_windows_at(&run->windows, (uint32_t)((uint64_t)i * all / run->count));
    }
    return ERR_OK;
}

static void evaluation_close(struct evaluation *run)
{
    pool_destroy(run->pool);
    free(run->losses);
    free(run->examples);
    lm_windows_deinit(&run->windows);
    pretrain_data_deinit(&run->heldout);
    lineage_bundle_close(run->bundle);
}

static enum err evaluate(struct evaluation *run, enum lm_precision precision, struct found *out,
                         struct note *note)
{
    struct lineage_base *base = NULL;
    struct lineage_load how = {.precision = precision, .serve_only = true};
    enum err err = lineage_base_build(run->bundle, &how, &base, note);
    err = err ? err
              : lm_losses(base->model, NULL, run->examples, run->count, pool_parallel(run->pool),
                          run->losses, NULL, note);
    if (err == ERR_OK) {
        double sum = 0.0;
        uint64_t tokens = 0;
        for (uint32_t i = 0; i < run->count; i++) {
            sum += run->losses[i].sum_nll;
            tokens += run->losses[i].count;
        }
        *out = (struct found){.loss = sum / (double)tokens,
                              .memory = lm_model_memory(base->model),
                              .id = base->profile};
    }
    lineage_base_destroy(base);
    return err;
}

static enum err evaluation_print_json(const struct found *found)
{
    struct buf text;
    struct json_writer writer;
    char id[DIGEST_TEXT_SIZE];
    buf_init(&text, CLI_ARENA_MAX);
    json_writer_init(&writer, &text, true);
    json_begin_object(&writer);
    for (uint32_t i = LM_FP32; i < LM_PRECISION_COUNT; i++) {
        json_write_key(&writer, lm_precision_name((enum lm_precision)i));
        json_begin_object(&writer);
        json_put_double(&writer, "loss", found[i].loss);
        json_put_double(&writer, "perplexity", exp(found[i].loss));
        json_put_u64(&writer, "memory", found[i].memory);
        json_put_text(&writer, "profile", digest_format(&found[i].id, id));
        json_end_object(&writer);
    }
    json_end_object(&writer);
    enum err err = buf_err(&text);
    if (err == ERR_OK) {
        printf("%.*s\n", (int)text.size, (const char *)text.data);
    }
    buf_deinit(&text);
    return err;
}

static void evaluation_print(const struct found *found)
{
    static const char *const HEADERS[] = {"PRECISION", "LOSS", "PERPLEXITY", "LOST", "MIB"};
    struct output_table *table = output_table_create(5, HEADERS);
    for (uint32_t i = LM_FP32; i < LM_PRECISION_COUNT; i++) {
        output_cell(table, "%s", lm_precision_name((enum lm_precision)i));
        output_cell(table, "%.6f", found[i].loss);
        output_cell(table, "%.4f", exp(found[i].loss));
        output_cell(table, "%+.3f %%", 100.0 * expm1(found[i].loss - found[LM_FP32].loss));
        output_cell(table, "%.1f", (double)found[i].memory / (1 << 20));
    }
    output_table_finish(table);
}

static int model_evaluate(int argc, char **argv)
{
    static const struct setting SETTINGS[] = {
        {.name = "windows-max",
         .type = SETTING_U64,
         .fallback = "64",
         .min = 1,
         .max = EVALUATE_WINDOWS_MAX,
         .doc = "stretches of text judged, spread evenly; of 512 tokens, or the model's context"}};
    static const struct cli_spec SPEC = {
        .name = "openledger model evaluate",
        .usage = "FOLDER|FILE.gguf HELDOUT.jsonl",
        .about =
            "Perplexity of a Hugging Face folder, or one GGUF file, on held-out text under each\n"
            "precision.",
        .settings = SETTINGS,
        .count = 1,
        .positional_min = 2,
        .positional_max = 2};
    struct cli cli;
    struct found found[LM_PRECISION_COUNT];
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct evaluation run = {.count = 0};
    enum err err = evaluation_open(&run, settings_positional(cli.settings, 0),
                                   settings_positional(cli.settings, 1),
                                   (uint32_t)settings_u64(cli.settings, "windows-max"), &cli.note);
    for (uint32_t i = LM_FP32; i < LM_PRECISION_COUNT && err == ERR_OK; i++) {
        err = evaluate(&run, (enum lm_precision)i, &found[i], &cli.note);
    }
    if (err == ERR_OK && cli.json) {
        err = evaluation_print_json(found);
    } else if (err == ERR_OK) {
        evaluation_print(found);
    }
    evaluation_close(&run);
    return finish(&cli, NULL, err, "model evaluate");
}

static int model_revoke(int argc, char **argv)
{
    static const struct form FORM = {
        "openledger model revoke", "NAME [REASON]", "Lets no new job or adapter use a base model.",
        OPENLEDGER__V1__TX_BODY__ACTION_REVOKE_MODEL, "model:text reason:text?"};
    return form_run(&FORM, argc, argv);
}

int cmd_model(int argc, char **argv)
{
    static const struct command COMMANDS[] = {
        {"register", "register a base model", model_register},
        {"revoke", "let nothing new use a base model", model_revoke},
        {"list", "list base models", model_list},
        {"evaluate", "perplexity of each precision on held-out text", model_evaluate},
        {NULL, NULL, NULL}};
    return cli_dispatch("openledger model", COMMANDS, argc, argv);
}
