/* cluster.c - see cluster.h. */
#include "services/settlement/cluster.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openledger/v1/replica.pb-c.h"
#include "openledger/v1/services.pb-c.h"
#include "services/settlement/api.h"
#include "services/settlement/replica_wire.h"
#include "shared/base/check.h"
#include "shared/base/log.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"
#include "shared/platform/mailbox.h"
#include "shared/platform/random.h"
#include "shared/platform/signals.h"

#define CLAIM_STREAM "OL_EPOCHS"
#define CLAIM_SUBJECT "ol.epoch.claim"
enum {
    MESSAGES_MAX = 4096, /* waiting for the worker; more are lost, as on any bus */
    CLAIM_MS = 1000,     /* one question to JetStream while claiming */
    ASK_MS = 1000,       /* one asking of a sequencer that may be dead */
    AGAIN_MS = 100,      /* before the next, after an answer that came at once */
    SUBJECT_SIZE = 48,
    REPLY_MAX = 4096
};

struct cluster {
    struct cluster_options options;
    struct replica *replica;
    struct bus *bus;
    struct buf genesis;
    struct mailbox *messages; /* of struct bus_message, for the replica */
    struct bus_subscription *listening, *submitting;
    struct forward *again; /* forwarded calls that ask once more at their time; the worker's */
    struct metric *differs;
    atomic_bool drain_posted, leads;
    bool failed;
};

/* ---- hands -------------------------------------------------------------------------------------- */

static uint64_t now_ms(void *context)
{
    (void)context;
    return clock_mono_ms();
}

static uint64_t clock_ms(void *context)
{
    (void)context;
    return clock_real_ms();
}

static uint64_t draw(void *context)
{
    (void)context;
    return random_u64();
}

static void send(void *context, uint32_t to, struct bytes message)
{
    struct cluster *cluster = context;
    char subject[SUBJECT_SIZE];
    (void)snprintf(subject, sizeof subject, "ol.replica.%u", to);
    /* Lost messages are part of the protocol. */
    (void)!bus_publish(cluster->bus, subject, NULL, (struct bus_headers){0}, message);
}

static enum err receive(void *context, uint64_t timeout_ms, struct buf *out)
{
    struct cluster *cluster = context;
    void *item = NULL;
    enum err err = mailbox_take(cluster->messages, timeout_ms, &item);
    if (err != ERR_OK) {
        return signals_stop_requested() ? ERR_CANCELLED : ERR_TIMEOUT;
    }
    struct bus_message *message = item;
    err = buf_append_bytes(out, bus_message_data(message));
    bus_message_destroy(message);
    return err == ERR_OK ? ERR_OK : ERR_TIMEOUT; /* too large to be one of ours: as if lost */
}

/* The newest claim: its place in the stream and its epoch; 0 and 0 when there is none. */
static enum err claim_last(struct cluster *cluster, uint64_t *out_sequence, uint64_t *out_epoch)
{
    struct bus_replay *replay = NULL;
    struct bus_message *message = NULL;
    uint64_t epoch = 0;
    enum err err = bus_stream_last(cluster->bus, CLAIM_STREAM, out_sequence);
    if (err != ERR_OK || *out_sequence == 0) {
        *out_epoch = 0;
        return err;
    }
    err = bus_replay_open(cluster->bus, CLAIM_STREAM, NULL, *out_sequence, &replay);
    err = err ? err : bus_replay_next(replay, CLAIM_MS, &message);
    if (err == ERR_OK) {
        struct bytes data = bus_message_data(message);
        Openledger__V1__EpochClaim *claim =
            openledger__v1__epoch_claim__unpack(NULL, data.size, data.data);
        if (claim != NULL) {
            epoch = claim->epoch;
            openledger__v1__epoch_claim__free_unpacked(claim, NULL);
        }
        bus_message_destroy(message);
        *out_epoch = epoch;
    }
    bus_replay_close(replay);
    return err;
}

