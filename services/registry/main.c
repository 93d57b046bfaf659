/* main.c - the registry process: follows the ledger and answers what there is on it. */
#include "services/registry/api.h"
#include "shared/base/log.h"
#include "shared/follow/follow.h"
#include "shared/service/service.h"

static const struct setting SETTINGS[] = {
    {.name = "genesis",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "the genesis file; empty: settlement is asked for it, and trusted once"},
};

static const struct service_config CONFIG = {
    .name = "registry",
    .about = "Answers which accounts, datanets, models and adapters the ledger knows.",
    .settings = SETTINGS,
    .setting_count = sizeof SETTINGS / sizeof SETTINGS[0],
};

struct registry {
    struct service *service;
    struct follow *follow;
};

static void on_pump(void *context)
{
    struct registry *registry = context;
    (void)follow_pump(registry->follow);
    bool ready = follow_caught_up(registry->follow);
    service_ready(registry->service, ready, ready ? NULL : "catching up with the ledger");
}

/* Called on the follower's thread: the worker does the work. A full queue is no loss: the timer
 * pumps too. */
static void on_wake(void *context)
{
    struct registry *registry = context;
    if (service_post(registry->service, on_pump, registry) != ERR_OK) {
        log_debug("wake_dropped");
    }
}

int main(int argc, char **argv)
{
    struct registry registry = {.service = NULL};
    int code = service_open(&CONFIG, argc, argv, &registry.service);
    if (registry.service == NULL) {
        return code;
    }
    struct follow_options options = {
        .bus = service_bus(registry.service),
        .blobs = service_blobs(registry.service),
        .genesis_file = settings_text(service_settings(registry.service), "genesis"),
        .wake = on_wake,
        .context = &registry,
    };
    struct note note = {""};
    if (follow_open(&options, &registry.follow, &note) != ERR_OK) {
        log_error("follow_failed note=\"%s\"", note.text);
        service_close(registry.service);
        return 1;
    }
    service_rpc(registry.service, &registry_rpc, registry.follow);
    service_every(registry.service, 200, on_pump, &registry);
    code = service_run(registry.service);
    follow_close(registry.follow);
    service_close(registry.service);
    return code;
}
