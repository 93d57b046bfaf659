/* act_model.c - registering a base model; see act.h. */
#include "services/openledger/act.h"
#include "services/openledger/output.h"
#include "shared/ledger/tx.h"
#include "shared/lineage/bundle.h"
#include "shared/lineage/lineage.h"

#define MIB (1U << 20)
#define SHOWN_FROM (UINT64_C(64) * MIB) /* bytes; below it is done before a bar is read */

static char *text(const char *borrowed)
{
    return (char *)(uintptr_t)borrowed;
}

static bool show(void *context, uint64_t done, uint64_t total)
{
    struct output_progress *bar = context;
    if (total >= SHOWN_FROM) {
        bar->total = total;
        output_progress_update(bar, done, "%llu of %llu MiB", (unsigned long long)done / MIB,
                               (unsigned long long)total / MIB);
    }
    return true;
}

/* Ends the step that the bar shows, with what came of it, and begins the next. */
static void shown(struct output_progress *bar, struct blob_progress *progress, enum err err,
                  const char *next)
{
    if (bar->drawn) {
        output_progress_finish(bar, err == ERR_OK ? "done" : "failed");
    }
    output_progress_start(bar, next, 0);
    *progress = (struct blob_progress){.report = show, .context = bar};
}

/* Stores the files and loads them back as every service will: so a model that cannot be served is
 * refused here, and the profile is derived, not claimed. */
static enum err store_model(struct cli *cli, const struct act_model *model,
                            struct digest *out_content, struct digest *out_profile)
{
    struct output_progress bar = {.drawn = false};
    struct blob_progress progress;
    struct blob_store *blobs = NULL;
    struct lineage_base *base = NULL;
    struct lineage_load how = {
        .precision = model->precision, .serve_only = true, .progress = &progress};
    shown(&bar, &progress, ERR_OK, "store");
    enum err err = blob_open(model->blob_folder, &blobs, &cli->note);
    err = err ? err : lineage_bundle_put(blobs, model->folder, &progress, out_content, &cli->note);
    shown(&bar, &progress, err, "check");
    err = err ? err : lineage_base_load(blobs, out_content, &how, &base, &cli->note);
    shown(&bar, &progress, err, "");
    if (err == ERR_OK) {
        *out_profile = base->profile;
    }
    lineage_base_destroy(base);
    blob_close(blobs);
    return err;
}

enum err act_register_model(struct cli *cli, const struct key_pair *keys,
                            const struct act_model *model)
{
    struct digest content;
    struct digest profile;
    enum err err = store_model(cli, model, &content, &profile);
    if (err != ERR_OK) {
        return note_wrap(&cli->note, err, "%s", model->folder);
    }
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__RegisterModel registration = OPENLEDGER__V1__REGISTER_MODEL__INIT;
    registration.name = text(model->name);
    registration.content = ledger_binary(content.bytes, DIGEST_SIZE);
    registration.profile = ledger_binary(profile.bytes, DIGEST_SIZE);
    registration.licence = text(model->licence);
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_REGISTER_MODEL;
    action.register_model = &registration;
    return act_submit(cli, keys, &action, NULL);
}