static enum err claim(void *context, uint64_t above, uint64_t *out_epoch)
{
    struct cluster *cluster = context;
    struct buf data;
    uint64_t sequence = 0;
    uint64_t last = 0;
    enum err err = claim_last(cluster, &sequence, &last);
    Openledger__V1__EpochClaim message = OPENLEDGER__V1__EPOCH_CLAIM__INIT;
    message.epoch = (last > above ? last : above) + 1;
    message.replica = cluster->options.self;
    buf_init(&data, REPLY_MAX);
    err = err ? err : ledger_pack(&message.base, &data);
    const struct bus_publish_options expect = {.expect_last = true,
                                               .expect_sequence = BUS_ANY,
                                               .expect_subject_sequence = sequence,
                                               .timeout_ms = CLAIM_MS};
    struct note note = {""};
    err = err ? err
              : bus_stream_publish(cluster->bus, CLAIM_SUBJECT, buf_bytes(&data), &expect, NULL,
                                   &note);
    buf_deinit(&data);
    log_info("epoch_claimed epoch=%llu result=%s", (unsigned long long)message.epoch,
             err_name(err));
    if (err == ERR_OK) {
        *out_epoch = message.epoch;
    }
    return err;
}

static void opened(void *context, struct settlement *settlement)
{
    struct cluster *cluster = context;
    cluster->options.desk->settlement = settlement;
    desk_forget(cluster->options.desk);
}

static void differs(void *context, uint32_t replica, uint64_t height)
{
    struct cluster *cluster = context;
    (void)replica;
    (void)height;
    metric_add(cluster->differs, 1);
}

/* ---- messages ----------------------------------------------------------------------------------- */

/* After anything that the replica did. */
static void after(struct cluster *cluster, enum err err, const struct note *note)
{
    atomic_store(&cluster->leads, err == ERR_OK && replica_leads(cluster->replica));
    if (err != ERR_OK && !cluster->failed) {
        cluster->failed = true;
        log_error("replica_failed err=%s note=\"%s\"", err_name(err), note->text);
        service_stop(cluster->options.service, 1);
    }
}

static void drain(void *argument)
{
    struct cluster *cluster = argument;
    struct note note = {""};
    void *item = NULL;
    enum err err = ERR_OK;
    atomic_store(&cluster->drain_posted, false);
    while (err == ERR_OK && !cluster->failed &&
           mailbox_take(cluster->messages, 0, &item) == ERR_OK) {
        struct bus_message *message = item;
        err = replica_receive(cluster->replica, bus_message_data(message), &note);
        bus_message_destroy(message);
    }
    after(cluster, err, &note);
}

static void on_message(void *context, struct bus_message *message)
{
    struct cluster *cluster = context;
    if (mailbox_post(cluster->messages, message) != ERR_OK) {
        bus_message_destroy(message);
    }
    if (!atomic_exchange(&cluster->drain_posted, true) &&
        service_post(cluster->options.service, drain, cluster) != ERR_OK) {
        atomic_store(&cluster->drain_posted, false); /* the next message or tick does it */
    }
}

static void forward_due(struct cluster *cluster);

void cluster_tick(struct cluster *cluster)
{
    struct note note = {""};
    drain(cluster);
    if (!cluster->failed) {
        after(cluster, replica_tick(cluster->replica, &note), &note);
    }
    forward_due(cluster);
}

/* ---- submissions from one replica to another ---------------------------------------------------- */

/* One forwarded call, on the replica that was asked. It asks whoever sequences until there is an answer or
 * the caller gives up: a transaction that the sequencer has already is answered as the first time, so what
 * a dying one took with it is simply asked of the next. */
struct forward {
    struct forward *next;
    struct cluster *cluster;
    struct service *service; /* outlives the cluster */
    struct rpc_call *call;
    struct bytes signed_tx; /* in the call's request */
    uint64_t again_ms;
    struct bus_message *reply;
    enum err err;
};

static void forward_finish(struct forward *forward, enum err err)
{
    rpc_finish(forward->call, err);
    free(forward);
}

/* After an err that may be gone in a moment. [worker] */
static void forward_again(struct forward *forward, enum err err, const char *why)
{
    if (rpc_cancelled(forward->call) || signals_stop_requested()) {
        forward_finish(forward, note_set(rpc_note(forward->call), err, "%s", why));
    } else {
        forward->again_ms = clock_mono_ms() + (err == ERR_TIMEOUT ? 0 : AGAIN_MS);
        forward->next = forward->cluster->again;
        forward->cluster->again = forward;
    }
}

