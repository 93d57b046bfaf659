/* served_ledger.c - see served_ledger.h. */
#include "tests/harness/served_ledger.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openledger/v1/objects.pb-c.h"
#include "openledger/v1/services.pb-c.h"
#include "shared/base/check.h"
#include "shared/lineage/bundle.h"
#include "shared/lineage/lineage.h"
#include "shared/platform/clock.h"
#include "shared/platform/file.h"
#include "shared/platform/mailbox.h"
#include "shared/platform/thread.h"
#include "shared/rpc/rpc.h"

#define IDLE_MS 1000

struct served_ledger {
    struct world *world;
    pthread_mutex_t lock;
    struct blob_store *blobs;
    const char *model_folder;
    const char *grant_limit;
    struct bus *bus;
    struct rpc_server *server;
    struct mailbox *calls;
    struct thread *thread;
};

static void must(enum err err)
{
    CHECK(err == ERR_OK);
}

static char *text(const char *constant)
{
    return (char *)(uintptr_t)constant;
}

/* ---- the ledger behind Settlement ---------------------------------------------------------------- */

static enum err refuse(void *context, struct rpc_call *call, const void *request)
{
    (void)context;
    (void)request;
    return note_set(rpc_note(call), ERR_UNIMPLEMENTED, "not in this test");
}

static enum err get_info(void *context, struct rpc_call *call, const void *request)
{
    const struct world *world = ((struct served_ledger *)context)->world;
    (void)request;
    Openledger__V1__LedgerInfo info = OPENLEDGER__V1__LEDGER_INFO__INIT;
    info.genesis = ledger_binary(world->genesis.data, world->genesis.size);
    return rpc_reply(call, &info);
}

static enum err get_entries(void *context, struct rpc_call *call, const void *message)
{
    const Openledger__V1__GetEntriesRequest *request = message;
    Openledger__V1__GetEntriesReply reply = OPENLEDGER__V1__GET_ENTRIES_REPLY__INIT;
    static ProtobufCBinaryData entries[WORLD_ENTRIES_MAX];
    struct served_ledger *ledger = context;
    struct world *world = ledger->world;
    pthread_mutex_lock(&ledger->lock);
    reply.last_index = world->entry_count;
    reply.entries = entries;
    for (uint64_t i = request->from_index - 1; i < world->entry_count && reply.n_entries < 100;
         i++) {
        entries[reply.n_entries++] = ledger_binary(world->entries[i].data, world->entries[i].size);
    }
    enum err err = rpc_reply(call, &reply);
    pthread_mutex_unlock(&ledger->lock);
    return err;
}

static enum err submit(void *context, struct rpc_call *call, const void *message)
{
    const Openledger__V1__SubmitRequest *request = message;
    Openledger__V1__SubmitReply reply = OPENLEDGER__V1__SUBMIT_REPLY__INIT;
    struct served_ledger *ledger = context;
    struct world *world = ledger->world;
    pthread_mutex_lock(&ledger->lock);
    world->now_ms = clock_real_ms();
    enum err err = world_apply_signed(world, ledger_bytes(request->signed_tx));
    if (err == ERR_OK) {
        reply.tx = ledger_binary(world->effects.tx.bytes, DIGEST_SIZE);
        reply.index = world->effects.index;
        err = rpc_reply(call, &reply);
    } else {
        *rpc_note(call) = world->note;
    }
    pthread_mutex_unlock(&ledger->lock);
    (void)!bus_publish(ledger->bus, "ol.ledger.entry", NULL, (struct bus_headers){0},
                       (struct bytes){0});
    return err;
}

static const struct rpc_binding BINDINGS[] = {
    {"GetInfo", get_info},       {"Submit", submit},        {"GetAccount", refuse},
    {"GetTx", refuse},           {"ListTxs", refuse},       {"GetBlock", refuse},
    {"GetEntries", get_entries}, {"GetCheckpoint", refuse}, {"ProveTx", refuse},
    {"ProvePosting", refuse},    {"GetGrant", refuse},      {"GetReceipt", refuse},
    {"GetStake", refuse},        {"GetProposal", refuse},   {"ListProposals", refuse},
    {"ProveAccount", refuse},    {"GetLogFile", refuse}};
