/* api.c - RPC handlers of the trainer: decode, check, call, encode. */
#include "services/trainer/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/log.h"
#include "shared/ledger/tx.h"

#define PAGE_DEFAULT 100U
#define PAGE_MAX 1000U
#define AMOUNT_ROOM AMOUNT_TEXT_SIZE
#define TOKEN_SIZE 24U

static enum err ledger_of(const struct trainer_api *api, struct rpc_call *call,
                          const struct ledger **out_ledger)
{
    *out_ledger = follow_ledger(api->follow);
    if (*out_ledger == NULL) {
        return note_set(rpc_note(call), ERR_UNAVAILABLE, "the ledger has not been read yet");
    }
    return ERR_OK;
}

/* ---- SubmitJob ---------------------------------------------------------------------------------- */

/* Is this really a SubmitJob? Everything else about it is the ledger's to judge. */
static enum err check_action(struct rpc_call *call, ProtobufCBinaryData signed_tx)
{
    Openledger__V1__SignedTx *tx =
        openledger__v1__signed_tx__unpack(NULL, signed_tx.len, signed_tx.data);
    Openledger__V1__TxBody *body =
        tx == NULL ? NULL : openledger__v1__tx_body__unpack(NULL, tx->body.len, tx->body.data);
    bool ok = body != NULL && body->action_case == OPENLEDGER__V1__TX_BODY__ACTION_SUBMIT_JOB;
    openledger__v1__tx_body__free_unpacked(body, NULL);
    openledger__v1__signed_tx__free_unpacked(tx, NULL);
    return ok ? ERR_OK : note_set(rpc_note(call), ERR_INVALID, "signed_tx is no signed SubmitJob");
}

static enum err submit_job(void *context, struct rpc_call *call, const void *request)
{
    const Openledger__V1__SubmitRequest *wanted = request;
    struct trainer_api *api = context;
    struct digest tx;
    uint64_t index = 0;
    enum err err = check_action(call, wanted->signed_tx);
    if (err == ERR_OK) {
        err = follow_submit_signed(api->follow, ledger_bytes(wanted->signed_tx), JOBS_SUBMIT_MS,
                                   &tx, &index, rpc_note(call));
    }
    if (err != ERR_OK) {
        return err;
    }
    struct note note = {""};
    if (jobs_enqueue(api->jobs, &tx, &note) != ERR_OK) { /* it is on the ledger: jobs_tick will */
        log_warn("job_not_queued note=\"%s\"", note.text);
    }
    Openledger__V1__SubmitReply reply = OPENLEDGER__V1__SUBMIT_REPLY__INIT;
    reply.tx = ledger_binary(tx.bytes, DIGEST_SIZE);
    reply.index = index;
    return rpc_reply(call, &reply);
}

/* ---- records ------------------------------------------------------------------------------------ */

static const char *state_name(uint32_t state)
{
    static const char *const names[] = {"", "queued", "claimed", "completed", "failed", "refuted"};
    return state < sizeof names / sizeof names[0] ? names[state] : "";
}

/* A record with everything it points to, in one piece of the call's arena. */
struct record {
    Openledger__V1__JobRecord job;
    Openledger__V1__TrainSettings settings;
    Openledger__V1__TrainProgress progress_message;
    struct jobs_progress progress;
    char fee[AMOUNT_ROOM];
};

static char *text_of(const char *text) /* protobuf-c's fields are not const */
{
    return (char *)(uintptr_t)text;
}

static void fill_settings(const struct ledger_train_settings *from,
                          Openledger__V1__TrainSettings *out)
{
    openledger__v1__train_settings__init(out);
    out->rank = from->rank;
    out->alpha = from->alpha;
    out->steps = from->steps;
    out->batch_rows = from->batch_rows;
    out->learning_rate_ppm = from->learning_rate_ppm;
    out->warmup_steps = from->warmup_steps;
    out->context = from->context;
    out->seed = from->seed;
    out->digest_every = from->digest_every;
    out->weight_decay_ppm = from->weight_decay_ppm;
}

/* NULL: the arena is full. */
static Openledger__V1__JobRecord *make_record(struct trainer_api *api, struct rpc_call *call,
                                              const struct ledger_job *job)
{
    struct record *record = arena_alloc(rpc_arena(call), sizeof *record);
    if (record == NULL) {
        return NULL;
    }
    Openledger__V1__JobRecord *out = &record->job;
    openledger__v1__job_record__init(out);
    fill_settings(&job->settings, &record->settings);
    out->job = ledger_binary(job->id.bytes, DIGEST_SIZE);
    out->developer = ledger_binary(job->developer.bytes, ACCOUNT_ID_SIZE);
    out->datanet = text_of(job->datanet);
    out->version = job->version;
    out->model = text_of(job->model);
    out->settings = &record->settings;
    (void)amount_format(job->fee, record->fee);
    out->fee = record->fee;
    out->state = text_of(state_name(job->state));
    if (job->state != LEDGER_JOB_QUEUED) {
        out->trainer = ledger_binary(job->trainer.bytes, ACCOUNT_ID_SIZE);
    }
    if (job->state == LEDGER_JOB_COMPLETED) {
        out->adapter = ledger_binary(job->adapter.bytes, DIGEST_SIZE);
        out->transcript = ledger_binary(job->transcript.bytes, DIGEST_SIZE);
        out->transcript_root = ledger_binary(job->transcript_root.bytes, DIGEST_SIZE);
    }
    out->reason = text_of(job->reason);
    if (jobs_progress_get(api->jobs, &job->id, &record->progress)) {
        record->progress_message = jobs_progress_message(&record->progress);
        out->progress = &record->progress_message;
    }
    return out;
}

