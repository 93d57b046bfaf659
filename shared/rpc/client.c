/* client.c - calling: over NATS here, over HTTP in client_http.c; see rpc.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/platform/clock.h"
#include "shared/platform/mailbox.h"
#include "shared/rpc/internal.h"

struct rpc_client {
    struct bus *bus; /* one of the two */
    struct rpc_web_client *web;
};

struct rpc_stream {
    const struct rpc_spec *spec;
    struct rpc_web_stream *web; /* or the rest: */
    struct bus *bus;
    struct bus_subscription *subscription;
    struct mailbox *mailbox;     /* of struct bus_message */
    struct bus_message *current; /* what the last next gave */
    char control[BUS_INBOX_SIZE + 32];
    uint64_t deadline_ms, said_ms;
    unsigned read; /* messages since the last credit */
    bool ended;
};

struct rpc_client *rpc_client_bus(struct bus *bus)
{
    struct rpc_client *client = calloc(1, sizeof *client);
    if (client != NULL) {
        client->bus = bus;
    }
    return client;
}

struct rpc_client *rpc_client_http(const char *url, const char *token)
{
    struct rpc_client *client = calloc(1, sizeof *client);
    if (client != NULL) {
        client->web = rpc_web_client_create(url, token);
        if (client->web == NULL) {
            free(client);
            client = NULL;
        }
    }
    return client;
}

void rpc_client_destroy(struct rpc_client *client)
{
    if (client != NULL) {
        rpc_web_client_destroy(client->web);
        free(client);
    }
}

/* The error an answer over NATS carries. */
static enum err answer_err(const struct bus_message *reply, struct note *note)
{
    const char *status = bus_message_header(reply, RPC_H_STATUS);
    if (status == NULL) {
        return note_set(note, ERR_IO, "answer without a status");
    }
    enum err err = err_from_grpc_status((int)strtol(status, NULL, 10));
    if (err != ERR_OK && note != NULL) {
        const char *encoded = bus_message_header(reply, RPC_H_NOTE);
        rpc_percent_decode(encoded == NULL ? "" : encoded, note->text, sizeof note->text);
    }
    return err;
}

static void name_subject(const struct rpc_spec *spec, char *out, size_t out_size)
{
    (void)snprintf(out, out_size, "ol.rpc.%s.%s", spec->service, spec->method);
}

static enum err explain(const struct rpc_spec *spec, const struct bus *bus, enum err err,
                        struct note *note)
{
    if (err == ERR_UNAVAILABLE) {
        struct note reason = {0};
        bus_reason(bus, &reason);
        return note_set(note, err, "%s.%s: %s", spec->service, spec->method,
                        strstr(reason.text, "not connected") != NULL
                            ? reason.text
                            : "the service is not running");
    }
    if (err == ERR_TIMEOUT) {
        return note_set(note, err, "%s.%s: no answer in time", spec->service, spec->method);
    }
    return note_set(note, err, "%s.%s: %s", spec->service, spec->method, err_meaning(err));
}

static MUST_USE enum err pack(const ProtobufCMessage *request, const struct rpc_spec *spec,
                              struct buf *out, struct note *note)
{
    CHECK(request->descriptor == spec->input);
    size_t size = protobuf_c_message_get_packed_size(request);
    buf_init(out, RPC_MESSAGE_MAX);
    if (size > RPC_MESSAGE_MAX) {
        return note_set(note, ERR_LIMIT, "request of %zu bytes: the limit is %u", size,
                        RPC_MESSAGE_MAX);
    }
    uint8_t *data = buf_reserve(out, size);
    if (data == NULL) {
        return ERR_NO_MEMORY;
    }
    CHECK(protobuf_c_message_pack(request, data) == size);
    buf_commit(out, size);
    return ERR_OK;
}

static enum err call_bus(struct bus *bus, const struct rpc_spec *spec, struct bytes data,
                         uint32_t timeout_ms, struct arena *arena, ProtobufCMessage **out_reply,
                         struct note *note)
{
    char subject[RPC_NAME_MAX + 16];
    char timeout[16];
    name_subject(spec, subject, sizeof subject);
    (void)snprintf(timeout, sizeof timeout, "%u", (unsigned)timeout_ms);
    struct bus_header header = {RPC_H_TIMEOUT, timeout};
    struct bus_message *reply = NULL;
    enum err err = bus_request(bus, subject, (struct bus_headers){.items = &header, .count = 1},
                               data, timeout_ms, &reply);
    if (err != ERR_OK) {
        return explain(spec, bus, err, note);
    }
    err = answer_err(reply, note);
    if (err == ERR_OK) {
        err = rpc_decode(spec->output, bus_message_data(reply), arena, out_reply, note);
    }
    bus_message_destroy(reply);
    return err;
}