static void forward_end(void *argument)
{
    struct forward *forward = argument;
    enum err err = forward->err;
    Openledger__V1__ForwardedReply *from = NULL;
    if (err == ERR_OK) {
        struct bytes data = bus_message_data(forward->reply);
        from = openledger__v1__forwarded_reply__unpack(NULL, data.size, data.data);
        err = from == NULL     ? ERR_IO
              : from->err == 0 ? ERR_OK
                               : err_from_grpc_status((int)from->err);
    }
    if (err == ERR_TIMEOUT || err == ERR_UNAVAILABLE) {
        forward_again(forward, err, from != NULL ? from->note : "the sequencer does not answer");
    } else if (err == ERR_OK) {
        Openledger__V1__SubmitReply reply = OPENLEDGER__V1__SUBMIT_REPLY__INIT;
        reply.tx = from->tx;
        reply.index = from->index;
        reply.repeated_submission = from->repeated_submission;
        forward_finish(forward, rpc_reply(forward->call, &reply));
    } else {
        forward_finish(forward,
                       note_set(rpc_note(forward->call), err, "%s",
                                from != NULL ? from->note : "the sequencer's answer is malformed"));
    }
    openledger__v1__forwarded_reply__free_unpacked(from, NULL);
}

static void forward_answered(void *argument)
{
    struct forward *forward = argument;
    struct bus_message *reply = forward->reply;
    forward_end(forward);
    bus_message_destroy(reply);
}

static void on_forward_answer(void *context, enum err err, struct bus_message *reply)
{
    struct forward *forward = context;
    forward->reply = reply;
    forward->err = err;
    if (service_post(forward->service, forward_answered, forward) != ERR_OK) {
        bus_message_destroy(reply); /* the worker is gone: the call must end all the same */
        forward_finish(forward, ERR_UNAVAILABLE);
    }
}

static void forward_ask(struct forward *forward)
{
    struct cluster *cluster = forward->cluster;
    uint32_t leader = replica_leader(cluster->replica);
    uint32_t left_ms = rpc_remaining_ms(forward->call);
    enum err err = ERR_UNAVAILABLE;
    if (leader != 0) {
        char subject[SUBJECT_SIZE];
        (void)snprintf(subject, sizeof subject, "ol.replica.%u.submit", leader);
        err =
            bus_request_async(cluster->bus, subject, (struct bus_headers){0}, forward->signed_tx,
                              left_ms < ASK_MS ? left_ms + 1 : ASK_MS, on_forward_answer, forward);
    }
    if (err != ERR_OK) {
        forward_again(forward, ERR_UNAVAILABLE,
                      leader == 0 ? "no replica sequences at the moment: try again"
                                  : "the sequencer cannot be reached");
    }
}

static void forward_due(struct cluster *cluster)
{
    struct forward *rest = cluster->again;
    uint64_t now = clock_mono_ms();
    cluster->again = NULL;
    while (rest != NULL) {
        struct forward *forward = rest;
        rest = forward->next;
        if (now >= forward->again_ms) {
            forward_ask(forward);
        } else {
            forward->next = cluster->again;
            cluster->again = forward;
        }
    }
}

enum err cluster_forward(struct cluster *cluster, struct rpc_call *call, struct bytes signed_tx)
{
    struct forward *forward = calloc(1, sizeof *forward);
    if (forward == NULL) {
        return ERR_NO_MEMORY;
    }
    *forward = (struct forward){.cluster = cluster,
                                .service = cluster->options.service,
                                .call = call,
                                .signed_tx = signed_tx};
    rpc_defer(call);
    forward_ask(forward);
    return ERR_OK;
}

void cluster_answer(struct cluster *cluster, struct bus_message *message, enum err err,
                    const struct settlement_result *result, const struct note *note)
{
    Openledger__V1__ForwardedReply reply = OPENLEDGER__V1__FORWARDED_REPLY__INIT;
    struct note text = {""};
    struct buf data;
    buf_init(&data, REPLY_MAX);
    reply.err = (uint32_t)err_grpc_status(err);
    if (note != NULL) {
        text = *note;
    }
    reply.note = text.text;
    if (err == ERR_OK) {
        reply.tx = ledger_binary(result->tx.bytes, DIGEST_SIZE);
        reply.index = result->index;
        reply.repeated_submission = result->repeated;
    }
    if (ledger_pack(&reply.base, &data) == ERR_OK && bus_message_reply(message) != NULL) {
        (void)!bus_publish(cluster->bus, bus_message_reply(message), NULL, (struct bus_headers){0},
                           buf_bytes(&data));
    }
    buf_deinit(&data);
    bus_message_destroy(message);
}

