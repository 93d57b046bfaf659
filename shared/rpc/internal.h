/* internal.h - what the files of the rpc room share; for no one else. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "shared/base/buf.h"
#include "shared/bus/bus.h"
#include "shared/http/http.h"
#include "shared/platform/thread.h"
#include "shared/rpc/rpc.h"

#define RPC_SERVICES_MAX 16
#define RPC_TOKEN_MAX 1024          /* bytes of a bearer token */
#define RPC_CREDIT 32               /* messages a stream's reader allows ahead */
#define RPC_STREAM_SILENCE_MS 30000 /* a NATS stream's reader that says nothing so long is gone */
#define RPC_STREAM_ALIVE_MS 10000   /* so it says something at least this often */
#define RPC_FORWARD_STREAMS_MAX 64  /* streams through the front door at once: a thread each */

/* NATS headers of ours. */
#define RPC_H_TIMEOUT "Ol-Timeout-Ms"
#define RPC_H_TOKEN "Ol-Token"
#define RPC_H_STATUS "Ol-Status"   /* gRPC status: ends the call */
#define RPC_H_NOTE "Ol-Note"       /* percent-encoded */
#define RPC_H_CONTROL "Ol-Control" /* where a stream's reader sends "credit N" or "cancel" */

/* How a call's answers leave. Called with no lock held. */
struct rpc_transport {
    /* Stream message, encoded. ERR_LIMIT: no room; ERR_UNAVAILABLE: gone. */
    enum err (*send)(void *transport_data, struct bytes message);
    bool (*room)(void *transport_data);
    bool (*gone)(void *transport_data);
    /* Ends the call and frees transport_data. reply: the unary reply when err is ERR_OK. */
    void (*end)(void *transport_data, enum err err, const char *note, struct bytes reply);
};

struct rpc_bound {
    const struct rpc_spec *spec;
    rpc_handle *handle;
    void *context;
    struct metric *seconds, *errors; /* NULL without metrics */
};

#define RPC_BOUND_MAX 128

struct rpc_forward {
    struct rpc_server *server;
    struct bus *bus;
    struct rpc_client *client;
    pthread_mutex_t lock;
    struct rpc_relay *relays; /* streams passing through */
    size_t relay_count;
    atomic_bool stopping;
};

struct rpc_server {
    struct rpc_executor executor;
    struct metrics *metrics;
    struct rpc_bound bound[RPC_BOUND_MAX];
    size_t bound_count;
    const char *services[RPC_SERVICES_MAX];
    size_t service_count;
    struct bus *bus;
    struct bus_subscription *subscriptions[RPC_SERVICES_MAX];
    struct bus_subscription *control; /* credit for streams over NATS */
    char control_inbox[BUS_INBOX_SIZE];
    pthread_mutex_t lock;
    struct rpc_flow *flows; /* streams over NATS, until drained */
    uint64_t next_flow;
    atomic_uint calls;
    struct rpc_forward forward;
};

/* What a transport hands in. All borrowed: copied before rpc_accept returns. */
struct rpc_incoming {
    const char *service_method; /* "Service.Method" */
    struct bytes data;
    bool json; /* data, and what is sent back, is proto3 JSON */
    const char *token;
    uint32_t timeout_ms; /* 0: the table's */
    bool outside;        /* RPC_SERVICES methods are refused */
};

/* Takes a call in: always ends it through transport, now or later. */
void rpc_accept(struct rpc_server *server, const struct rpc_incoming *incoming,
                const struct rpc_transport *transport, void *transport_data);
const struct rpc_bound *rpc_bound_find(const struct rpc_server *server, const char *service_method);

/* NATS, serving. */
void rpc_flows_destroy(struct rpc_server *server);

/* Percent-encodes what is not printable ASCII, and '%'; NUL-terminated, cut to fit. */
void rpc_percent_encode(const char *text, char *out, size_t out_size);
void rpc_percent_decode(const char *text, char *out, size_t out_size);

/* Parsers of foreign text, for the fuzzer: "100m" of grpc-timeout; five bytes before each message. */
MUST_USE enum err rpc_parse_grpc_timeout(const char *text, uint32_t *out_ms);
MUST_USE enum err rpc_parse_frame(struct bytes *in, uint8_t *out_flags, struct bytes *out_message,
                                  struct note *note);

/* Both ways between JSON and bytes, through the message. */
MUST_USE enum err rpc_json_to_bytes(const ProtobufCMessageDescriptor *descriptor, struct bytes json,
                                    struct arena *arena, struct bytes *out_data, struct note *note);
MUST_USE enum err rpc_bytes_to_json(const ProtobufCMessageDescriptor *descriptor, struct bytes data,
                                    struct arena *arena, struct buf *out);

/* HTTP: one request in one of the web protocols. */
struct rpc_web;
void rpc_web_forward(struct rpc_forward *forward, const struct rpc_incoming *incoming,
                     const struct rpc_spec *spec, struct rpc_web *web);
enum err rpc_web_send(void *data, struct bytes message);
bool rpc_web_gone(void *data);
void rpc_web_end(void *data, enum err err, const char *note, struct bytes reply);
void rpc_web_end_stream(struct rpc_web *web, enum err err, const char *note);
bool rpc_web_json(const struct rpc_web *web);
void rpc_forward_init(struct rpc_forward *forward, struct rpc_server *server, struct bus *bus);
void rpc_forward_deinit(struct rpc_forward *forward);

/* Client streams without decoding; over the bus also "Service.Method" with raw bytes. */
MUST_USE enum err rpc_stream_open_bytes(struct rpc_client *client, const struct rpc_spec *spec,
                                        struct bytes request, const char *token,
                                        uint32_t timeout_ms, struct rpc_stream **out_stream,
                                        struct note *note);
/* *out_data is empty with data NULL at the end; else valid until the next call. */
MUST_USE enum err rpc_stream_next_bytes(struct rpc_stream *stream, uint32_t wait_ms,
                                        struct bytes *out_data, struct note *note);

/* The HTTP half of the client (client_http.c). */
struct rpc_web_client;
struct rpc_web_stream;
MUST_USE struct rpc_web_client *rpc_web_client_create(const char *url, const char *token);
void rpc_web_client_destroy(struct rpc_web_client *client);
MUST_USE enum err rpc_web_call(struct rpc_web_client *client, const struct rpc_spec *spec,
                               struct bytes request, uint32_t timeout_ms, struct buf *out_reply,
                               struct note *note);
MUST_USE enum err rpc_web_stream_open(struct rpc_web_client *client, const struct rpc_spec *spec,
                                      struct bytes request, uint32_t timeout_ms,
                                      struct rpc_web_stream **out_stream, struct note *note);
MUST_USE enum err rpc_web_stream_next(struct rpc_web_stream *stream, uint32_t wait_ms,
                                      struct bytes *out_data, struct note *note);
void rpc_web_stream_close(struct rpc_web_stream *stream);