static const struct rpc_spec *spec_of(const char *service_method, enum rpc_kind kind)
{
    const struct rpc_spec *spec = rpc_find(service_method);
    CHECK(spec != NULL);
    CHECK(spec->kind == kind);
    return spec;
}

enum err rpc_call(struct rpc_client *client, const char *service_method,
                  const ProtobufCMessage *request, uint32_t timeout_ms, struct arena *arena,
                  ProtobufCMessage **out_reply, struct note *note)
{
    const struct rpc_spec *spec = spec_of(service_method, RPC_UNARY);
    timeout_ms = timeout_ms == 0 ? spec->deadline_ms : timeout_ms;
    struct buf data;
    enum err err = pack(request, spec, &data, note);
    if (err == ERR_OK && client->bus != NULL) {
        err = call_bus(client->bus, spec, buf_bytes(&data), timeout_ms, arena, out_reply, note);
    } else if (err == ERR_OK) {
        struct buf reply;
        buf_init(&reply, RPC_MESSAGE_MAX);
        err = rpc_web_call(client->web, spec, buf_bytes(&data), timeout_ms, &reply, note);
        if (err == ERR_OK) {
            err = rpc_decode(spec->output, buf_bytes(&reply), arena, out_reply, note);
        }
        buf_deinit(&reply);
    }
    buf_deinit(&data);
    return err;
}

struct waiting {
    const struct rpc_spec *spec;
    struct bus *bus;
    rpc_answer *answer;
    void *context;
};

static void on_answer(void *context, enum err err, struct bus_message *reply)
{
    struct waiting waiting = *(struct waiting *)context;
    free(context);
    struct note note = {0};
    struct bytes data = {0};
    if (err != ERR_OK) {
        (void)explain(waiting.spec, waiting.bus, err, &note);
    } else {
        err = answer_err(reply, &note);
        data = bus_message_data(reply);
    }
    waiting.answer(waiting.context, err, err == ERR_OK ? data : (struct bytes){0}, &note);
    bus_message_destroy(reply);
}

enum err rpc_call_async(struct rpc_client *client, const char *service_method,
                        const ProtobufCMessage *request, uint32_t timeout_ms, rpc_answer *answer,
                        void *context)
{
    CHECK(client->bus != NULL);
    const struct rpc_spec *spec = spec_of(service_method, RPC_UNARY);
    timeout_ms = timeout_ms == 0 ? spec->deadline_ms : timeout_ms;
    struct buf data;
    enum err err = pack(request, spec, &data, NULL);
    struct waiting *waiting = err == ERR_OK ? malloc(sizeof *waiting) : NULL;
    if (err == ERR_OK && waiting == NULL) {
        err = ERR_NO_MEMORY;
    }
    if (err == ERR_OK) {
        *waiting = (struct waiting){
            .spec = spec, .bus = client->bus, .answer = answer, .context = context};
        char subject[RPC_NAME_MAX + 16];
        char timeout[16];
        name_subject(spec, subject, sizeof subject);
        (void)snprintf(timeout, sizeof timeout, "%u", (unsigned)timeout_ms);
        struct bus_header header = {RPC_H_TIMEOUT, timeout};
        err = bus_request_async(client->bus, subject,
                                (struct bus_headers){.items = &header, .count = 1},
                                buf_bytes(&data), timeout_ms, on_answer, waiting);
        if (err != ERR_OK) {
            free(waiting);
        }
    }
    buf_deinit(&data);
    return err;
}

/* ---- streams ---- */

static void on_stream_message(void *context, struct bus_message *message)
{
    struct rpc_stream *stream = context;
    if (mailbox_post(stream->mailbox, message) != ERR_OK) {
        bus_message_destroy(message); /* more than the credit: the peer breaks the rules */
    }
}

static void drop(void *message)
{
    bus_message_destroy(message);
}

enum err rpc_stream_open_bytes(struct rpc_client *client, const struct rpc_spec *spec,
                               struct bytes request, const char *token, uint32_t timeout_ms,
                               struct rpc_stream **out_stream, struct note *note)
{
    struct rpc_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        return ERR_NO_MEMORY;
    }
    stream->spec = spec;
    enum err err = ERR_NO_MEMORY;
    if (client->web != NULL) {
        err = rpc_web_stream_open(client->web, spec, request, timeout_ms, &stream->web, note);
        goto out;
    }
    stream->bus = client->bus;
    stream->said_ms = clock_mono_ms();
    stream->deadline_ms = stream->said_ms + timeout_ms;
    stream->mailbox = mailbox_create(2 * RPC_CREDIT + 4);
    if (stream->mailbox == NULL) {
        goto out;
    }
    char inbox[BUS_INBOX_SIZE];
    char subject[RPC_NAME_MAX + 16];
    char timeout[16];
    bus_inbox(stream->bus, inbox);
    err = bus_subscribe(stream->bus, inbox, NULL, on_stream_message, stream, &stream->subscription);
    if (err == ERR_OK) {
        name_subject(spec, subject, sizeof subject);
        (void)snprintf(timeout, sizeof timeout, "%u", (unsigned)timeout_ms);
        struct bus_header headers[] = {{RPC_H_TIMEOUT, timeout}, {RPC_H_TOKEN, token}};
        err = bus_publish(stream->bus, subject, inbox,
                          (struct bus_headers){.items = headers,
                                               .count = token == NULL || *token == '\0' ? 1 : 2},
                          request);
    }
    if (err != ERR_OK) {
        err = explain(spec, stream->bus, err, note);
    }
