/* server_bus.c - serving over NATS: request-reply, and streams with credit.
 *
 * A unary answer is one message: the reply, or Ol-Status and Ol-Note. A stream's answer is an opening
 * message (Ol-Control), the messages, and an end with Ol-Status. The reader starts with RPC_CREDIT
 * messages of credit and sends "credit N" to the control subject as it reads, "cancel" to leave. What
 * has no credit waits in the flow, RPC_STREAM_QUEUE_MAX messages at most. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/platform/clock.h"
#include "shared/rpc/internal.h"

static const char CREDIT[] = "credit ";

/* One answer over NATS; a stream's stays in the server's list until drained. */
struct rpc_flow {
    struct rpc_server *server;
    struct rpc_flow *next;
    char *reply; /* subject; NULL: the caller wants no answer */
    bool stream;
    uint64_t id;
    /* guarded by the server's lock */
    uint64_t heard_ms;
    uint32_t credit;
    struct bytes queue[RPC_STREAM_QUEUE_MAX]; /* a ring of malloc()ed messages */
    size_t first, count;
    bool gone, ended;
    enum err err;
    char note[3 * NOTE_SIZE];
};

static void publish(struct rpc_flow *flow, const struct bus_header *headers, size_t count,
                    struct bytes data)
{
    if (flow->reply != NULL) {
        /* A lost answer is the caller's timeout: nothing more can be done here. */
        (void)!bus_publish(flow->server->bus, flow->reply, NULL,
                           (struct bus_headers){.items = headers, .count = count}, data);
    }
}

static void publish_end(struct rpc_flow *flow, struct bytes data)
{
    char status[16];
    (void)snprintf(status, sizeof status, "%d", err_grpc_status(flow->err));
    struct bus_header headers[] = {{RPC_H_STATUS, status}, {RPC_H_NOTE, flow->note}};
    publish(flow, headers, flow->err == ERR_OK ? 1 : 2, data);
}

static void free_flow(struct rpc_flow *flow)
{
    for (; flow->count > 0; flow->count--) {
        free((void *)(uintptr_t)flow->queue[flow->first].data);
        flow->first = (flow->first + 1) % RPC_STREAM_QUEUE_MAX;
    }
    free(flow->reply);
    free(flow);
}

static void unlink_flow(struct rpc_flow *flow)
{
    for (struct rpc_flow **at = &flow->server->flows; *at != NULL; at = &(*at)->next) {
        if (*at == flow) {
            *at = flow->next;
            return;
        }
    }
}

/* With the lock: sends what credit allows; true when the flow is over and may be freed. */
static bool advance(struct rpc_flow *flow)
{
    while (flow->count > 0 && flow->credit > 0 && !flow->gone) {
        struct bytes *message = &flow->queue[flow->first];
        publish(flow, NULL, 0, *message);
        free((void *)(uintptr_t)message->data);
        flow->first = (flow->first + 1) % RPC_STREAM_QUEUE_MAX;
        flow->count--;
        flow->credit--;
    }
    if (!flow->ended) {
        return false;
    }
    if (flow->gone) {
        return true;
    }
    if (flow->count > 0) {
        return false;
    }
    publish_end(flow, (struct bytes){0});
    return true;
}

/* With the lock: readers that fell silent are gone. */
static void sweep(struct rpc_server *server)
{
    uint64_t now_ms = clock_mono_ms();
    for (struct rpc_flow **at = &server->flows; *at != NULL;) {
        struct rpc_flow *flow = *at;
        flow->gone = flow->gone || flow->heard_ms + RPC_STREAM_SILENCE_MS < now_ms;
        if (flow->gone && flow->ended) {
            *at = flow->next;
            free_flow(flow);
        } else {
            at = &flow->next;
        }
    }
}

static void on_control(void *context, struct bus_message *message)
{
    struct rpc_server *server = context;
    const char *dot = strrchr(bus_message_subject(message), '.');
    uint64_t id = dot == NULL ? 0 : strtoull(dot + 1, NULL, 10);
    struct bytes data = bus_message_data(message);
    char text[32] = "";
    memcpy(text, data.data == NULL ? (const uint8_t *)"" : data.data,
           data.size < sizeof text - 1 ? data.size : sizeof text - 1);
    pthread_mutex_lock(&server->lock);
    sweep(server);
    for (struct rpc_flow *flow = server->flows; flow != NULL; flow = flow->next) {
        if (flow->id != id) {
            continue;
        }
        flow->heard_ms = clock_mono_ms();
        if (strcmp(text, "cancel") == 0) {
            flow->gone = true;
        } else if (strncmp(text, CREDIT, strlen(CREDIT)) == 0) {
            unsigned long credit = strtoul(text + strlen(CREDIT), NULL, 10);
            flow->credit += credit <= RPC_CREDIT ? (uint32_t)credit : 0;
            flow->credit = flow->credit > RPC_CREDIT ? RPC_CREDIT : flow->credit;
        }
        if (advance(flow)) {
            unlink_flow(flow);
            free_flow(flow);
        }
        break;
    }
    pthread_mutex_unlock(&server->lock);
    bus_message_destroy(message);
}

