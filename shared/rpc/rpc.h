/* rpc.h - one method table, several transports: handlers are written once.
 *
 * protobuf-c's service descriptors say what a method takes and gives. What they lack (kind, deadline,
 * who may call) is in one table for the whole suite, behind rpc_find(): servers, the front door and
 * clients all read it. A service binds a handler to each method; the server half decodes, hands the
 * call to the service's worker thread and encodes.
 *
 * Transports
 *   NATS  subject ol.rpc.<Service>.<Method>, queue group <Service>; data is the message; headers
 *         carry deadline, bearer token and, in the answer, status and note. Streams: an inbox with
 *         credit.
 *   HTTP  path /openledger.v1.<Service>/<Method>: gRPC (HTTP/2), gRPC-Web (binary), Connect unary
 *         (JSON and binary) and Connect server streaming, told apart by content-type.
 *
 * Threads: handlers run on the thread that the executor gives them (a service's worker). The functions
 * of a call may be used from any thread, one at a time per call. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/arena.h"
#include "shared/base/bytes.h"
#include "shared/base/err.h"
#include "shared/base/metrics.h"
#include "shared/base/note.h"

#define RPC_MESSAGE_MAX (576u << 10) /* bytes of one encoded request or reply */
#define RPC_ARENA_MAX (8u << 20)     /* decoded request and the handler's scratch, per call */
#define RPC_CALLS_MAX 1024           /* calls in progress per process; then ERR_LIMIT */
#define RPC_STREAM_QUEUE_MAX 64      /* messages of one stream not yet taken by its reader */
#define RPC_DEADLINE_MS 10000        /* unless the table says otherwise */
#define RPC_DEADLINE_MAX_MS 3600000  /* one hour; longer wishes are cut */
#define RPC_NAME_MAX 96              /* characters of "Service.Method" */

struct bus;
struct http_server;

enum rpc_kind { RPC_UNARY, RPC_SERVER_STREAM };

enum rpc_who {
    RPC_ANYONE,  /* callable from outside; the handler judges what the request proves */
    RPC_SERVICES /* only over NATS, between services; HTTP answers PERMISSION_DENIED */
};

struct rpc_spec {
    const char *service; /* "Settlement" */
    const char *method;  /* "Submit" */
    const ProtobufCMessageDescriptor *input, *output;
    enum rpc_kind kind;
    enum rpc_who who;
    uint32_t deadline_ms; /* when the caller names none */
};

/* Every method of the suite. "Settlement.Submit" gives its spec, or NULL. Valid for good. */
const struct rpc_spec *rpc_find(const char *service_method);

/* ---- serving ---- */

struct rpc_call;

/* Handles one call. request is decoded, of the method's input type, and lives as long as the call.
 *
 * Unary: call rpc_reply() once and return ERR_OK; or return an error, with rpc_note() saying why. If
 * neither fits yet, rpc_defer() first and end the call later (see there).
 * Stream: rpc_send() messages, then return ERR_OK (end of stream) or an error; or rpc_defer(). */
typedef enum err rpc_handle(void *context, struct rpc_call *call, const void *request);

struct rpc_binding {
    const char *method;
    rpc_handle *handle;
};

/* A service's methods. Every method of descriptor must be bound (CHECK at rpc_serve). Static. */
struct rpc_service {
    const ProtobufCServiceDescriptor *descriptor; /* &openledger__v1__settlement__descriptor */
    const struct rpc_binding *bindings;
    size_t count;
};

/* For a call's scratch and replies; dies with the call. RPC_ARENA_MAX at most. */
struct arena *rpc_arena(struct rpc_call *call);
/* Write the detail of an error here. Sent to the caller: no secrets. */
struct note *rpc_note(struct rpc_call *call);
/* The caller's bearer token ("Authorization: Bearer ..."), "" when none. */
const char *rpc_token(const struct rpc_call *call);
/* Milliseconds until the caller gives up; 0: gave up already. */
uint32_t rpc_remaining_ms(const struct rpc_call *call);
/* The caller left or its deadline passed: stop working. */
bool rpc_cancelled(const struct rpc_call *call);
const struct rpc_spec *rpc_call_spec(const struct rpc_call *call);

/* Encodes and sends the unary reply; copies, so message may be on the stack. CHECKs its type and that
 * it is the first. ERR_LIMIT: larger than RPC_MESSAGE_MAX; return that error. */
MUST_USE enum err rpc_reply(struct rpc_call *call, const void *message);

/* Queues one message of a stream. ERR_LIMIT: RPC_STREAM_QUEUE_MAX messages wait, nothing was queued:
 * try again later (rpc_room()). ERR_UNAVAILABLE: the caller is gone. */
MUST_USE enum err rpc_send(struct rpc_call *call, const void *message);
bool rpc_room(const struct rpc_call *call); /* would rpc_send() take one now? */