struct submission {
    struct cluster *cluster;
    struct bus_message *message;
};

static void submission_take(void *argument)
{
    struct submission *submission = argument;
    desk_take_forwarded(submission->cluster->options.desk, submission->message);
    free(submission);
}

static void on_submission(void *context, struct bus_message *message)
{
    struct cluster *cluster = context;
    struct submission *submission = malloc(sizeof *submission);
    if (submission != NULL) {
        *submission = (struct submission){cluster, message};
    }
    if (submission == NULL ||
        service_post(cluster->options.service, submission_take, submission) != ERR_OK) {
        bus_message_destroy(message); /* it asks again */
        free(submission);
    }
}

/* ---- life --------------------------------------------------------------------------------------- */

static enum err listen(struct cluster *cluster)
{
    static const char *const SUBJECTS[] = {"ol.epoch.>"};
    const struct bus_stream claims = {.name = CLAIM_STREAM,
                                      .subjects = SUBJECTS,
                                      .subject_count = 1,
                                      .retention = BUS_KEEP,
                                      .replicas = service_replicas(cluster->options.service),
                                      .append_only = true};
    char subject[SUBJECT_SIZE];
    char submit[SUBJECT_SIZE];
    (void)snprintf(subject, sizeof subject, "ol.replica.%u", cluster->options.self);
    (void)snprintf(submit, sizeof submit, "ol.replica.%u.submit", cluster->options.self);
    enum err err = bus_stream_declare(cluster->bus, &claims);
    err =
        err ? err
            : bus_subscribe(cluster->bus, subject, NULL, on_message, cluster, &cluster->listening);
    return err ? err
               : bus_subscribe(cluster->bus, submit, NULL, on_submission, cluster,
                               &cluster->submitting);
}

enum err cluster_open(const struct cluster_options *options, struct cluster **out_cluster,
                      struct note *note)
{
    struct cluster *cluster = calloc(1, sizeof *cluster);
    if (cluster == NULL) {
        return ERR_NO_MEMORY;
    }
    cluster->options = *options;
    cluster->bus = service_bus(options->service);
    cluster->messages = mailbox_create(MESSAGES_MAX);
    cluster->differs =
        metrics_counter(service_metrics(options->service), "openledger_roots_differ_total", "",
                        "blocks whose root differed at another replica");
    buf_init(&cluster->genesis, LEDGER_GENESIS_MAX);
    struct replica_options replica = {.epoch = {.self = options->self,
                                                .replicas = options->replicas,
                                                .heartbeat_ms = options->takeover_ms / 10,
                                                .takeover_ms = options->takeover_ms},
                                      .settlement = options->settlement,
                                      .hands = {.context = cluster,
                                                .now_ms = now_ms,
                                                .clock_ms = clock_ms,
                                                .random = draw,
                                                .send = send,
                                                .receive = receive,
                                                .claim = claim,
                                                .opened = opened,
                                                .differs = differs}};
    enum err err = cluster->messages == NULL
                       ? ERR_NO_MEMORY
                       : buf_append_bytes(&cluster->genesis, options->settlement.genesis);
    replica.settlement.genesis = buf_bytes(&cluster->genesis);
    err = err ? err : replica_open(&replica, &cluster->replica, note);
    if (err == ERR_OK && options->replicas > 1) {
        err = listen(cluster);
    }
    if (err != ERR_OK) {
        cluster_close(cluster);
        return err;
    }
    atomic_store(&cluster->leads, replica_leads(cluster->replica));
    *out_cluster = cluster;
    return ERR_OK;
}

static void drop_message(void *message)
{
    bus_message_destroy(message);
}

void cluster_close(struct cluster *cluster)
{
    if (cluster != NULL) {
        bus_unsubscribe(cluster->submitting);
        bus_unsubscribe(cluster->listening);
        replica_close(cluster->replica);
        while (cluster->again != NULL) {
            struct forward *forward = cluster->again;
            cluster->again = forward->next;
            forward_finish(forward, ERR_UNAVAILABLE);
        }
        if (cluster->messages != NULL) {
            mailbox_destroy(cluster->messages, drop_message);
        }
        buf_deinit(&cluster->genesis);
        free(cluster);
    }
}

bool cluster_leads(const struct cluster *cluster)
{
    return atomic_load(&cluster->leads);
}

struct replica *cluster_replica(struct cluster *cluster)
{
    return cluster->replica;
}
