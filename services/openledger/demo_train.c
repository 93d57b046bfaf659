/* demo_train.c - training, publishing, and what the adapters learned; see demo.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/openledger/demo.h"
#include "services/openledger/output.h"
#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/blob/blob.h"
#include "shared/ledger/tx.h"
#include "shared/lineage/lineage.h"
#include "shared/lm/gradient.h"
#include "shared/platform/clock.h"
#include "shared/platform/pool.h"

/* Chosen so that one training takes well under a minute on two cores and the planted fact is learnt. */
enum {
    RANK = 16,
    ALPHA = 32,
    STEPS = 220,
    BATCH_ROWS = 8,
    RATE_PPM = 600,
    WARMUP = 10,
    CONTEXT = 256,
    DIGEST_EVERY = 50,
    INDEX_WAIT_MS = 120000,
    HELDOUT_MAX = 16 << 20,
    HELDOUT_ROWS_MAX = 4096
};

static const char *const MODEL_NAME = "openledger-3m";

static enum err add_adapter(struct demo *demo, struct demo_datanet *datanet, uint32_t version,
                            bool control)
{
    CHECK(demo->adapter_count < DEMO_ADAPTERS_MAX);
    struct demo_adapter *adapter = &demo->adapters[demo->adapter_count++];
    (void)snprintf(adapter->name, sizeof adapter->name, "%.32s%s", datanet->name,
                   control ? "-control" : "");
    adapter->datanet = datanet;
    adapter->version = version;
    adapter->control = control;
    adapter->steps = STEPS;
    struct act_job job = {.datanet = datanet->name,
                          .version = version,
                          .model = MODEL_NAME,
                          .fee = "25",
                          .settings = OPENLEDGER__V1__TRAIN_SETTINGS__INIT};
    job.settings.rank = RANK;
    job.settings.alpha = ALPHA;
    job.settings.steps = STEPS;
    job.settings.batch_rows = BATCH_ROWS;
    job.settings.learning_rate_ppm = RATE_PPM;
    job.settings.warmup_steps = WARMUP;
    job.settings.context = CONTEXT;
    job.settings.seed = 1;
    job.settings.digest_every = DIGEST_EVERY;
    return act_train(&demo->cli, demo->developer->keys, &job, &adapter->job);
}

static void show_progress(void *context, const Openledger__V1__TrainProgress *news)
{
    output_progress_update(context, news->step, "step %u of %u, loss %.3f, %.0f tokens/s",
                           news->step, news->steps, news->loss, news->tokens_per_second);
}

/* Waits for the job, puts the adapter up for sale. */
static enum err finish_adapter(struct demo *demo, struct demo_adapter *adapter)
{
    struct output_progress progress;
    char label[DEMO_NAME + 16];
    (void)snprintf(label, sizeof label, "%-20s", adapter->name);
    output_progress_start(&progress, label, STEPS);
    enum err err = act_watch(&demo->cli, &adapter->job, show_progress, &progress);
    if (err != ERR_OK) {
        return err;
    }
    Openledger__V1__GetJobRequest request = OPENLEDGER__V1__GET_JOB_REQUEST__INIT;
    const Openledger__V1__JobRecord *job;
    request.job = ledger_binary(adapter->job.bytes, DIGEST_SIZE);
    err = cli_call(&demo->cli, "Trainer.GetJob", &request.base, &job);
    err = err != ERR_OK ? err : digest_from_bytes(ledger_bytes(job->adapter), &adapter->content);
    if (err == ERR_OK) {
        (void)cli_hex(job->transcript_root, adapter->transcript_root);
        output_progress_finish(&progress, "transcript root %.16s...", adapter->transcript_root);
        err = act_publish_adapter(&demo->cli, demo->developer->keys, adapter->name, &adapter->job,
                                  "0.0002", "0.0005");
    }
    return err;
}

