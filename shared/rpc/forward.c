/* forward.c - the front door: other services' methods pass from HTTP to NATS and back.
 *
 * Unary calls are asynchronous: no thread waits. A stream passing through has a thread of its own,
 * RPC_FORWARD_STREAMS_MAX at most, joined when it is over. Bytes pass as they are; JSON is turned
 * into the message and back here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/platform/clock.h"
#include "shared/rpc/internal.h"

struct rpc_relay {
    struct rpc_relay *next;
    struct rpc_forward *forward;
    const struct rpc_spec *spec;
    struct rpc_web *web;
    struct bytes data; /* owned */
    char token[RPC_TOKEN_MAX + 1];
    uint32_t timeout_ms;
    struct thread *thread;
    bool done; /* guarded by the forward's lock */
};

struct waiting {
    struct rpc_web *web;
    const struct rpc_spec *spec;
};

/* Sends a reply's bytes, as JSON where that was asked for. */
static void end_unary(struct rpc_web *web, const struct rpc_spec *spec, struct bytes data)
{
    if (!rpc_web_json(web)) {
        rpc_web_end(web, ERR_OK, "", data);
        return;
    }
    struct buf json;
    buf_init(&json, 4UL * RPC_MESSAGE_MAX);
    struct arena *arena = arena_create(RPC_ARENA_MAX);
    enum err err =
        arena == NULL ? ERR_NO_MEMORY : rpc_bytes_to_json(spec->output, data, arena, &json);
    rpc_web_end(web, err, err == ERR_OK ? "" : "the service's reply could not be turned into JSON",
                buf_bytes(&json));
    arena_destroy(arena);
    buf_deinit(&json);
}

static void on_answer(void *context, enum err err, struct bus_message *reply)
{
    struct waiting waiting = *(struct waiting *)context;
    free(context);
    if (err != ERR_OK) {
        struct note note;
        (void)note_set(&note, err, "%s: %s", waiting.spec->service,
                       err == ERR_UNAVAILABLE ? "the service is not running" : "no answer in time");
        rpc_web_end(waiting.web, err, note.text, (struct bytes){0});
        return;
    }
    const char *status = bus_message_header(reply, RPC_H_STATUS);
    err = status == NULL ? ERR_IO : err_from_grpc_status((int)strtol(status, NULL, 10));
    if (err == ERR_OK) {
        end_unary(waiting.web, waiting.spec, bus_message_data(reply));
    } else {
        char note[NOTE_SIZE];
        const char *encoded = bus_message_header(reply, RPC_H_NOTE);
        rpc_percent_decode(encoded == NULL ? "" : encoded, note, sizeof note);
        rpc_web_end(waiting.web, err, note, (struct bytes){0});
    }
    bus_message_destroy(reply);
}

static enum err forward_unary(struct rpc_forward *forward, const struct rpc_incoming *incoming,
                              const struct rpc_spec *spec, struct rpc_web *web, struct bytes data)
{
    struct waiting *waiting = malloc(sizeof *waiting);
    if (waiting == NULL) {
        return ERR_NO_MEMORY;
    }
    *waiting = (struct waiting){.web = web, .spec = spec};
    uint32_t timeout_ms = incoming->timeout_ms == 0 ? spec->deadline_ms : incoming->timeout_ms;
    char subject[RPC_NAME_MAX + 16];
    char timeout[16];
    (void)snprintf(subject, sizeof subject, "ol.rpc.%s.%s", spec->service, spec->method);
    (void)snprintf(timeout, sizeof timeout, "%u", (unsigned)timeout_ms);
    struct bus_header headers[] = {{RPC_H_TIMEOUT, timeout}, {RPC_H_TOKEN, incoming->token}};
    struct bus_headers all = {.items = headers, .count = incoming->token == NULL ? 1 : 2};
    enum err err =
        bus_request_async(forward->bus, subject, all, data, timeout_ms, on_answer, waiting);
    if (err != ERR_OK) {
        free(waiting);
    }
    return err;
}

/* ---- streams ---- */

static enum err relay_message(struct rpc_relay *relay, struct bytes data, struct arena *arena)
{
    struct buf json;
    buf_init(&json, 4UL * RPC_MESSAGE_MAX);
    enum err err = ERR_OK;
    if (rpc_web_json(relay->web)) {
        arena_reset(arena);
        err = rpc_bytes_to_json(relay->spec->output, data, arena, &json);
        data = buf_bytes(&json);
    }
    if (err == ERR_OK) {
        err = rpc_web_send(relay->web, data);
    }
    while (err == ERR_LIMIT &&
           !relay->forward->stopping) { /* a slow reader: wait, bounded by credit */
        clock_sleep_ms(10);
        err = rpc_web_send(relay->web, data);
    }
    buf_deinit(&json);
    return err;
}

