/* main.c - settlement: the sequencer of the ledger, or one of its replicas. */
#include <stdlib.h>

#include "services/settlement/api.h"
#include "shared/base/log.h"
#include "shared/platform/file.h"
#include "shared/platform/pool.h"

enum { TICK_MS = 50 };

static const struct setting SETTINGS[] = {
    {.name = "genesis", .type = SETTING_TEXT, .fallback = NULL, .doc = "the genesis file"},
    {.name = "sequencer-key",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "key file that signs checkpoints; empty: key-file"},
    {.name = "witnesses",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "URLs of witnesses that are asked to cosign checkpoints, separated by commas"},
    {.name = "seal-ms",
     .type = SETTING_U64,
     .fallback = "1000",
     .min = 10,
     .max = 3600000,
     .doc = "a block is closed this long after the one before, when there is something in it"},
    {.name = "snapshot-blocks",
     .type = SETTING_U64,
     .fallback = "1000",
     .min = 1,
     .max = 1000000,
     .doc = "blocks between snapshots of the state"},
    {.name = "threads",
     .type = SETTING_U64,
     .fallback = "0",
     .min = 0,
     .max = 256,
     .doc = "threads that decode transactions and check signatures; 0: one per core"},
    {.name = "replica",
     .type = SETTING_U64,
     .fallback = "1",
     .min = 1,
     .max = EPOCH_REPLICAS_MAX,
     .doc = "which of the replicas this is; each has a data-dir of its own"},
    {.name = "replica-count",
     .type = SETTING_U64,
     .fallback = "1",
     .min = 1,
     .max = EPOCH_REPLICAS_MAX,
     .doc = "replicas of the ledger; final is what more than half of them have on disk"},
    {.name = "takeover-ms",
     .type = SETTING_U64,
     .fallback = "1500",
     .min = 500,
     .max = 60000,
     .doc = "silence of the sequencer after which another replica takes over"},
};

static const struct service_config CONFIG = {
    .name = "settlement",
    .about = "Orders and applies the ledger's transactions, settles receipts and shares.",
    .settings = SETTINGS,
    .setting_count = sizeof SETTINGS / sizeof SETTINGS[0],
};

static enum err keys_open(struct desk *desk, struct note *note)
{
    char own[FILE_PATH_SIZE];
    const char *key_file = service_key_file(desk->service);
    const char *sequencer = settings_text(service_settings(desk->service), "sequencer-key");
    enum err err = file_path(own, "%s/key.json", service_data_dir(desk->service));
    key_file = key_file[0] == '\0' ? own : key_file;
    err = err ? err : key_pair_load_or_create(key_file, "", &desk->operator_keys, note);
    err = err ? err
              : key_pair_load(sequencer[0] == '\0' ? key_file : sequencer, "", &desk->sequencer,
                              note);
    if (err == ERR_OK) {
        account_id_from_key(key_pair_public(desk->operator_keys), &desk->operator_id);
    }
    return err;
}

static enum err ledger_open(struct desk *desk, struct note *note)
{
    const struct settings *settings = service_settings(desk->service);
    struct buf genesis;
    struct ledger_head head;
    buf_init(&genesis, LEDGER_GENESIS_MAX);
    desk->pool = pool_create((uint32_t)settings_u64(settings, "threads"));
    if (desk->pool == NULL) {
        return note_set(note, ERR_NO_MEMORY, "no threads");
    }
    enum err err = file_read(settings_text(settings, "genesis"), &genesis, note);
    const struct cluster_options options = {
        .desk = desk,
        .service = desk->service,
        .settlement = {.folder = service_data_dir(desk->service),
                       .genesis = buf_bytes(&genesis),
                       .blobs = service_blobs(desk->service),
                       .sequencer = desk->sequencer,
                       .snapshot_blocks = settings_u64(settings, "snapshot-blocks"),
                       .parallel = pool_parallel(desk->pool)},
        .self = (uint32_t)settings_u64(settings, "replica"),
        .replicas = (uint32_t)settings_u64(settings, "replica-count"),
        .takeover_ms = (uint32_t)settings_u64(settings, "takeover-ms"),
    };
    if (err == ERR_OK && options.self > options.replicas) {
        err = note_set(note, ERR_INVALID, "replica %u of %u", options.self, options.replicas);
    }
    err = err ? err : cluster_open(&options, &desk->cluster, note);
    buf_deinit(&genesis);
    if (err == ERR_OK) {
        ledger_head(settlement_ledger(desk->settlement), &head);
        log_info("ledger_open index=%llu height=%llu replayed=%llu torn_bytes=%llu parked=%llu",
                 (unsigned long long)head.index, (unsigned long long)head.height,
                 (unsigned long long)settlement_replayed(desk->settlement),
                 (unsigned long long)settlement_torn_size(desk->settlement),
                 (unsigned long long)settlement_store_parked(settlement_index(desk->settlement)));
    }
    return err;
}

