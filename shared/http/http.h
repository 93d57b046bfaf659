/* http.h - an HTTP server: one request type for HTTP/1.1 and HTTP/2, answers from any thread.
 *
 * Who does what: libh2o runs the event loop, TLS and HTTP/1.1; nghttp2 runs HTTP/2 on h2o's sockets
 * (ALPN "h2", or the h2c preface without TLS), because libh2o 2.2.5's own HTTP/2 has no trailers and
 * can be aborted by a remote peer. Nothing of either leaks through this header.
 *
 * Threads: one loop thread per server. A route's handler runs on it and must not block: it answers at
 * once or hands the request to another thread. Every http_request function may be called from any
 * thread, but by one thread at a time for one request.
 *
 * Ownership: the handler receives one reference to the request and ends it with exactly one
 * http_reply(), http_finish() or http_abort(), after which the pointer is gone. What the accessors
 * return lives as long as the request. When the client goes away the request stays valid: writes
 * return ERR_UNAVAILABLE, and the holder still ends it.
 *
 * Limits (a peer past one gets a clear status or loses its connection): header bytes, body bytes per
 * request and over all requests, connections, streams per connection, stream resets per second, time
 * to send a request, idle time, bytes queued per response. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"
#include "shared/base/note.h"

#define HTTP_HEADER_BYTES_MAX (32u << 10) /* names and values of one request */
#define HTTP_HEADER_MAX 100               /* headers of one request */
#define HTTP_BODY_TOTAL_MAX (256u << 20)  /* request bodies held at once, all connections */
#define HTTP_STREAM_MAX 128               /* concurrent HTTP/2 streams per connection */
#define HTTP_RESET_MAX 200                /* streams reset by a peer per 10 s: then GOAWAY */
#define HTTP_QUEUE_MAX (256u << 10)       /* bytes queued per streaming response */
#define HTTP_ROUTE_MAX 64

struct http_server;
struct http_request;

struct http_options {
    const char *address;     /* "host:port", port 0 picks a free one (see http_port) */
    const char *cert_file;   /* PEM; NULL or "": plaintext */
    const char *key_file;    /* PEM */
    uint32_t body_max;       /* bytes; 0: 4 MiB. Past it the client gets 413 */
    uint32_t connection_max; /* 0: 1,000 */
    uint32_t request_ms;     /* time to send one request completely; 0: 10 s */
    uint32_t idle_ms;        /* an idle connection is closed; 0: 120 s */
};

/* Runs on the loop thread; owns request. */
typedef void http_handler(void *context, struct http_request *request);

/* Binds at once, serves only after http_start(). ERR_IO: cannot bind; ERR_INVALID: bad address or
 * certificate. */
MUST_USE enum err http_open(const struct http_options *options, struct http_server **out_server,
                            struct note *note);

/* Routes must be added before http_start(). path is matched exactly, or as a prefix when it ends in
 * '*' ("/files/" then "*"); the longest match wins. method NULL: any (HEAD counts as GET). A path that
 * matches with another method answers 405; no match answers 404. */
void http_route(struct http_server *server, const char *method, const char *path,
                http_handler *handler, void *context);

MUST_USE enum err http_start(struct http_server *server); /* starts the loop thread */
uint16_t http_port(const struct http_server *server);
/* Stops accepting, lets requests end for up to grace_ms, stops the loop, frees everything; requests
 * still held elsewhere stay valid (as if the client had gone). Accepts NULL. */
void http_close(struct http_server *server, uint32_t grace_ms);

/* ---- the request ---- */

const char *http_method(const struct http_request *request);
const char *http_path(const struct http_request *request);  /* as sent, before the question mark */
const char *http_query(const struct http_request *request); /* after '?', "" when none */
/* One query parameter, percent-decoded, into out (NUL-terminated). ERR_NOT_FOUND, ERR_LIMIT. */
MUST_USE enum err http_query_get(const struct http_request *request, const char *name, char *out,
                                 size_t out_size);
/* name in lower case. NULL when absent. Values hold no NUL and no line break. */
const char *http_header(const struct http_request *request, const char *name);
struct bytes http_body(const struct http_request *request);
const char *http_peer(const struct http_request *request); /* "address:port" */
int http_version(const struct http_request *request);      /* 1 or 2 */
bool http_gone(const struct http_request *request);        /* the client left: stop working */

/* ---- the answer ---- */

struct http_field {
    const char *name; /* lower case */
    const char *value;
};
struct http_fields {
    const struct http_field *items;
    size_t count;
};

/* The whole answer at once; copies everything. Ends request. */
void http_reply(struct http_request *request, int status, const char *content_type,
                struct bytes body);
void http_reply_fields(struct http_request *request, int status, struct http_fields headers,
                       struct bytes body);
/* {"error":{"message":...,"type":...}} in the manner of the OpenAI API, with err's HTTP status when
 * status is 0. Ends request. */
void http_reply_error(struct http_request *request, int status, const char *type,
                      const char *message);

/* Begins a streaming answer (chunked in HTTP/1.1). Copies headers. */
void http_begin(struct http_request *request, int status, struct http_fields headers);
/* Queues data. ERR_LIMIT: HTTP_QUEUE_MAX bytes wait already and nothing was queued: the client reads
 * too slowly, try again on HTTP_WRITABLE or give up. ERR_UNAVAILABLE: the client is gone. */
MUST_USE enum err http_write(struct http_request *request, struct bytes data);
/* True when less than half of HTTP_QUEUE_MAX waits, or the client is gone. */
bool http_room(const struct http_request *request);
/* Ends the answer; trailers are sent over HTTP/2 and dropped over HTTP/1.1. Ends request. */
void http_finish(struct http_request *request, struct http_fields trailers);
/* As http_finish, with last bytes that find room however full the queue is. */
void http_finish_with(struct http_request *request, struct bytes data, struct http_fields trailers);
/* Breaks the connection or stream off: the client must notice that the answer is not whole. */
void http_abort(struct http_request *request);

enum http_event {
    HTTP_GONE,    /* the client left; at most once */
    HTTP_WRITABLE /* the queue has room again after an ERR_LIMIT */
};
/* notify runs on the loop thread (or, when it is true already, the caller's), never after the request
 * ended; it must only enqueue, and not call functions of this request. */
typedef void http_notify(void *context, enum http_event event);
void http_watch(struct http_request *request, http_notify *notify, void *context);
