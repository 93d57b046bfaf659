/* main.c - the trainer process (ModelFactory): takes jobs from the queue and trains adapters. */
#include "services/trainer/api.h"
#include "shared/base/log.h"
#include "shared/lineage/lineage.h"
#include "shared/lm/train.h"
#include "shared/platform/clock.h"

static const struct setting SETTINGS[] = {
    {.name = "genesis",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "the genesis file; empty: settlement is asked for it, and trusted once"},
    {.name = "threads",
     .type = SETTING_U64,
     .fallback = "0",
     .min = 0,
     .max = 256,
     .doc = "threads for the model; 0: one per core"},
    {.name = "backend",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "who does the model's arithmetic (kernels/README.md); empty: the CPU's fastest"},
    {.name = "save-every",
     .type = SETTING_U64,
     .fallback = "20",
     .min = 1,
     .max = 100000,
     .doc = "steps between checkpoints on disk"},
    {.name = "micro-batch-rows",
     .type = SETTING_U64,
     .fallback = "1024",
     .min = 1,
     .max = LM_MICRO_BATCH_ROWS_MAX,
     .doc = "tokens trained on at once, at least one text: memory. Does not change the result"},
    {.name = "recompute",
     .type = SETTING_BOOL,
     .fallback = "false",
     .doc =
         "layers run again in the backward pass instead of keeping all: less memory, a third more "
         "time. Does not change the result"},
};

static const struct service_config CONFIG = {
    .name = "trainer",
    .about = "Fine-tunes adapters on dataset versions: one job at a time from the queue.",
    .settings = SETTINGS,
    .setting_count = sizeof SETTINGS / sizeof SETTINGS[0],
};

struct trainer {
    struct service *service;
    struct follow *follow;
    struct operator_account account;
    struct trainer_api api;
};

static void on_tick(void *context)
{
    struct trainer *trainer = context;
    (void)follow_pump(trainer->follow);
    uint64_t now = clock_mono_ms();
    bool ready = operator_ready(&trainer->account, trainer->follow, now);
    service_ready(trainer->service, ready, ready ? NULL : trainer->account.why.text);
    if (ready) {
        jobs_tick(trainer->api.jobs, now);
    }
}

/* On the follower's thread. A full queue is no loss: the timer pumps too. */
static void on_wake(void *context)
{
    struct trainer *trainer = context;
    if (service_post(trainer->service, on_tick, trainer) != ERR_OK) {
        log_debug("wake_dropped");
    }
}

static enum service_verdict on_progress(void *context, struct bus_message *message,
                                        struct note *note)
{
    struct trainer *trainer = context;
    (void)note;
    jobs_on_progress(trainer->api.jobs, bus_message_data(message));
    return SERVICE_DONE;
}

static enum err start(struct trainer *trainer, struct note *note)
{
    struct service *service = trainer->service;
    const struct settings *settings = service_settings(service);
    enum err err = operator_open(&trainer->account, service_data_dir(service),
                                 service_key_file(service), LEDGER_ROLE_TRAINER, "trainer", note);
    if (err == ERR_OK) {
        struct follow_options options = {.bus = service_bus(service),
                                         .blobs = service_blobs(service),
                                         .genesis_file = settings_text(settings, "genesis"),
                                         .wake = on_wake,
                                         .context = trainer};
        err = follow_open(&options, &trainer->follow, note);
    }
    const struct kernels *kernels = NULL;
    if (err == ERR_OK) {
        err = lineage_backend(settings_text(settings, "backend"), &kernels, note);
    }
    if (err == ERR_OK) {
        struct jobs_options options = {.service = service,
                                       .follow = trainer->follow,
                                       .operator_account = &trainer->account,
                                       .kernels = kernels,
                                       .threads = (uint32_t)settings_u64(settings, "threads"),
                                       .save_every = (uint32_t)settings_u64(settings, "save-every"),
                                       .micro_batch_rows =
                                           (uint32_t)settings_u64(settings, "micro-batch-rows"),
                                       .recompute = settings_bool(settings, "recompute")};
        err = jobs_create(&options, &trainer->api.jobs, note);
    }
    trainer->api.follow = trainer->follow;
    return err;
}

int main(int argc, char **argv)
{
    struct trainer trainer = {.service = NULL};
    struct note note = {""};
    crypto_start();
    int code = service_open(&CONFIG, argc, argv, &trainer.service);
    if (trainer.service == NULL) {
        return code;
    }
    if (start(&trainer, &note) != ERR_OK) {
        log_error("start_failed note=\"%s\"", note.text);
        code = 1;
    } else {
        char id[ACCOUNT_ID_TEXT_SIZE];
        log_info("account id=%s", account_id_format(&trainer.account.id, id));
        service_rpc(trainer.service, &trainer_rpc, &trainer.api);
        service_subscribe(trainer.service, JOBS_PROGRESS_SUBJECT, on_progress, &trainer);
        service_every(trainer.service, 200, on_tick, &trainer);
        code = service_run(trainer.service);
    }
    jobs_destroy(trainer.api.jobs);
    follow_close(trainer.follow);
    operator_close(&trainer.account);
    service_close(trainer.service);
    return code;
}
