/* bus.c - connection, subscriptions, and the keeper that makes streams exist; see bus.h.
 *
 * Threads: the NATS client's own, and one keeper per bus. The keeper is woken by connects and by
 * asynchronous requests. */
#include "shared/bus/bus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/bus/internal.h"
#include "shared/platform/clock.h"

#define BUS_SERVERS_MAX 8
#define BUS_STOP_MS 2000 /* wait for a subscription's last callback */

enum err bus_err(natsStatus status)
{
    switch ((int)status) {
    case NATS_OK:
        return ERR_OK;
    case NATS_TIMEOUT:
        return ERR_TIMEOUT;
    case NATS_NOT_FOUND:
        return ERR_NOT_FOUND;
    case NATS_NO_MEMORY:
        return ERR_NO_MEMORY;
    case NATS_MAX_PAYLOAD:
    case NATS_SLOW_CONSUMER:
    case NATS_INSUFFICIENT_BUFFER:
        return ERR_LIMIT;
    case NATS_NOT_PERMITTED:
    case NATS_CONNECTION_AUTH_FAILED:
        return ERR_DENIED;
    case NATS_INVALID_ARG:
    case NATS_INVALID_SUBJECT:
    case NATS_INVALID_QUEUE_NAME:
    case NATS_ADDRESS_MISSING:
    case NATS_PROTOCOL_ERROR:
        return ERR_INVALID;
    case NATS_SYS_ERROR:
        return ERR_IO;
    default:
        return ERR_UNAVAILABLE; /* the many names for "no connection", and refusals for now */
    }
}

void bus_until(struct timespec *out, uint64_t mono_ms)
{
    out->tv_sec = (time_t)(mono_ms / 1000);
    out->tv_nsec = (long)(mono_ms % 1000) * 1000000;
}

bool bus_connected(const struct bus *bus)
{
    return natsConnection_Status(bus->connection) == NATS_CONN_STATUS_CONNECTED;
}

uint64_t bus_generation(struct bus *bus)
{
    pthread_mutex_lock(&bus->lock);
    uint64_t generation = bus->generation;
    pthread_mutex_unlock(&bus->lock);
    return generation;
}

/* ---- the keeper ---- */

static void on_connected(natsConnection *connection, void *context)
{
    (void)connection;
    struct bus *bus = context;
    pthread_mutex_lock(&bus->lock);
    bus->generation++;
    pthread_cond_broadcast(&bus->changed);
    pthread_mutex_unlock(&bus->lock);
}

static void on_disconnected(natsConnection *connection, void *context)
{
    on_connected(connection, context); /* what was ensured must be looked at again */
}

/* The last callback of a connection: the ones above are queued before it. */
static void on_closed(natsConnection *connection, void *context)
{
    (void)connection;
    struct bus *bus = context;
    pthread_mutex_lock(&bus->lock);
    bus->closed = true;
    pthread_cond_broadcast(&bus->changed);
    pthread_mutex_unlock(&bus->lock);
}

/* Closes the connection; false: the client did not say in time that it makes no more callbacks. */
static bool close_connection(struct bus *bus)
{
    if (bus->connection == NULL) {
        return true;
    }
    natsConnection_FlushTimeout(bus->connection, 500);
    natsConnection_Close(bus->connection);
    struct timespec until;
    bus_until(&until, clock_mono_ms() + BUS_STOP_MS);
    pthread_mutex_lock(&bus->lock);
    while (!bus->closed && pthread_cond_timedwait(&bus->changed, &bus->lock, &until) == 0) {
    }
    bool closed = bus->closed;
    pthread_mutex_unlock(&bus->lock);
    return closed;
}

static void on_error(natsConnection *connection, natsSubscription *subscription, natsStatus status,
                     void *context)
{
    /* Slow consumers and the like: the affected call reports it. The library would print it. */
    (void)connection;
    (void)subscription;
    (void)status;
    (void)context;
}

