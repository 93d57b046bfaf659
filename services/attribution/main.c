/* main.c - the attribution process: indexes of adapters, shares of answers. */
#include "services/attribution/api.h"
#include "shared/base/log.h"
#include "shared/platform/clock.h"
#include "shared/platform/file.h"

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
};

static const struct service_config CONFIG = {
    .name = "attribution",
    .about = "Works out whose data shaped each answer and publishes the shares.",
    .settings = SETTINGS,
    .setting_count = sizeof SETTINGS / sizeof SETTINGS[0],
};

struct attribution {
    struct service *service;
    struct follow *follow;
    struct operator_account account;
    struct attribution_api api;
};

static void on_tick(void *context)
{
    struct attribution *attribution = context;
    (void)follow_pump(attribution->follow);
    bool ready = operator_ready(&attribution->account, attribution->follow, clock_mono_ms());
    service_ready(attribution->service, ready, ready ? NULL : attribution->account.why.text);
}

/* On the follower's thread. A full queue is no loss: the timer pumps too. */
static void on_wake(void *context)
{
    struct attribution *attribution = context;
    if (service_post(attribution->service, on_tick, attribution) != ERR_OK) {
        log_debug("wake_dropped");
    }
}

static enum err start(struct attribution *attribution, struct note *note)
{
    struct service *service = attribution->service;
    const struct settings *settings = service_settings(service);
    struct attribution_api *api = &attribution->api;
    enum err err =
        operator_open(&attribution->account, service_data_dir(service), service_key_file(service),
                      LEDGER_ROLE_ATTRIBUTION, "attribution", note);
    if (err == ERR_OK) {
        char folder[FILE_PATH_SIZE];
        err = file_path(folder, "%s/store", service_data_dir(service));
        if (err == ERR_OK) {
            err = attribution_store_open(folder, &api->store, note);
        }
    }
    if (err == ERR_OK) {
        struct follow_options options = {.bus = service_bus(service),
                                         .blobs = service_blobs(service),
                                         .genesis_file = settings_text(settings, "genesis"),
                                         .wake = on_wake,
                                         .context = attribution};
        err = follow_open(&options, &attribution->follow, note);
    }
    if (err == ERR_OK) {
        struct engine_options options = {.service = service,
                                         .follow = attribution->follow,
                                         .account = &attribution->account,
                                         .store = api->store,
                                         .threads = (uint32_t)settings_u64(settings, "threads")};
        err = engine_create(&options, &api->engine, note);
    }
    api->follow = attribution->follow;
    api->account = &attribution->account;
    return err;
}

int main(int argc, char **argv)
{
    struct attribution attribution = {.service = NULL};
    struct note note = {""};
    crypto_start();
    int code = service_open(&CONFIG, argc, argv, &attribution.service);
    if (attribution.service == NULL) {
        return code;
    }
    if (start(&attribution, &note) != ERR_OK) {
        log_error("start_failed note=\"%s\"", note.text);
        code = 1;
    } else {
        char id[ACCOUNT_ID_TEXT_SIZE];
        log_info("account id=%s", account_id_format(&attribution.account.id, id));
        service_rpc(attribution.service, &attribution_rpc, &attribution.api);
        service_every(attribution.service, 200, on_tick, &attribution);
        code = service_run(attribution.service);
    }
    engine_destroy(attribution.api.engine);
    follow_close(attribution.follow);
    attribution_store_close(attribution.api.store);
    operator_close(&attribution.account);
    service_close(attribution.service);
    return code;
}
