/* server.c - calls: from a transport to the handler on its thread, and back; see rpc.h.
 *
 *   accept (any thread) -> executor -> decode, handler -> [deferred ...] -> transport's end
 *
 * A call is held by run_call() and, when deferred, by whoever will finish it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/json/message.h"
#include "shared/platform/clock.h"
#include "shared/rpc/internal.h"

struct rpc_call {
    struct rpc_server *server;
    const struct rpc_bound *bound;
    const struct rpc_transport *transport;
    void *transport_data;
    struct arena *arena;
    struct note note;
    struct bytes data; /* in arena, not decoded yet */
    bool json;
    const char *token;
    uint64_t start_us, deadline_ms;
    struct buf reply;
    bool replied;
    atomic_bool deferred;
    atomic_uint references;
};

struct rpc_server *rpc_server_create(struct rpc_executor executor, struct metrics *metrics)
{
    struct rpc_server *server = calloc(1, sizeof *server);
    if (server != NULL) {
        server->executor = executor;
        server->metrics = metrics;
        pthread_mutex_init(&server->lock, NULL);
    }
    return server;
}

void rpc_server_destroy(struct rpc_server *server)
{
    if (server == NULL) {
        return;
    }
    for (size_t i = 0; i < RPC_SERVICES_MAX; i++) {
        bus_unsubscribe(server->subscriptions[i]);
    }
    bus_unsubscribe(server->control);
    rpc_forward_deinit(&server->forward);
    rpc_flows_destroy(server);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

void rpc_serve(struct rpc_server *server, const struct rpc_service *service, void *context)
{
    const ProtobufCServiceDescriptor *descriptor = service->descriptor;
    CHECK(server->service_count < RPC_SERVICES_MAX);
    CHECK(service->count == descriptor->n_methods);
    server->services[server->service_count++] = descriptor->short_name;
    for (size_t i = 0; i < service->count; i++) {
        char name[RPC_NAME_MAX + 1];
        char label[RPC_NAME_MAX + 16];
        (void)snprintf(name, sizeof name, "%s.%s", descriptor->short_name,
                       service->bindings[i].method);
        const struct rpc_spec *spec = rpc_find(name);
        CHECK(spec != NULL);
        CHECK(rpc_bound_find(server, name) == NULL);
        CHECK(server->bound_count < RPC_BOUND_MAX);
        struct rpc_bound *bound = &server->bound[server->bound_count++];
        *bound = (struct rpc_bound){
            .spec = spec, .handle = service->bindings[i].handle, .context = context};
        if (server->metrics != NULL) {
            (void)snprintf(label, sizeof label, "method=\"%s\"", name);
            bound->seconds =
                metrics_histogram(server->metrics, "rpc_seconds", label, "time to answer a call",
                                  METRICS_SECONDS, METRICS_SECONDS_COUNT);
            bound->errors = metrics_counter(server->metrics, "rpc_errors_total", label,
                                            "calls answered with an error");
        }
    }
}

const struct rpc_bound *rpc_bound_find(const struct rpc_server *server, const char *service_method)
{
    const struct rpc_spec *spec = rpc_find(service_method);
    for (size_t i = 0; spec != NULL && i < server->bound_count; i++) {
        if (server->bound[i].spec == spec) {
            return &server->bound[i];
        }
    }
    return NULL;
}

static void release(struct rpc_call *call, unsigned count)
{
    if (atomic_fetch_sub(&call->references, count) == count) {
        buf_deinit(&call->reply);
        arena_destroy(call->arena);
        free(call);
    }
}

/* The answer leaves. The reference of whoever had to finish is still the caller's to give up. */
static void finish(struct rpc_call *call, enum err err)
{
    struct rpc_server *server = call->server;
    if (err == ERR_OK && call->bound->spec->kind == RPC_UNARY) {
        CHECK(call->replied);
    }
    if (server->metrics != NULL) {
        metric_observe(call->bound->seconds, (double)(clock_mono_us() - call->start_us) / 1e6);
        if (err != ERR_OK) {
            metric_add(call->bound->errors, 1);
        }
    }
    const char *note =
        err != ERR_OK && call->note.text[0] == '\0' ? err_meaning(err) : call->note.text;
    call->transport->end(call->transport_data, err, note, buf_bytes(&call->reply));
    atomic_fetch_sub(&server->calls, 1);
}

static enum err handle(struct rpc_call *call)
{
    const struct rpc_spec *spec = call->bound->spec;
    if (rpc_cancelled(call)) {
        return note_set(&call->note, ERR_TIMEOUT, "deadline passed while the call waited");
    }
    ProtobufCMessage *request = NULL;
    enum err err;
    if (call->json) {
        ProtobufCAllocator allocator = rpc_allocator(call->arena);
        err = json_to_message(call->data, 2UL * RPC_MESSAGE_MAX, spec->input, &allocator, &request,
                              &call->note);
    } else {
        err = rpc_decode(spec->input, call->data, call->arena, &request, &call->note);
    }
    return err == ERR_OK ? call->bound->handle(call->bound->context, call, request) : err;
}

static void run_call(void *argument)
{
    struct rpc_call *call = argument;
    atomic_fetch_add(&call->references, 1);
    enum err err = handle(call);
    if (!atomic_load(&call->deferred)) {
        finish(call, err);
        release(call, 2);
    } else {
        CHECK(err == ERR_OK); /* who defers finishes, also with an error */
        release(call, 1);
    }
}

static enum err take_in(struct rpc_server *server, const struct rpc_incoming *incoming,
                        struct rpc_call **out_call, struct note *note)
{
    const struct rpc_bound *bound = rpc_bound_find(server, incoming->service_method);
    if (bound == NULL) {
        return note_set(note, ERR_UNIMPLEMENTED, "no such method: %.100s",
                        incoming->service_method);
    }
    if (incoming->outside && bound->spec->who == RPC_SERVICES) {
        return note_set(note, ERR_DENIED, "%s is for services only", incoming->service_method);
    }
    if (incoming->data.size > (incoming->json ? 2UL : 1UL) * RPC_MESSAGE_MAX) {
        return note_set(note, ERR_LIMIT, "request of %zu bytes: the limit is %u",
                        incoming->data.size, RPC_MESSAGE_MAX);
    }
    struct rpc_call *call = calloc(1, sizeof *call);
    if (call == NULL) {
        return ERR_NO_MEMORY;
    }
    *call = (struct rpc_call){.server = server, .bound = bound, .json = incoming->json};
    buf_init(&call->reply, 2UL * RPC_MESSAGE_MAX);
    atomic_init(&call->references, 1);
    call->arena = arena_create(RPC_ARENA_MAX);
    if (call->arena != NULL) {
        call->data =
            (struct bytes){.data = arena_dup(call->arena, incoming->data.data, incoming->data.size),
                           .size = incoming->data.size};
        call->token = arena_strdup(call->arena, incoming->token == NULL ? "" : incoming->token);
    }
    if (call->arena == NULL || call->data.data == NULL || call->token == NULL) {
        release(call, 1);
        return ERR_NO_MEMORY;
    }
    uint32_t timeout_ms =
        incoming->timeout_ms == 0 ? bound->spec->deadline_ms : incoming->timeout_ms;
    call->start_us = clock_mono_us();
    call->deadline_ms = clock_mono_ms() + timeout_ms;
    *out_call = call;
    return ERR_OK;
}

void rpc_accept(struct rpc_server *server, const struct rpc_incoming *incoming,
                const struct rpc_transport *transport, void *transport_data)
{
    struct note note = {0};
    struct rpc_call *call = NULL;
    enum err err = take_in(server, incoming, &call, &note);
    if (err == ERR_OK && atomic_fetch_add(&server->calls, 1) >= RPC_CALLS_MAX) {
        err = note_set(&note, ERR_LIMIT, "%d calls are in progress already", RPC_CALLS_MAX);
        atomic_fetch_sub(&server->calls, 1);
        release(call, 1);
    }
    if (err == ERR_OK) {
        call->transport = transport;
        call->transport_data = transport_data;
        err = server->executor.post(server->executor.context, run_call, call);
        if (err != ERR_OK) {
            err = err == ERR_CANCELLED /* nobody takes jobs any more */
                      ? note_set(&note, ERR_UNAVAILABLE, "the service is stopping, try again")
                      : note_set(&note, err, "the service is too busy");
            atomic_fetch_sub(&server->calls, 1);
            release(call, 1);
        }
    }
    if (err != ERR_OK) {
        transport->end(transport_data, err, note.text[0] == '\0' ? err_meaning(err) : note.text,
                       (struct bytes){0});
    }
}

/* ---- what handlers use ---- */

struct arena *rpc_arena(struct rpc_call *call)
{
    return call->arena;
}

struct note *rpc_note(struct rpc_call *call)
{
    return &call->note;
}

const char *rpc_token(const struct rpc_call *call)
{
    return call->token;
}

const struct rpc_spec *rpc_call_spec(const struct rpc_call *call)
{
    return call->bound->spec;
}

uint32_t rpc_remaining_ms(const struct rpc_call *call)
{
    uint64_t now_ms = clock_mono_ms();
    return now_ms >= call->deadline_ms ? 0 : (uint32_t)(call->deadline_ms - now_ms);
}

bool rpc_cancelled(const struct rpc_call *call)
{
    return rpc_remaining_ms(call) == 0 || call->transport->gone(call->transport_data);
}

/* Encodes into call->reply, in the caller's language. */
static enum err encode(struct rpc_call *call, const ProtobufCMessage *message)
{
    CHECK(message->descriptor == call->bound->spec->output);
    buf_clear(&call->reply);
    size_t size = protobuf_c_message_get_packed_size(message);
    if (size > RPC_MESSAGE_MAX) {
        return note_set(&call->note, ERR_LIMIT, "reply of %zu bytes: the limit is %u", size,
                        RPC_MESSAGE_MAX);
    }
    if (call->json) {
        return json_from_message(message, 0, &call->reply, &call->note);
    }
    uint8_t *data = buf_reserve(&call->reply, size);
    if (data == NULL) {
        return ERR_NO_MEMORY;
    }
    CHECK(protobuf_c_message_pack(message, data) == size);
    buf_commit(&call->reply, size);
    return ERR_OK;
}

enum err rpc_reply(struct rpc_call *call, const void *message)
{
    CHECK(call->bound->spec->kind == RPC_UNARY);
    CHECK(!call->replied);
    enum err err = encode(call, message);
    call->replied = err == ERR_OK;
    return err;
}

enum err rpc_send(struct rpc_call *call, const void *message)
{
    CHECK(call->bound->spec->kind == RPC_SERVER_STREAM);
    if (rpc_cancelled(call)) {
        return ERR_UNAVAILABLE;
    }
    if (!rpc_room(call)) {
        return ERR_LIMIT; /* before the work of encoding */
    }
    enum err err = encode(call, message);
    if (err == ERR_OK) {
        err = call->transport->send(call->transport_data, buf_bytes(&call->reply));
    }
    buf_clear(&call->reply);
    return err;
}

bool rpc_room(const struct rpc_call *call)
{
    return call->transport->room(call->transport_data);
}

void rpc_defer(struct rpc_call *call)
{
    CHECK(!atomic_exchange(&call->deferred, true));
}

void rpc_finish(struct rpc_call *call, enum err err)
{
    CHECK(atomic_load(&call->deferred));
    finish(call, err);
    release(call, 1);
}
