/* main.c - the datanet process: takes contributions, finds duplicates, prepares versions. */
#include "services/datanet/api.h"
#include "services/datanet/recover.h"
#include "shared/base/log.h"
#include "shared/platform/clock.h"
#include "shared/service/service.h"

static const struct setting SETTINGS[] = {
    {.name = "genesis",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "the genesis file; empty: settlement is asked for it, and trusted once"},
};

static const struct service_config CONFIG = {
    .name = "datanet",
    .about = "Takes signed contributions of rows, finds duplicates, prepares and proves versions.",
    .settings = SETTINGS,
    .setting_count = sizeof SETTINGS / sizeof SETTINGS[0],
};

#define RECOVER_RETRY_MS 30000 /* after a disk that could not be read */

struct process {
    struct service *service;
    uint64_t recover_at_ms; /* monotonic */
    struct datanet_api api;
};

/* Uploaded but not reviewed: the store knows the content, the ledger does not yet. */
static enum err uploaded_content(void *context, const struct digest *contribution,
                                 struct digest *out_content)
{
    struct process *process = context;
    struct upload upload;
    enum err err = datanet_store_get(process->api.store, contribution, &upload, NULL);
    if (err == ERR_OK && !upload.finished) {
        err = ERR_NOT_FOUND;
    }
    if (err == ERR_OK) {
        *out_content = upload.digest;
    }
    return err;
}

/* After the store was lost: once the ledger is read, its uploads are looked for, until that has worked. */
static bool uploads_known(struct process *process)
{
    struct datanet_api *api = &process->api;
    struct note note = {""};
    uint64_t count = 0;
    if (!datanet_store_lost(api->store)) {
        return true;
    }
    if (clock_mono_ms() < process->recover_at_ms) {
        return false;
    }
    enum err err =
        datanet_recover(api->store, api->blobs, follow_ledger(api->follow), &count, &note);
    err = err ? err : datanet_store_found(api->store, &note);
    if (err != ERR_OK) {
        process->recover_at_ms = clock_mono_ms() + RECOVER_RETRY_MS;
        log_warn("uploads_not_found err=%s note=\"%s\"", err_name(err), note.text);
        return false;
    }
    log_info("uploads_found count=%llu", (unsigned long long)count);
    return true;
}

static void on_pump(void *context)
{
    struct process *process = context;
    (void)follow_pump(process->api.follow);
    bool read = follow_caught_up(process->api.follow);
    bool ready = read && uploads_known(process);
    service_ready(process->service, ready,
                  ready  ? NULL
                  : read ? "looking for uploads among the blobs"
                         : "catching up with the ledger");
}

/* Called on the follower's thread. A full queue is no loss: the timer pumps too. */
static void on_wake(void *context)
{
    struct process *process = context;
    if (service_post(process->service, on_pump, process) != ERR_OK) {
        log_debug("wake_dropped");
    }
}

static enum err start(struct process *process, struct note *note)
{
    struct service *service = process->service;
    struct datanet_api *api = &process->api;
    struct follow_options options = {
        .bus = service_bus(service),
        .blobs = service_blobs(service),
        .genesis_file = settings_text(service_settings(service), "genesis"),
        .wake = on_wake,
        .context = process,
    };
    struct datanet_uploads uploads = {.content = uploaded_content, .context = process};
    api->blobs = service_blobs(service);
    enum err err = datanet_store_open(service_data_dir(service), &api->store, note);
    err = err != ERR_OK ? err : follow_open(&options, &api->follow, note);
    if (err == ERR_OK) {
        api->datanet = datanet_create(api->blobs, uploads);
        err = api->datanet == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    return err;
}

int main(int argc, char **argv)
{
    struct process process = {.service = NULL};
    int code = service_open(&CONFIG, argc, argv, &process.service);
    if (process.service == NULL) {
        return code;
    }
    struct note note = {""};
    if (start(&process, &note) == ERR_OK) {
        service_rpc(process.service, &datanet_rpc, &process.api);
        service_every(process.service, 200, on_pump, &process);
        code = service_run(process.service);
    } else {
        log_error("start_failed note=\"%s\"", note.text);
        code = 1;
    }
    datanet_destroy(process.api.datanet);
    follow_close(process.api.follow);
    datanet_store_close(process.api.store);
    service_close(process.service);
    return code;
}