static enum err public_log_open(struct desk *desk, struct note *note)
{
    struct ledger_trust trust;
    ledger_trust(settlement_ledger(desk->settlement), &trust);
    const struct public_log_options options = {
        .tiles_folder = settlement_tiles_folder(desk->settlement),
        .trust = &trust,
        .witnesses = settings_text(service_settings(desk->service), "witnesses"),
        .blobs = service_blobs(desk->service),
        .metrics = service_metrics(desk->service)};
    enum err err = public_log_start(&options, &desk->public_log, note);
    if (err == ERR_OK) {
        public_log_routes(desk->public_log, service_http(desk->service));
    }
    return err;
}

static void on_tick(void *context)
{
    desk_tick(context);
}

static enum err start(struct desk *desk, struct note *note)
{
    struct metrics *metrics = service_metrics(desk->service);
    desk->seal_ms = settings_u64(service_settings(desk->service), "seal-ms");
    desk->transactions = metrics_counter(metrics, "openledger_transactions_total", "",
                                         "transactions put on the ledger");
    desk->blocks = metrics_counter(metrics, "openledger_blocks_total", "", "blocks closed");
    desk->refused =
        metrics_counter(metrics, "openledger_refused_total", "", "transactions refused");
    desk->parked = metrics_counter(metrics, "openledger_parked_total", "",
                                   "batches that can never be applied");
    enum err err = keys_open(desk, note);
    err = err ? err : ledger_open(desk, note);
    err = err ? err
              : publisher_start(service_bus(desk->service), settlement_log_folder(desk->settlement),
                                service_replicas(desk->service), &desk->publisher, note);
    err = err ? err : public_log_open(desk, note);
    if (err == ERR_OK) {
        publisher_wake(desk->publisher,
                       cluster_leads(desk->cluster) ? settlement_durable(desk->settlement) : 0);
        service_rpc(desk->service, &settlement_rpc, desk);
        service_every(desk->service, TICK_MS, on_tick, desk);
        err = feed_start(desk, note);
    }
    return err;
}

int main(int argc, char **argv)
{
    struct desk desk = {.service = NULL};
    struct note note = {""};
    crypto_start();
    int code = service_open(&CONFIG, argc, argv, &desk.service);
    if (desk.service == NULL) {
        return code;
    }
    if (start(&desk, &note) != ERR_OK) {
        log_error("start_failed note=\"%s\"", note.text);
        code = 1;
    } else {
        service_ready(desk.service, true, NULL);
        code = service_run(desk.service);
        desk.seal_ms = 0; /* nothing stays outside a block, so the checkpoint covers all of it */
        desk_tick(&desk);
        (void)desk_flush(&desk);
    }
    desk_proofs_end(&desk);
    public_log_stop(desk.public_log);
    publisher_stop(desk.publisher);
    cluster_close(desk.cluster);
    key_pair_destroy(desk.sequencer);
    key_pair_destroy(desk.operator_keys);
    free(desk.waiting);
    pool_destroy(desk.pool);
    service_close(desk.service);
    return code;
}