static enum err find_job(struct trainer_api *api, struct rpc_call *call,
                         const Openledger__V1__GetJobRequest *wanted,
                         const struct ledger_job **out_job)
{
    const struct ledger *ledger;
    struct digest id;
    enum err err = ledger_of(api, call, &ledger);
    if (err == ERR_OK && digest_from_bytes(ledger_bytes(wanted->job), &id) != ERR_OK) {
        err = note_set(rpc_note(call), ERR_INVALID, "job has %zu bytes, an id has %d",
                       wanted->job.len, DIGEST_SIZE);
    }
    if (err == ERR_OK) {
        *out_job = ledger_job(ledger, &id);
        if (*out_job == NULL) {
            err = note_set(rpc_note(call), ERR_NOT_FOUND, "no such job");
        }
    }
    return err;
}

static enum err get_job(void *context, struct rpc_call *call, const void *request)
{
    const struct ledger_job *job;
    enum err err = find_job(context, call, request, &job);
    if (err != ERR_OK) {
        return err;
    }
    Openledger__V1__JobRecord *record = make_record(context, call, job);
    return record == NULL ? ERR_LIMIT : rpc_reply(call, record);
}

static enum err watch_job(void *context, struct rpc_call *call, const void *request)
{
    struct trainer_api *api = context;
    const struct ledger_job *job;
    enum err err = find_job(api, call, request, &job);
    if (err != ERR_OK) {
        return err;
    }
    struct digest id = job->id;
    return jobs_watch(api->jobs, call, &id);
}

/* ---- ListJobs ----------------------------------------------------------------------------------- */

/* Do all words of query occur in the job's datanet, model or state? */
static bool matches(const struct ledger_job *job, const char *query)
{
    bool all = true;
    while (all && *query != '\0') {
        char word[LEDGER_NAME_MAX + 1];
        size_t size = strcspn(query, " ");
        all = size < sizeof word;
        if (all && size > 0) {
            memcpy(word, query, size);
            word[size] = '\0';
            all = strstr(job->datanet, word) != NULL || strstr(job->model, word) != NULL ||
                  strstr(state_name(job->state), word) != NULL;
        }
        query += size;
        query += strspn(query, " ");
    }
    return all;
}

/* Pages go by the jobs' ledger index: the token is the last one shown. */
static enum err list_jobs(void *context, struct rpc_call *call, const void *request)
{
    struct trainer_api *api = context;
    const Openledger__V1__ListRequest *wanted = request;
    const struct ledger *ledger;
    enum err err = ledger_of(api, call, &ledger);
    if (err != ERR_OK) {
        return err;
    }
    char *end = wanted->page_token;
    uint64_t after = strtoull(wanted->page_token, &end, 10);
    if (*end != '\0' || wanted->page_size > PAGE_MAX) {
        return note_set(rpc_note(call), ERR_INVALID, "bad page_token, or page_size above %u",
                        PAGE_MAX);
    }
    uint32_t size = wanted->page_size == 0 ? PAGE_DEFAULT : wanted->page_size;
    Openledger__V1__ListJobsReply reply = OPENLEDGER__V1__LIST_JOBS_REPLY__INIT;
    reply.jobs = arena_alloc_array(rpc_arena(call), size, sizeof *reply.jobs);
    char token[TOKEN_SIZE] = "";
    uint64_t last = 0;
    const struct ledger_job *job = NULL;
    if (reply.jobs == NULL) {
        return ERR_LIMIT;
    }
    while ((job = ledger_next_job(ledger, job)) != NULL) {
        if (job->index <= after || !matches(job, wanted->query)) {
            continue;
        }
        if (reply.n_jobs == size) {
            (void)snprintf(token, sizeof token, "%llu", (unsigned long long)last);
            break;
        }
        reply.jobs[reply.n_jobs] = make_record(api, call, job);
        if (reply.jobs[reply.n_jobs] == NULL) {
            return ERR_LIMIT;
        }
        reply.n_jobs++;
        last = job->index;
    }
    reply.next_page_token = token;
    return rpc_reply(call, &reply);
}

static const struct rpc_binding BINDINGS[] = {
    {"SubmitJob", submit_job},
    {"GetJob", get_job},
    {"ListJobs", list_jobs},
    {"WatchJob", watch_job},
};

const struct rpc_service trainer_rpc = {
    .descriptor = &openledger__v1__trainer__descriptor,
    .bindings = BINDINGS,
    .count = sizeof BINDINGS / sizeof BINDINGS[0],
};