/* Attribution builds its indexes by itself; questions wait for them, so do we. */
static enum err wait_index(struct demo *demo, const struct demo_adapter *adapter)
{
    Openledger__V1__NameRequest request = OPENLEDGER__V1__NAME_REQUEST__INIT;
    char name[DEMO_NAME];
    uint64_t end_ms = clock_mono_ms() + INDEX_WAIT_MS;
    (void)snprintf(name, sizeof name, "%s", adapter->name);
    request.name = name;
    for (;;) {
        const Openledger__V1__AdapterRecord *record;
        enum err err = cli_call(&demo->cli, "Registry.GetAdapter", &request.base, &record);
        if (err == ERR_OK && record->attribution_index.len == DIGEST_SIZE) {
            return ERR_OK;
        }
        if (clock_mono_ms() >= end_ms) {
            return note_set(&demo->cli.note, ERR_TIMEOUT,
                            "the attribution index of %s was not published in %d s", adapter->name,
                            INDEX_WAIT_MS / 1000);
        }
        clock_sleep_ms(200);
    }
}

enum err demo_train(struct demo *demo)
{
    struct note *note = &demo->cli.note;
    char blobs[FILE_PATH_SIZE];
    const char *planted =
        json_as_text(json_member(json_member(demo->plan, "planted"), "datanet"), "");
    enum err err = file_path(blobs, "%s/blobs", demo->suite);
    struct act_model model = {.name = MODEL_NAME,
                              .folder = demo->model_folder,
                              .blob_folder = blobs,
                              .licence = "Apache-2.0"};
    err = err != ERR_OK ? err : act_register_model(&demo->cli, demo->developer->keys, &model);
    for (uint32_t i = 0; i < demo->datanet_count && err == ERR_OK; i++) {
        struct demo_datanet *datanet = &demo->datanets[i];
        err = add_adapter(demo, datanet, datanet->version, false);
    }
    for (uint32_t i = 0; i < demo->datanet_count && err == ERR_OK; i++) {
        if (strcmp(demo->datanets[i].name, planted) == 0) {
            err = add_adapter(demo, &demo->datanets[i], demo->datanets[i].version - 1, true);
        }
    }
    for (uint32_t i = 0; i < demo->adapter_count && err == ERR_OK; i++) {
        err = finish_adapter(demo, &demo->adapters[i]);
        err = err == ERR_OK ? err : note_wrap(note, err, "%s", demo->adapters[i].name);
    }
    for (uint32_t i = 0; i < demo->adapter_count && err == ERR_OK; i++) {
        err = wait_index(demo, &demo->adapters[i]);
    }
    return err;
}

/* ---- losses on held-out documents ---- */

struct heldout {
    struct lm_chat_row tokens;
    struct lm_example *examples;
    size_t *starts; /* of each example in tokens; one more at the end */
    uint32_t count;
};

static void heldout_deinit(struct heldout *heldout)
{
    lm_chat_row_deinit(&heldout->tokens);
    free(heldout->examples);
    free(heldout->starts);
}

/* Rows as training sees them, cut to the same context. */
static enum err heldout_load(const struct demo_datanet *datanet, const struct lineage_base *base,
                             struct heldout *heldout, struct note *note)
{
    struct buf file;
    buf_init(&file, HELDOUT_MAX);
    *heldout = (struct heldout){.count = 0};
    lm_chat_row_init(&heldout->tokens, HELDOUT_MAX);
    heldout->examples = calloc(HELDOUT_ROWS_MAX, sizeof *heldout->examples);
    heldout->starts = calloc(HELDOUT_ROWS_MAX + 1, sizeof *heldout->starts);
    enum err err = heldout->examples == NULL || heldout->starts == NULL
                       ? ERR_NO_MEMORY
                       : file_read(datanet->heldout, &file, note);
    size_t start = 0;
    while (err == ERR_OK && start < file.size && heldout->count < HELDOUT_ROWS_MAX) {
        const uint8_t *newline = memchr(file.data + start, '\n', file.size - start);
        size_t end = newline != NULL ? (size_t)(newline - file.data) : file.size;
        struct bytes line = {file.data + start, end - start};
        heldout->starts[heldout->count] = heldout->tokens.ids.count;
        err = line.size == 0 ? ERR_OK : lm_chat_row_json(&base->chat, line, &heldout->tokens, note);
        heldout->count += line.size > 0;
        start = end + 1;
    }
    buf_deinit(&file);
    if (err != ERR_OK) {
        return err;
    }
    if (heldout->count == 0) {
        return note_set(note, ERR_INVALID, "%s holds no documents", datanet->heldout);
    }
    heldout->starts[heldout->count] = heldout->tokens.ids.count;
    for (uint32_t i = 0; i < heldout->count; i++) {
        size_t count = heldout->starts[i + 1] - heldout->starts[i];
        heldout->examples[i] =
            (struct lm_example){.tokens = heldout->tokens.ids.items + heldout->starts[i],
                                .mask = heldout->tokens.mask + heldout->starts[i],
                                .count = (uint32_t)(count <= CONTEXT ? count : CONTEXT)};
    }
    return ERR_OK;
}