static enum err ensure_stream(struct bus *bus, const struct bus_stream *stream, struct note *note)
{
    jsStreamConfig config;
    jsStreamConfig_Init(&config);
    const char *subjects[BUS_STREAM_MAX];
    CHECK(stream->subject_count >= 1 && stream->subject_count <= BUS_STREAM_MAX);
    for (size_t i = 0; i < stream->subject_count; i++) {
        subjects[i] = stream->subjects[i];
    }
    config.Name = stream->name;
    config.Subjects = subjects;
    config.SubjectsLen = (int)stream->subject_count;
    config.Retention = stream->retention == BUS_WORK_QUEUE ? js_WorkQueuePolicy : js_LimitsPolicy;
    config.Storage = js_FileStorage;
    config.Discard = js_DiscardOld;
    config.MaxAge = (int64_t)stream->age_max_s * 1000000000;
    config.MaxBytes = stream->bytes_max == 0 ? -1 : (int64_t)stream->bytes_max;
    uint64_t window_ms = stream->dedupe_window_ms == 0 ? 120000 : stream->dedupe_window_ms;
    if (stream->age_max_s != 0 && window_ms > stream->age_max_s * 1000) {
        window_ms = stream->age_max_s * 1000; /* the server insists */
    }
    config.Duplicates = (int64_t)window_ms * 1000000;
    config.Replicas = stream->replicas == 0 ? 1 : stream->replicas;
    config.DenyDelete = stream->append_only;
    config.DenyPurge = stream->append_only;
    jsErrCode code = 0;
    natsStatus status = js_AddStream(NULL, bus->stream_context, &config, NULL, &code);
    if (status != NATS_OK && code == JSStreamNameExistErr) {
        status = js_UpdateStream(NULL, bus->stream_context, &config, NULL, &code);
    }
    if (status != NATS_OK) {
        return note_set(note, bus_err(status), "could not make stream %s: %s (%d)", stream->name,
                        natsStatus_GetText(status), (int)code);
    }
    return ERR_OK;
}

/* Called with the lock held; gives it up while it talks to the server. */
static void ensure_streams(struct bus *bus)
{
    for (size_t i = 0; i < bus->stream_count && bus_connected(bus); i++) {
        if (bus->ensured[i] == bus->generation) {
            continue;
        }
        uint64_t generation = bus->generation;
        struct bus_stream stream = bus->streams[i];
        struct note note = {0};
        pthread_mutex_unlock(&bus->lock);
        enum err err = ensure_stream(bus, &stream, &note);
        pthread_mutex_lock(&bus->lock);
        if (err == ERR_OK) {
            bus->ensured[i] = generation;
        } else {
            bus->reason = note;
        }
        pthread_cond_broadcast(&bus->changed);
    }
}

static void keep(void *argument)
{
    struct bus *bus = argument;
    uint64_t try_ms = 0;
    uint64_t seen = 0;
    size_t seen_streams = 0;
    pthread_mutex_lock(&bus->lock);
    while (!bus->stopping) {
        uint64_t now_ms = clock_mono_ms();
        if (now_ms >= try_ms || seen != bus->generation || seen_streams != bus->stream_count) {
            seen = bus->generation;
            seen_streams = bus->stream_count;
            ensure_streams(bus);
            try_ms = now_ms + BUS_RETRY_MS;
        }
        pthread_mutex_unlock(&bus->lock);
        bus_sweep(bus);
        pthread_mutex_lock(&bus->lock);
        struct timespec until;
        bus_until(&until, bus->pending_count > 0 ? clock_mono_ms() + BUS_SWEEP_MS : try_ms);
        if (!bus->stopping && seen == bus->generation && seen_streams == bus->stream_count) {
            pthread_cond_timedwait(&bus->changed, &bus->lock, &until);
        }
    }
    pthread_mutex_unlock(&bus->lock);
}

/* ---- opening ---- */

static natsStatus set_servers(natsOptions *options, const char *url)
{
    char copy[1024];
    size_t size = strlen(url);
    if (size == 0 || size >= sizeof copy) {
        return NATS_INVALID_ARG;
    }
    memcpy(copy, url, size + 1);
    const char *servers[BUS_SERVERS_MAX];
    int count = 0;
    for (char *at = copy; at != NULL;) {
        if (count == BUS_SERVERS_MAX) {
            return NATS_INVALID_ARG;
        }
        servers[count++] = at;
        at = strchr(at, ',');
        if (at != NULL) {
            *at++ = '\0';
        }
    }
    return natsOptions_SetServers(options, servers, count);
}