out:
    if (err != ERR_OK) {
        stream->ended = true;
        rpc_stream_close(stream);
        return err;
    }
    *out_stream = stream;
    return ERR_OK;
}

static void say(struct rpc_stream *stream, const char *text)
{
    if (stream->control[0] != '\0') {
        /* Lost words are said again, or the server hears our silence. */
        (void)!bus_publish(stream->bus, stream->control, NULL, (struct bus_headers){0},
                           (struct bytes){.data = (const uint8_t *)text, .size = strlen(text)});
        stream->said_ms = clock_mono_ms();
    }
}

static void say_credit(struct rpc_stream *stream)
{
    char text[32];
    (void)snprintf(text, sizeof text, "credit %u", stream->read);
    say(stream, text);
    stream->read = 0;
}

enum err rpc_stream_next_bytes(struct rpc_stream *stream, uint32_t wait_ms, struct bytes *out_data,
                               struct note *note)
{
    if (stream->web != NULL) {
        return rpc_web_stream_next(stream->web, wait_ms, out_data, note);
    }
    uint64_t end_ms = clock_mono_ms() + wait_ms;
    for (;;) {
        bus_message_destroy(stream->current);
        stream->current = NULL;
        uint64_t now_ms = clock_mono_ms();
        if (stream->read >= RPC_CREDIT / 2 || stream->said_ms + RPC_STREAM_ALIVE_MS < now_ms) {
            say_credit(stream);
        }
        void *item = NULL;
        enum err err = mailbox_take(stream->mailbox, now_ms < end_ms ? end_ms - now_ms : 0, &item);
        if (err != ERR_OK) {
            return clock_mono_ms() < stream->deadline_ms
                       ? ERR_TIMEOUT
                       : note_set(note, ERR_TIMEOUT, "%s.%s: the stream's time is over",
                                  stream->spec->service, stream->spec->method);
        }
        stream->current = item;
        if (bus_message_unserved(stream->current)) {
            stream->ended = true;
            return explain(stream->spec, stream->bus, ERR_UNAVAILABLE, note);
        }
        const char *control = bus_message_header(stream->current, RPC_H_CONTROL);
        if (control != NULL) {
            (void)snprintf(stream->control, sizeof stream->control, "%s", control);
            continue;
        }
        if (bus_message_header(stream->current, RPC_H_STATUS) != NULL) {
            stream->ended = true;
            err = answer_err(stream->current, note);
            if (err == ERR_OK) {
                *out_data = (struct bytes){0};
            }
            return err;
        }
        stream->read++;
        struct bytes data = bus_message_data(stream->current);
        *out_data = (struct bytes){.data = data.data == NULL ? (const uint8_t *)"" : data.data,
                                   .size = data.size};
        return ERR_OK;
    }
}

enum err rpc_stream_open(struct rpc_client *client, const char *service_method,
                         const ProtobufCMessage *request, uint32_t timeout_ms,
                         struct rpc_stream **out_stream, struct note *note)
{
    const struct rpc_spec *spec = spec_of(service_method, RPC_SERVER_STREAM);
    struct buf data;
    enum err err = pack(request, spec, &data, note);
    if (err == ERR_OK) {
        err = rpc_stream_open_bytes(client, spec, buf_bytes(&data), NULL,
                                    timeout_ms == 0 ? spec->deadline_ms : timeout_ms, out_stream,
                                    note);
    }
    buf_deinit(&data);
    return err;
}

enum err rpc_stream_next(struct rpc_stream *stream, uint32_t wait_ms, struct arena *arena,
                         ProtobufCMessage **out_message, struct note *note)
{
    struct bytes data = {0};
    enum err err = rpc_stream_next_bytes(stream, wait_ms, &data, note);
    if (err == ERR_OK && data.data == NULL) {
        *out_message = NULL;
    } else if (err == ERR_OK) {
        err = rpc_decode(stream->spec->output, data, arena, out_message, note);
    }
    return err;
}

void rpc_stream_close(struct rpc_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    if (!stream->ended && stream->web == NULL) {
        say(stream, "cancel");
    }
    bus_unsubscribe(stream->subscription);
    if (stream->mailbox != NULL) {
        mailbox_destroy(stream->mailbox, drop);
    }
    bus_message_destroy(stream->current);
    rpc_web_stream_close(stream->web);
    free(stream);
}