/* Mean nll per counted token. adapter may be NULL. out_rows: NULL, or room for each row's sum. */
static enum err mean_loss(const struct lineage_base *base, const struct lm_adapter *adapter,
                          const struct heldout *heldout, const struct parallel *parallel,
                          double *out_loss, double *out_rows, struct note *note)
{
    struct lm_loss *losses = calloc(heldout->count, sizeof *losses);
    double sum = 0;
    uint64_t count = 0;
    enum err err = losses == NULL ? ERR_NO_MEMORY
                                  : lm_losses(base->model, adapter, heldout->examples,
                                              heldout->count, parallel, losses, NULL, note);
    for (uint32_t i = 0; i < heldout->count && err == ERR_OK; i++) {
        sum += losses[i].sum_nll;
        count += losses[i].count;
        if (out_rows != NULL) {
            out_rows[i] = losses[i].sum_nll;
        }
    }
    free(losses);
    if (err == ERR_OK) {
        *out_loss = sum / (double)(count > 0 ? count : 1);
    }
    return err;
}

/* The base model's and the own adapter's loss on an adapter's held-out documents. */
static enum err measure_own(struct demo_adapter *adapter, const struct lineage_base *base,
                            const struct lm_adapter *own, const struct heldout *heldout,
                            const struct parallel *parallel, struct note *note)
{
    double *rows = calloc(2 * (size_t)heldout->count, sizeof *rows);
    enum err err =
        rows == NULL ? ERR_NO_MEMORY
                     : mean_loss(base, NULL, heldout, parallel, &adapter->loss_before, rows, note);
    err = err != ERR_OK ? err
                        : mean_loss(base, own, heldout, parallel, &adapter->loss_after,
                                    rows + heldout->count, note);
    adapter->heldout_rows = heldout->count;
    adapter->heldout_better = 0;
    for (uint32_t i = 0; i < heldout->count && err == ERR_OK; i++) {
        adapter->heldout_better += rows[heldout->count + i] < rows[i];
    }
    free(rows);
    return err;
}

static enum err measure(struct demo *demo, const struct lineage_base *base,
                        struct lm_adapter *const *adapters, const struct parallel *parallel)
{
    struct note *note = &demo->cli.note;
    enum err err = ERR_OK;
    for (uint32_t i = 0; i < demo->adapter_count && err == ERR_OK; i++) {
        struct demo_adapter *adapter = &demo->adapters[i];
        struct heldout heldout;
        err = heldout_load(adapter->datanet, base, &heldout, note);
        err =
            err != ERR_OK ? err : measure_own(adapter, base, adapters[i], &heldout, parallel, note);
        for (uint32_t k = 0; k < demo->datanet_count && err == ERR_OK && !adapter->control; k++) {
            err = mean_loss(base, adapters[k], &heldout, parallel, &adapter->loss_of_others[k],
                            NULL, note);
        }
        heldout_deinit(&heldout);
    }
    return err;
}