static const struct rpc_service SETTLEMENT = {.descriptor = &openledger__v1__settlement__descriptor,
                                              .bindings = BINDINGS,
                                              .count = sizeof BINDINGS / sizeof *BINDINGS};

struct job {
    void (*run)(void *argument);
    void *argument;
};

static enum err post(void *context, void (*run)(void *argument), void *argument)
{
    struct job *job = malloc(sizeof *job);
    *job = (struct job){run, argument};
    return mailbox_post(context, job);
}

static void call_thread(void *argument)
{
    void *message = NULL;
    enum err err;
    while ((err = mailbox_take(argument, IDLE_MS, &message)) != ERR_CANCELLED) {
        if (err != ERR_OK) {
            continue;
        }
        struct job *job = message;
        job->run(job->argument);
        free(job);
    }
}

/* ---- what is on the ledger ----------------------------------------------------------------------- */

/* An adapter that leaves the base as it is (B = 0). */
static struct digest put_adapter(struct served_ledger *ledger, const struct lineage_base *base)
{
    struct lm_adapter_config config = {.rank = 4, .alpha = 8.0F, .targets = LM_TARGETS_ALL};
    const struct lm_config *shape = lm_model_config(base->model);
    float *vector = calloc(lm_adapter_size(shape, &config), sizeof *vector);
    struct lm_adapter *adapter;
    struct buf data;
    struct digest digest;
    buf_init(&data, BLOB_SIZE_MAX);
    lm_adapter_initialise(shape, &config, 1, vector);
    must(lm_adapter_create_rounded(base->model, &config, vector, &adapter, NULL));
    must(lineage_adapter_pack(adapter, "stories", &data, NULL));
    must(blob_put(ledger->blobs, buf_bytes(&data), &digest, NULL));
    buf_deinit(&data);
    lm_adapter_destroy(adapter);
    free(vector);
    return digest;
}

#define ACT(who, UPPER, member, value)                                                             \
    do {                                                                                           \
        Openledger__V1__TxBody body = OPENLEDGER__V1__TX_BODY__INIT;                               \
        body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_##UPPER;                                \
        body.member = (value);                                                                     \
        must(world_try(world, who, &body));                                                        \
    } while (0)