static enum err flow_send(void *data, struct bytes message)
{
    struct rpc_flow *flow = data;
    enum err err = ERR_OK;
    pthread_mutex_lock(&flow->server->lock);
    if (flow->gone) {
        err = ERR_UNAVAILABLE;
    } else if (flow->count == RPC_STREAM_QUEUE_MAX) {
        err = ERR_LIMIT;
    } else {
        uint8_t *copy = malloc(message.size + 1);
        if (copy == NULL) {
            err = ERR_NO_MEMORY;
        } else {
            memcpy(copy, message.data == NULL ? (const uint8_t *)"" : message.data, message.size);
            flow->queue[(flow->first + flow->count++) % RPC_STREAM_QUEUE_MAX] =
                (struct bytes){.data = copy, .size = message.size};
            (void)advance(flow);
        }
    }
    pthread_mutex_unlock(&flow->server->lock);
    return err;
}

static bool flow_room(void *data)
{
    struct rpc_flow *flow = data;
    pthread_mutex_lock(&flow->server->lock);
    bool room = flow->count < RPC_STREAM_QUEUE_MAX;
    pthread_mutex_unlock(&flow->server->lock);
    return room;
}

static bool flow_gone(void *data)
{
    struct rpc_flow *flow = data;
    if (!flow->stream) {
        return false;
    }
    pthread_mutex_lock(&flow->server->lock);
    flow->gone = flow->gone || flow->heard_ms + RPC_STREAM_SILENCE_MS < clock_mono_ms();
    bool gone = flow->gone;
    pthread_mutex_unlock(&flow->server->lock);
    return gone;
}

static void flow_end(void *data, enum err err, const char *note, struct bytes reply)
{
    struct rpc_flow *flow = data;
    rpc_percent_encode(note, flow->note, sizeof flow->note);
    flow->err = err;
    if (!flow->stream) {
        publish_end(flow, err == ERR_OK ? reply : (struct bytes){0});
        free_flow(flow);
        return;
    }
    struct rpc_server *server = flow->server;
    pthread_mutex_lock(&server->lock);
    flow->ended = true;
    if (advance(flow)) {
        unlink_flow(flow);
        free_flow(flow);
    }
    pthread_mutex_unlock(&server->lock);
}

static const struct rpc_transport flow_transport = {
    .send = flow_send, .room = flow_room, .gone = flow_gone, .end = flow_end};

/* subject ol.rpc.<Service>.<Method> */
static void on_request(void *context, struct bus_message *message)
{
    struct rpc_server *server = context;
    const char *subject = bus_message_subject(message);
    const char *reply = bus_message_reply(message);
    struct rpc_flow *flow = calloc(1, sizeof *flow);
    if (flow == NULL) {
        bus_message_destroy(message); /* the caller times out */
        return;
    }
    flow->server = server;
    flow->reply = reply == NULL ? NULL : strdup(reply);
    const char *timeout = bus_message_header(message, RPC_H_TIMEOUT);
    uint64_t timeout_ms = timeout == NULL ? 0 : strtoull(timeout, NULL, 10);
    struct rpc_incoming incoming = {
        .service_method = strncmp(subject, "ol.rpc.", 7) == 0 ? subject + 7 : "",
        .data = bus_message_data(message),
        .token = bus_message_header(message, RPC_H_TOKEN),
        .timeout_ms =
            timeout_ms > RPC_DEADLINE_MAX_MS ? RPC_DEADLINE_MAX_MS : (uint32_t)timeout_ms};
    const struct rpc_spec *spec = rpc_find(incoming.service_method);
    if (spec != NULL && spec->kind == RPC_SERVER_STREAM) {
        flow->stream = true;
        flow->credit = RPC_CREDIT;
        flow->heard_ms = clock_mono_ms();
        pthread_mutex_lock(&server->lock);
        sweep(server);
        flow->id = ++server->next_flow;
        flow->next = server->flows;
        server->flows = flow;
        pthread_mutex_unlock(&server->lock);
        char control[BUS_INBOX_SIZE];
        (void)snprintf(control, sizeof control, "%.70s.%" PRIu64, server->control_inbox, flow->id);
        struct bus_header header = {RPC_H_CONTROL, control};
        publish(flow, &header, 1, (struct bytes){0});
    }
    rpc_accept(server, &incoming, &flow_transport, flow);
    bus_message_destroy(message);
}

enum err rpc_serve_bus(struct rpc_server *server, struct bus *bus, struct note *note)
{
    CHECK(server->bus == NULL);
    server->bus = bus;
    bus_inbox(bus, server->control_inbox);
    char subject[RPC_NAME_MAX + BUS_INBOX_SIZE];
    (void)snprintf(subject, sizeof subject, "%s.*", server->control_inbox);
    enum err err = bus_subscribe(bus, subject, NULL, on_control, server, &server->control);
    for (size_t i = 0; i < server->service_count && err == ERR_OK; i++) {
        if (strcmp(server->services[i], "Health") == 0) {
            continue; /* every process has its own: asked over HTTP */
        }
        (void)snprintf(subject, sizeof subject, "ol.rpc.%s.*", server->services[i]);
        err = bus_subscribe(bus, subject, server->services[i], on_request, server,
                            &server->subscriptions[i]);
    }
    return err == ERR_OK ? err : note_set(note, err, "could not subscribe to %s", subject);
}

void rpc_flows_destroy(struct rpc_server *server)
{
    while (server->flows != NULL) {
        struct rpc_flow *flow = server->flows;
        server->flows = flow->next;
        free_flow(flow);
    }
}
