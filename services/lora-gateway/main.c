/* main.c - the lora-gateway: OpenLoRA behind the OpenAI API, and the suite's front door. */
#include <string.h>

#include "services/lora-gateway/desk.h"
#include "services/lora-gateway/openai.h"
#include "shared/base/log.h"
#include "shared/crypto/keys.h"

static const struct setting SETTINGS[] = {
    {.name = "genesis",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "the genesis file; empty: settlement is asked for it, and trusted once"},
    {.name = "model",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "base model to serve, by its name on the ledger; empty: the first one there"},
    {.name = "workers",
     .type = SETTING_U64,
     .fallback = "0",
     .min = 0,
     .max = 256,
     .doc = "threads for the model; 0: one per core"},
    {.name = "backend",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "who does the model's arithmetic (kernels/README.md); empty: the CPU's fastest"},
    {.name = "sequences-max",
     .type = SETTING_U64,
     .fallback = "16",
     .min = 1,
     .max = ENGINE_SEQUENCES_MAX,
     .doc = "answers computed at once"},
    {.name = "queue-max",
     .type = SETTING_U64,
     .fallback = "256",
     .min = 1,
     .max = GATEWAY_OPENINGS_MAX,
     .doc = "answers in the making, the waiting included; then 429"},
    {.name = "adapters-max",
     .type = SETTING_U64,
     .fallback = "64",
     .min = 1,
     .max = ENGINE_ADAPTERS_MAX,
     .doc = "adapters kept in memory"},
    {.name = "max-tokens-default",
     .type = SETTING_U64,
     .fallback = "64",
     .min = 1,
     .max = DESK_CONTEXT_MAX,
     .doc = "tokens of an answer when the request names none"},
    {.name = "lease",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "OPEN to lease from a grant at a time; empty: all that is left of it"},
    {.name = "rate-max",
     .type = SETTING_U64,
     .fallback = "600",
     .min = 0,
     .max = 1000000,
     .doc = "requests per API key and minute (counted in Redis); 0: no limit"},
    {.name = "republish-s",
     .type = SETTING_U64,
     .fallback = "30",
     .min = 1,
     .max = 3600,
     .doc = "seconds until receipts and openings that are not on the ledger are published again;\n"
            "then twice as long, up to 16 times"},
};

static const struct service_config CONFIG = {
    .name = "lora-gateway",
    .about =
        "Serves every published adapter over one base model through the OpenAI API, holds and\n"
        "settles the price of each answer, and forwards the other services' methods.",
    .settings = SETTINGS,
    .setting_count = sizeof SETTINGS / sizeof *SETTINGS,
    .front_door = true,
    .http_body_max = OPENAI_BODY_MAX,
};

int main(int argc, char **argv)
{
    struct service *service = NULL;
    struct desk *desk = NULL;
    struct note note = {.text = ""};
    crypto_start();
    int code = service_open(&CONFIG, argc, argv, &service);
    if (service == NULL) {
        return code;
    }
    const struct settings *values = service_settings(service);
    struct desk_settings settings = {
        .model = settings_text(values, "model"),
        .lease_amount = settings_text(values, "lease"),
        .workers = (uint32_t)settings_u64(values, "workers"),
        .sequences_max = (uint32_t)settings_u64(values, "sequences-max"),
        .adapters_max = (uint32_t)settings_u64(values, "adapters-max"),
        .queue_max = (uint32_t)settings_u64(values, "queue-max"),
        .max_tokens_default = (uint32_t)settings_u64(values, "max-tokens-default"),
        .rate_max = (uint32_t)settings_u64(values, "rate-max"),
        .republish_s = (uint32_t)settings_u64(values, "republish-s"),
    };
    enum err err = lineage_backend(settings_text(values, "backend"), &settings.kernels, &note);
    struct amount lease;
    if (err != ERR_OK) {
        log_error("setting_bad name=backend note=\"%s\"", note.text);
        service_close(service);
        return 2;
    }
    if (settings.lease_amount[0] != '\0' && amount_parse(settings.lease_amount, &lease) != ERR_OK) {
        log_error("setting_bad name=lease note=\"not an amount\"");
        service_close(service);
        return 2;
    }
    err = desk_create(service, &settings, &desk, &note);
    if (err != ERR_OK) {
        log_error("start_failed err=%s note=\"%s\"", err_name(err), note.text);
        service_close(service);
        return 1;
    }
    api_serve(desk);
    code = service_run(service);
    desk_destroy(desk);
    service_close(service);
    return code;
}