/* Keeps the call alive after the handler returns ERR_OK; it must be ended later by exactly one
 * rpc_finish(), from any thread. request and arena stay valid until then. */
void rpc_defer(struct rpc_call *call);
/* Ends a deferred call: unary with ERR_OK needs an rpc_reply() before. call is gone afterwards. */
void rpc_finish(struct rpc_call *call, enum err err);

/* How calls reach the thread that owns the service's state. post must run run(argument) there later,
 * exactly once; on an error it will not. */
struct rpc_executor {
    enum err (*post)(void *context, void (*run)(void *argument), void *argument);
    void *context;
};

struct rpc_server;

/* metrics may be NULL. NULL: out of memory. */
MUST_USE struct rpc_server *rpc_server_create(struct rpc_executor executor,
                                              struct metrics *metrics);
/* Unsubscribes from the bus. Close the HTTP server first and run what the executor still holds. Deferred
 * calls must be finished. Accepts NULL. */
void rpc_server_destroy(struct rpc_server *server);

/* Binds a service; then give it its transports. context is handed to the handlers. */
void rpc_serve(struct rpc_server *server, const struct rpc_service *service, void *context);
/* Serves the bound services over NATS. */
MUST_USE enum err rpc_serve_bus(struct rpc_server *server, struct bus *bus, struct note *note);
/* Serves the bound services over HTTP: adds routes, so before http_start(). With forward not NULL
 * the methods of all other services in the table are forwarded over it: the front door. */
void rpc_serve_http(struct rpc_server *server, struct http_server *http, struct bus *forward);

/* ---- calling ---- */

struct rpc_client; /* any thread, several calls at once */

MUST_USE struct rpc_client *rpc_client_bus(struct bus *bus); /* NULL: out of memory */
/* gRPC-Web through the front door (libcurl): url "http://127.0.0.1:8080"; token may be NULL. */
MUST_USE struct rpc_client *rpc_client_http(const char *url, const char *token);
void rpc_client_destroy(struct rpc_client *client); /* accepts NULL; not while calls are running */

/* Calls "Service.Method" (CHECK: in the table, unary, right request type) and blocks until its reply
 * or the deadline (timeout_ms 0: the table's). The reply is decoded into arena (its ceiling counts)
 * and lives there. On an error note says what the server said. Not from a service's worker to itself.
 *
 *     ProtobufCMessage *message;
 *     err = rpc_call(client, "Settlement.GetAccount", &request.base, 0, arena, &message, &note);
 *     const Openledger__V1__AccountState *state = (const void *)message; */
MUST_USE enum err rpc_call(struct rpc_client *client, const char *service_method,
                           const ProtobufCMessage *request, uint32_t timeout_ms,
                           struct arena *arena, ProtobufCMessage **out_reply, struct note *note);

/* Called exactly once on a thread of the client: it must only enqueue. reply is the encoded message
 * (decode it with rpc_decode), borrowed during the call; note is never NULL. */
typedef void rpc_answer(void *context, enum err err, struct bytes reply, const struct note *note);
/* As rpc_call, without waiting; for clients over the bus only. On an error answer is not called. */
MUST_USE enum err rpc_call_async(struct rpc_client *client, const char *service_method,
                                 const ProtobufCMessage *request, uint32_t timeout_ms,
                                 rpc_answer *answer, void *context);

struct rpc_stream;
/* Opens a server stream; timeout_ms bounds the whole stream (0: the table's). */
MUST_USE enum err rpc_stream_open(struct rpc_client *client, const char *service_method,
                                  const ProtobufCMessage *request, uint32_t timeout_ms,
                                  struct rpc_stream **out_stream, struct note *note);
/* The next message, decoded into arena; *out_message NULL at the stream's end. ERR_TIMEOUT after
 * wait_ms without one: call again (also returned when the deadline has passed, then the note says
 * so). Any other error ends the stream. */
MUST_USE enum err rpc_stream_next(struct rpc_stream *stream, uint32_t wait_ms, struct arena *arena,
                                  ProtobufCMessage **out_message, struct note *note);
void rpc_stream_close(struct rpc_stream *stream); /* cancels what is left; accepts NULL */

/* ---- messages in arenas ---- */

/* Decodes into arena. ERR_INVALID: not such a message, or a string in it is not UTF-8; ERR_LIMIT:
 * arena full or more than RPC_MESSAGE_MAX bytes. */
MUST_USE enum err rpc_decode(const ProtobufCMessageDescriptor *descriptor, struct bytes data,
                             struct arena *arena, ProtobufCMessage **out_message,
                             struct note *note);
/* Encodes into arena. */
MUST_USE enum err rpc_encode(const ProtobufCMessage *message, struct arena *arena,
                             struct bytes *out_data);
/* An allocator over arena, for protobuf-c's own functions; free does nothing. */
ProtobufCAllocator rpc_allocator(struct arena *arena);