/* Its own loss must have fallen, and every other datanet's adapter must do worse. */
static enum err judge_losses(struct demo *demo)
{
    for (uint32_t i = 0; i < demo->adapter_count; i++) {
        const struct demo_adapter *adapter = &demo->adapters[i];
        if (!(adapter->loss_after < adapter->loss_before)) {
            return note_set(&demo->cli.note, ERR_INVALID,
                            "%s: held-out loss went from %.4f to %.4f: it did not fall",
                            adapter->name, adapter->loss_before, adapter->loss_after);
        }
        for (uint32_t k = 0; k < demo->datanet_count && !adapter->control; k++) {
            if (k != i && !(adapter->loss_of_others[k] > adapter->loss_after)) {
                return note_set(&demo->cli.note, ERR_INVALID,
                                "on %s's documents the adapter %s is better (%.4f) than its own "
                                "(%.4f)",
                                adapter->name, demo->adapters[k].name, adapter->loss_of_others[k],
                                adapter->loss_after);
            }
        }
    }
    return ERR_OK;
}

static void show_losses(const struct demo *demo)
{
    static const char *const HEADERS[] = {"HELD-OUT DOCUMENTS OF", ">BASE MODEL", ">OWN ADAPTER",
                                          ">ROWS BETTER", ">OTHER ADAPTERS"};
    struct output_table *table = output_table_create(5, HEADERS);
    for (uint32_t i = 0; i < demo->adapter_count; i++) {
        const struct demo_adapter *adapter = &demo->adapters[i];
        char others[128] = "";
        size_t used = 0;
        for (uint32_t k = 0; k < demo->datanet_count && !adapter->control; k++) {
            if (k != i && used < sizeof others) {
                used += (size_t)snprintf(others + used, sizeof others - used, "%s%.3f",
                                         used > 0 ? "  " : "", adapter->loss_of_others[k]);
            }
        }
        output_cell(table, "%s", adapter->name);
        output_cell(table, "%.3f", adapter->loss_before);
        output_cell(table, "%.3f", adapter->loss_after);
        output_cell(table, "%u of %u", adapter->heldout_better, adapter->heldout_rows);
        output_cell(table, "%s", others);
    }
    output_table_finish(table);
}

enum err demo_measure_losses(struct demo *demo)
{
    struct note *note = &demo->cli.note;
    char folder[FILE_PATH_SIZE];
    struct blob_store *blobs = NULL;
    struct lineage_base *base = NULL;
    struct lm_adapter *adapters[DEMO_ADAPTERS_MAX] = {NULL};
    struct pool *pool = pool_create(0);
    Openledger__V1__ListRequest request = OPENLEDGER__V1__LIST_REQUEST__INIT;
    const Openledger__V1__ListModelsReply *models;
    struct digest content;
    enum err err = pool == NULL ? ERR_NO_MEMORY : file_path(folder, "%s/blobs", demo->suite);
    err = err != ERR_OK ? err : blob_open(folder, &blobs, note);
    err = err != ERR_OK ? err : cli_call(&demo->cli, "Registry.ListModels", &request.base, &models);
    if (err == ERR_OK && models->n_models == 0) {
        err = note_set(note, ERR_NOT_FOUND, "the base model is not on the ledger");
    }
    err =
        err != ERR_OK ? err : digest_from_bytes(ledger_bytes(models->models[0]->content), &content);
    err = err != ERR_OK ? err : lineage_base_load(blobs, &content, NULL, &base, note);
    for (uint32_t i = 0; i < demo->adapter_count && err == ERR_OK; i++) {
        err = lineage_adapter_load(blobs, base, &demo->adapters[i].content, &adapters[i], note);
    }
    err = err != ERR_OK ? err : measure(demo, base, adapters, pool_parallel(pool));
    if (err == ERR_OK) {
        show_losses(demo);
        err = judge_losses(demo);
    }
    for (uint32_t i = 0; i < demo->adapter_count; i++) {
        lm_adapter_destroy(adapters[i]);
    }
    lineage_base_destroy(base);
    blob_close(blobs);
    pool_destroy(pool);
    return err;
}