static void relay_run(void *argument)
{
    struct rpc_relay *relay = argument;
    struct rpc_forward *forward = relay->forward;
    struct note note = {0};
    struct rpc_stream *stream = NULL;
    struct arena *arena = arena_create(RPC_ARENA_MAX);
    uint64_t end_ms = clock_mono_ms() + relay->timeout_ms;
    enum err err = arena == NULL
                       ? ERR_NO_MEMORY
                       : rpc_stream_open_bytes(forward->client, relay->spec, relay->data,
                                               relay->token, relay->timeout_ms, &stream, &note);
    while (err == ERR_OK) {
        struct bytes data = {0};
        err = rpc_stream_next_bytes(stream, 500, &data, &note);
        if (err == ERR_TIMEOUT && clock_mono_ms() < end_ms && !rpc_web_gone(relay->web) &&
            !forward->stopping) {
            err = ERR_OK;
            continue;
        }
        if (err != ERR_OK || data.data == NULL) {
            break;
        }
        err = relay_message(relay, data, arena);
    }
    rpc_stream_close(stream);
    arena_destroy(arena);
    rpc_web_end_stream(relay->web, err, note.text[0] == '\0' ? err_meaning(err) : note.text);
    pthread_mutex_lock(&forward->lock);
    relay->done = true;
    pthread_mutex_unlock(&forward->lock);
}

static void free_relay(struct rpc_relay *relay)
{
    thread_join(relay->thread);
    free((void *)(uintptr_t)relay->data.data);
    free(relay);
}

/* With the lock: joins what is over. */
static void reap(struct rpc_forward *forward)
{
    for (struct rpc_relay **at = &forward->relays; *at != NULL;) {
        struct rpc_relay *relay = *at;
        if (relay->done) {
            *at = relay->next;
            forward->relay_count--;
            free_relay(relay);
        } else {
            at = &relay->next;
        }
    }
}

static enum err forward_stream(struct rpc_forward *forward, const struct rpc_incoming *incoming,
                               const struct rpc_spec *spec, struct rpc_web *web, struct bytes data,
                               struct note *note)
{
    struct rpc_relay *relay = calloc(1, sizeof *relay);
    uint8_t *copy = malloc(data.size + 1);
    enum err err = relay == NULL || copy == NULL ? ERR_NO_MEMORY : ERR_OK;
    if (err == ERR_OK) {
        memcpy(copy, data.data == NULL ? (const uint8_t *)"" : data.data, data.size);
        *relay = (struct rpc_relay){.forward = forward,
                                    .spec = spec,
                                    .web = web,
                                    .data = {.data = copy, .size = data.size},
                                    .timeout_ms = incoming->timeout_ms == 0 ? spec->deadline_ms
                                                                            : incoming->timeout_ms};
        if (incoming->token != NULL) {
            (void)snprintf(relay->token, sizeof relay->token, "%s", incoming->token);
        }
        pthread_mutex_lock(&forward->lock);
        reap(forward);
        if (forward->relay_count >= RPC_FORWARD_STREAMS_MAX) {
            err = note_set(note, ERR_LIMIT, "%d streams pass through already",
                           RPC_FORWARD_STREAMS_MAX);
        } else {
            err = thread_start("rpc-relay", relay_run, relay, &relay->thread, note);
        }
        if (err == ERR_OK) {
            relay->next = forward->relays;
            forward->relays = relay;
            forward->relay_count++;
        }
        pthread_mutex_unlock(&forward->lock);
    }
    if (err != ERR_OK) {
        free(copy);
        free(relay);
    }
    return err;
}

void rpc_web_forward(struct rpc_forward *forward, const struct rpc_incoming *incoming,
                     const struct rpc_spec *spec, struct rpc_web *web)
{
    struct note note = {0};
    struct bytes data = incoming->data;
    struct arena *arena = NULL;
    enum err err = ERR_OK;
    if (incoming->json) {
        arena = arena_create(RPC_ARENA_MAX);
        err = arena == NULL ? ERR_NO_MEMORY
                            : rpc_json_to_bytes(spec->input, incoming->data, arena, &data, &note);
    }
    if (err == ERR_OK && data.size > RPC_MESSAGE_MAX) {
        err = note_set(&note, ERR_LIMIT, "request of %zu bytes: the limit is %u", data.size,
                       RPC_MESSAGE_MAX);
    }
    if (err == ERR_OK) {
        err = spec->kind == RPC_SERVER_STREAM
                  ? forward_stream(forward, incoming, spec, web, data, &note)
                  : forward_unary(forward, incoming, spec, web, data);
    }
    if (err == ERR_UNAVAILABLE && note.text[0] == '\0') {
        (void)note_set(&note, err, "%s cannot be reached: not connected to nats", spec->service);
    }
    if (err != ERR_OK) {
        rpc_web_end(web, err, note.text[0] == '\0' ? err_meaning(err) : note.text,
                    (struct bytes){0});
    }
    arena_destroy(arena);
}

void rpc_forward_init(struct rpc_forward *forward, struct rpc_server *server, struct bus *bus)
{
    forward->server = server;
    forward->client = rpc_client_bus(bus);
    CHECK(forward->client != NULL);
    pthread_mutex_init(&forward->lock, NULL);
    forward->bus = bus;
}

void rpc_forward_deinit(struct rpc_forward *forward)
{
    if (forward->bus == NULL) {
        return;
    }
    forward->stopping = true;
    while (forward->relays != NULL) {
        struct rpc_relay *relay = forward->relays;
        forward->relays = relay->next;
        free_relay(relay);
    }
    rpc_client_destroy(forward->client);
    pthread_mutex_destroy(&forward->lock);
}