static natsStatus make_options(struct bus *bus, const struct bus_options *from,
                               natsOptions **out_options)
{
    natsOptions *options = NULL;
    natsStatus status = natsOptions_Create(&options);
    if (status == NATS_OK) {
        status = set_servers(options, from->url);
    }
    if (status == NATS_OK && from->name != NULL) {
        status = natsOptions_SetName(options, from->name);
    }
    if (status == NATS_OK) {
        natsOptions_SetSendAsap(options, true);
        natsOptions_SetTimeout(options, 2000);
        natsOptions_SetAllowReconnect(options, true);
        natsOptions_SetMaxReconnect(options, -1);
        natsOptions_SetReconnectWait(options, 500);
        natsOptions_SetReconnectJitter(options, 100, 100);
        natsOptions_SetPingInterval(options, 10000);
        natsOptions_SetMaxPingsOut(options, 2);
        natsOptions_SetFailRequestsOnDisconnect(options, true);
        natsOptions_UseGlobalMessageDelivery(options, true);
        natsOptions_SetRetryOnFailedConnect(options, true, on_connected, bus);
        natsOptions_SetReconnectedCB(options, on_connected, bus);
        natsOptions_SetDisconnectedCB(options, on_disconnected, bus);
        natsOptions_SetClosedCB(options, on_closed, bus);
        natsOptions_SetErrorHandler(options, on_error, bus);
        *out_options = options;
    } else {
        natsOptions_Destroy(options);
    }
    return status;
}

enum err bus_open(const struct bus_options *options, struct bus **out_bus, struct note *note)
{
    struct bus *bus = calloc(1, sizeof *bus);
    if (bus == NULL) {
        return ERR_NO_MEMORY;
    }
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&bus->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&bus->lock, NULL);
    bus->generation = 1;
    bus->next_id = 1;
    natsOptions *nats = NULL;
    enum err err = ERR_NO_MEMORY;
    bus->pending = calloc(BUS_REQUEST_MAX, sizeof bus->pending[0]);
    if (bus->pending == NULL) {
        goto out;
    }
    natsStatus status = make_options(bus, options, &nats);
    if (status != NATS_OK) {
        err = note_set(note, ERR_INVALID, "nats url '%s': %s", options->url,
                       natsStatus_GetText(status));
        goto out;
    }
    status = natsConnection_Connect(&bus->connection, nats);
    if (status != NATS_OK && status != NATS_NOT_YET_CONNECTED) {
        err = note_set(note, bus_err(status), "nats '%s': %s", options->url,
                       natsStatus_GetText(status));
        goto out;
    }
    jsOptions stream_options;
    jsOptions_Init(&stream_options);
    stream_options.Wait = BUS_CALL_MS;
    status = natsConnection_JetStream(&bus->stream_context, bus->connection, &stream_options);
    char subject[BUS_INBOX_SIZE + 2];
    bus_inbox(bus, bus->inbox);
    (void)snprintf(subject, sizeof subject, "%s.*", bus->inbox);
    if (status == NATS_OK) {
        status = natsConnection_Subscribe(&bus->inbox_subscription, bus->connection, subject,
                                          bus_on_answer, bus);
    }
    if (status != NATS_OK) {
        err = note_set(note, bus_err(status), "nats: %s", natsStatus_GetText(status));
        goto out;
    }
    err = thread_start("bus-keeper", keep, bus, &bus->keeper, note);
out:
    natsOptions_Destroy(nats);
    if (err != ERR_OK) {
        bus_close(bus);
        return err;
    }
    *out_bus = bus;
    return ERR_OK;
}

void bus_close(struct bus *bus)
{
    if (bus == NULL) {
        return;
    }
    pthread_mutex_lock(&bus->lock);
    bus->stopping = true;
    pthread_cond_broadcast(&bus->changed);
    pthread_mutex_unlock(&bus->lock);
    thread_join(bus->keeper);
    bool closed = close_connection(bus);
    if (bus->pending != NULL) {
        bus_sweep(bus);
    }
    natsSubscription_Destroy(bus->inbox_subscription);
    jsCtx_Destroy(bus->stream_context);
    natsConnection_Destroy(bus->connection);
    if (!closed) {
        return; /* a late callback may still look at bus: better leaked than freed */
    }
    free(bus->pending);
    pthread_cond_destroy(&bus->changed);
    pthread_mutex_destroy(&bus->lock);
    free(bus);
}

/* Called with the lock held. */
static bool is_ready(const struct bus *bus)
{
    for (size_t i = 0; i < bus->stream_count; i++) {
        if (bus->ensured[i] != bus->generation) {
            return false;
        }
    }
    return bus_connected(bus);
}

bool bus_ready(const struct bus *bus)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&bus->lock;
    pthread_mutex_lock(lock);
    bool ready = is_ready(bus);
    pthread_mutex_unlock(lock);
    return ready;
}

