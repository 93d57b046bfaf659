/* internal.h - what the files of the http room share; for no one else.
 *
 * A request is shared by two sides: the holder (whoever answers, any thread) and the transport (the
 * loop). Its lock guards the answer; its references count the sides and messages on their way. */
#pragma once

#include <h2o.h>
#include <h2o/http1.h>
#include <nghttp2/nghttp2.h>
#include <pthread.h>

#include "shared/base/arena.h"
#include "shared/base/buf.h"
#include "shared/http/http.h"
#include "shared/platform/thread.h"

#define HTTP_REPLY_MAX (64u << 20)                   /* bytes of a whole answer given at once */
#define HTTP_ARENA_MAX (4UL * HTTP_HEADER_BYTES_MAX) /* request and response headers, path, peer */
#define HTTP_TICK_MS 500                             /* how late a time limit may bite */
#define HTTP_RESET_WINDOW_MS 10000
#define HTTP_UNKNOWN_SIZE SIZE_MAX

struct http_connection;

struct http_transport {
    /* Loop thread: the answer has grown, or ended; send what can be sent. */
    void (*pump)(struct http_request *request);
};

struct http_request {
    struct arena *arena;
    const char *method, *path, *query, *peer;
    struct http_field fields[HTTP_HEADER_MAX];
    size_t field_count;
    size_t header_bytes;
    struct buf body;
    int version;

    pthread_mutex_t lock; /* guards all below, but where it says loop */
    unsigned references;
    struct http_server *server;
    const struct http_transport *transport;
    bool attached; /* the transport still has a client for us */
    bool begun, ended, aborted, kicked, was_full;
    int status;
    size_t content_length; /* HTTP_UNKNOWN_SIZE: streaming */
    struct http_fields headers, trailers;
    struct buf queue; /* bytes [queue_read, size) wait for the transport */
    size_t queue_read;
    http_notify *notify;
    void *notify_context;
    h2o_multithread_message_t message;

    void *stream;        /* loop: the transport's own */
    h2o_linklist_t link; /* loop: in the server's list of attached requests */
};

/* A socket that we know: still being sniffed, speaking HTTP/2, or lent to h2o for HTTP/1.1. */
struct http_connection {
    struct http_server *server;
    h2o_socket_t *socket; /* NULL once closed */
    h2o_linklist_t link;
    enum { HTTP_SNIFFING, HTTP_SPEAKS_1, HTTP_SPEAKS_2 } state;
    uint64_t since_ms; /* accepted, or last active */
    char peer[80];
    /* HTTP/2 */
    nghttp2_session *session;
    h2o_buffer_t *out;
    bool writing, dead, in_session;
    size_t streams;
    h2o_linklist_t stream_list;
    uint64_t reset_since_ms;
    unsigned resets;
};

struct http_route {
    const char *method, *path;
    size_t size; /* of path, without '*' */
    bool prefix;
    http_handler *handler;
    void *context;
};

struct http_server {
    struct http_options options;
    int fd;
    uint16_t port;
    struct http_route routes[HTTP_ROUTE_MAX];
    size_t route_count;
    SSL_CTX *tls;
    struct thread *thread;
    /* loop thread, once started */
    h2o_globalconf_t config;
    h2o_context_t context;
    h2o_accept_ctx_t accept;
    h2o_socket_t *listener;
    h2o_multithread_receiver_t receiver;
    h2o_timeout_t tick;
    h2o_timeout_entry_t tick_entry;
    h2o_linklist_t connections, requests;
    size_t connection_count;
    size_t body_bytes; /* of all requests */
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *h2_options;
    /* between threads */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool running, stopping, stopped;
    uint32_t grace_ms;
};

/* request.c; all on the loop thread */
struct http_request *http_request_create(struct http_server *server,
                                         const struct http_transport *transport, int version,
                                         const char *peer);
/* ERR_LIMIT: HTTP_HEADER_MAX or HTTP_HEADER_BYTES_MAX. name must be in lower case. */
MUST_USE enum err http_request_field(struct http_request *request, struct bytes name,
                                     struct bytes value);
MUST_USE enum err http_request_target(struct http_request *request, struct bytes method,
                                      struct bytes target);
/* The client is done with (whole: the answer was sent completely): drops the transport's side. */
void http_request_detach(struct http_request *request, bool whole);
void http_request_release(struct http_request *request);
void http_request_drained(
    struct http_request *request); /* with its lock: tell who waits for room */

/* http.c */
void http_dispatch(struct http_server *server, struct http_request *request);
void http_connection_closed(void *data); /* the socket's on_close; data: the connection */

/* h1.c, h2.c */
void http1_setup(struct http_server *server);
void http1_accept(struct http_connection *connection);
void http2_setup(struct http_server *server);
void http2_accept(struct http_connection *connection);
void http2_tick(struct http_connection *connection, uint64_t now_ms);
void http2_close(struct http_connection *connection);
void http2_goaway(struct http_connection *connection);