static void publish_stories(struct served_ledger *ledger)
{
    struct world *world = ledger->world;
    struct lineage_base *base;
    struct digest content;
    must(lineage_bundle_put(ledger->blobs, ledger->model_folder, NULL, &content, NULL));
    must(lineage_base_load(ledger->blobs, &content, NULL, &base, NULL));
    struct digest adapter = put_adapter(ledger, base);
    Openledger__V1__RegisterModel model = OPENLEDGER__V1__REGISTER_MODEL__INIT;
    model.name = text("stories");
    model.content = ledger_binary(content.bytes, DIGEST_SIZE);
    model.profile = ledger_binary(base->profile.bytes, DIGEST_SIZE);
    model.licence = text("MIT");
    ACT(WORLD_BASE, REGISTER_MODEL, register_model, &model);
    lineage_base_destroy(base);
    Openledger__V1__TrainSettings settings = OPENLEDGER__V1__TRAIN_SETTINGS__INIT;
    settings.rank = 4;
    settings.alpha = 8;
    settings.steps = 10;
    settings.batch_rows = 4;
    settings.learning_rate_ppm = 1000;
    settings.context = 64;
    Openledger__V1__SubmitJob job = OPENLEDGER__V1__SUBMIT_JOB__INIT;
    job.datanet = text("net");
    job.version = 1;
    job.model = text("stories");
    job.settings = &settings;
    job.fee = text("1");
    ACT(WORLD_DEV, SUBMIT_JOB, submit_job, &job);
    struct digest id = world->tx;
    Openledger__V1__ClaimJob claim = OPENLEDGER__V1__CLAIM_JOB__INIT;
    claim.job = ledger_binary(id.bytes, DIGEST_SIZE);
    ACT(WORLD_TRAINER, CLAIM_JOB, claim_job, &claim);
    Openledger__V1__CompleteJob complete = OPENLEDGER__V1__COMPLETE_JOB__INIT;
    complete.job = claim.job;
    complete.transcript_root = claim.job;
    complete.transcript = claim.job;
    complete.adapter = ledger_binary(adapter.bytes, DIGEST_SIZE);
    ACT(WORLD_TRAINER, COMPLETE_JOB, complete_job, &complete);
    Openledger__V1__PublishAdapter publish = OPENLEDGER__V1__PUBLISH_ADAPTER__INIT;
    publish.name = text("tale");
    publish.job = claim.job;
    publish.price_prompt = text("0.001");
    publish.price_completion = text("0.002");
    ACT(WORLD_DEV, PUBLISH_ADAPTER, publish_adapter, &publish);
    Openledger__V1__OpenGrant grant = OPENLEDGER__V1__OPEN_GRANT__INIT;
    grant.gateway = ledger_binary(world->ids[WORLD_GATEWAY].bytes, ACCOUNT_ID_SIZE);
    grant.limit = text(ledger->grant_limit);
    grant.expires_ms = world->now_ms + 3600000;
    ACT(WORLD_PAYER, OPEN_GRANT, open_grant, &grant);
    world->grant = world->tx;
}

struct served_ledger *served_ledger_create(struct blob_store *blobs, const char *model_folder,
                                           const char *grant_limit)
{
    struct served_ledger *ledger = calloc(1, sizeof *ledger);
    CHECK(ledger != NULL);
    struct world *world = world_create();
    char *date = strstr((char *)world->genesis.data, "1800000000000");
    char now[32];
    CHECK(date != NULL);
    CHECK(pthread_mutex_init(&ledger->lock, NULL) == 0);
    ledger->world = world;
    ledger->blobs = blobs;
    ledger->model_folder = model_folder;
    ledger->grant_limit = grant_limit;
    world->now_ms = clock_real_ms();
    (void)snprintf(now, sizeof now, "%llu", (unsigned long long)world->now_ms - 10000);
    memcpy(date, now, strlen("1800000000000"));
    ledger_destroy(world->ledger);
    must(ledger_create(buf_bytes(&world->genesis), &world->ledger, NULL));
    world_setup(world);
    publish_stories(ledger);
    return ledger;
}

void served_ledger_destroy(struct served_ledger *ledger)
{
    world_destroy(ledger->world);
    pthread_mutex_destroy(&ledger->lock);
    free(ledger);
}

struct world *served_ledger_world(struct served_ledger *ledger)
{
    return ledger->world;
}

void served_ledger_lock(struct served_ledger *ledger)
{
    pthread_mutex_lock(&ledger->lock);
}

void served_ledger_unlock(struct served_ledger *ledger)
{
    pthread_mutex_unlock(&ledger->lock);
}

void served_ledger_start(struct served_ledger *ledger, struct bus *bus)
{
    ledger->bus = bus;
    ledger->calls = mailbox_create(1024);
    CHECK(ledger->calls != NULL);
    must(thread_start("calls", call_thread, ledger->calls, &ledger->thread, NULL));
    ledger->server =
        rpc_server_create((struct rpc_executor){.post = post, .context = ledger->calls}, NULL);
    CHECK(ledger->server != NULL);
    rpc_serve(ledger->server, &SETTLEMENT, ledger);
    must(rpc_serve_bus(ledger->server, bus, NULL));
}

void served_ledger_stop(struct served_ledger *ledger)
{
    rpc_server_destroy(ledger->server);
    mailbox_close(ledger->calls);
    thread_join(ledger->thread);
    mailbox_destroy(ledger->calls, NULL);
}