bool bus_wait_ready(struct bus *bus, uint32_t timeout_ms)
{
    uint64_t end_ms = clock_mono_ms() + timeout_ms;
    bool ready = bus_ready(bus);
    while (!ready && clock_mono_ms() < end_ms) {
        clock_sleep_ms(10);
        ready = bus_ready(bus);
    }
    return ready;
}

void bus_reason(const struct bus *bus, struct note *out_reason)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&bus->lock;
    pthread_mutex_lock(lock);
    if (!bus_connected(bus)) {
        (void)note_set(out_reason, ERR_OK, "not connected to nats");
    } else if (is_ready(bus)) {
        (void)note_set(out_reason, ERR_OK, "%s", "");
    } else if (bus->reason.text[0] == '\0') {
        (void)note_set(out_reason, ERR_OK, "streams are being made");
    } else {
        *out_reason = bus->reason;
    }
    pthread_mutex_unlock(lock);
}

enum err bus_stream_declare(struct bus *bus, const struct bus_stream *stream)
{
    CHECK(stream->subject_count >= 1);
    enum err err = ERR_LIMIT;
    pthread_mutex_lock(&bus->lock);
    if (bus->stream_count < BUS_STREAM_MAX) {
        bus->streams[bus->stream_count++] = *stream;
        pthread_cond_broadcast(&bus->changed);
        err = ERR_OK;
    }
    pthread_mutex_unlock(&bus->lock);
    return err;
}

void bus_inbox(struct bus *bus, char out_subject[static BUS_INBOX_SIZE])
{
    (void)bus;
    natsInbox *inbox = NULL;
    CHECK(natsInbox_Create(&inbox) == NATS_OK);
    CHECK(strlen(inbox) + 24 < BUS_INBOX_SIZE); /* room for a suffix */
    memcpy(out_subject, inbox, strlen(inbox) + 1);
    natsInbox_Destroy(inbox);
}

/* ---- subscriptions ---- */

struct bus_subscription {
    natsSubscription *subscription;
    bus_deliver *deliver;
    void *context;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done;
};

static void on_message(natsConnection *connection, natsSubscription *subscription, natsMsg *msg,
                       void *context)
{
    (void)connection;
    (void)subscription;
    struct bus_subscription *own = context;
    struct bus_message *message = bus_message_wrap(msg, false);
    if (message != NULL) {
        own->deliver(own->context, message);
    }
}

static void on_complete(void *context)
{
    struct bus_subscription *own = context;
    pthread_mutex_lock(&own->lock);
    own->done = true;
    pthread_cond_signal(&own->ended);
    pthread_mutex_unlock(&own->lock);
}

enum err bus_subscribe(struct bus *bus, const char *subject, const char *queue,
                       bus_deliver *deliver, void *context,
                       struct bus_subscription **out_subscription)
{
    struct bus_subscription *own = calloc(1, sizeof *own);
    if (own == NULL) {
        return ERR_NO_MEMORY;
    }
    own->deliver = deliver;
    own->context = context;
    pthread_mutex_init(&own->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&own->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    natsStatus status = queue == NULL
                            ? natsConnection_Subscribe(&own->subscription, bus->connection, subject,
                                                       on_message, own)
                            : natsConnection_QueueSubscribe(&own->subscription, bus->connection,
                                                            subject, queue, on_message, own);
    if (status == NATS_OK) {
        status = natsSubscription_SetOnCompleteCB(own->subscription, on_complete, own);
    }
    if (status != NATS_OK) {
        own->done = true;
        bus_unsubscribe(own);
        return bus_err(status);
    }
    *out_subscription = own;
    return ERR_OK;
}

void bus_unsubscribe(struct bus_subscription *own)
{
    if (own == NULL) {
        return;
    }
    if (own->subscription != NULL) {
        natsSubscription_Unsubscribe(own->subscription);
        struct timespec until;
        bus_until(&until, clock_mono_ms() + BUS_STOP_MS);
        pthread_mutex_lock(&own->lock);
        while (!own->done && pthread_cond_timedwait(&own->ended, &own->lock, &until) == 0) {
        }
        pthread_mutex_unlock(&own->lock);
        natsSubscription_Destroy(own->subscription);
    }
    pthread_cond_destroy(&own->ended);
    pthread_mutex_destroy(&own->lock);
    free(own);
}
