/* h1.c - HTTP/1.1: libh2o parses and frames; we copy the request out and feed the answer in.
 *
 * The stream's memory belongs to h2o's request pool, whose end tells us that h2o is done with the
 * request, however that came about. All on the loop thread. */
#include <string.h>

#include "shared/base/check.h"
#include "shared/http/internal.h"
#include "shared/platform/clock.h"

struct stream {
    h2o_generator_t generator; /* first: h2o hands it back */
    h2o_req_t *req;
    struct http_request *request;
    struct buf inflight; /* what h2o is sending; the next part waits until it asks */
    bool started, busy, finished;
};

/* h2o's handler knows its server through this. */
struct handler {
    h2o_handler_t super;
    struct http_server *server;
};

static void on_dispose(void *data)
{
    struct stream *stream = data;
    if (stream->request != NULL) {
        http_request_detach(stream->request, stream->finished);
    }
    buf_deinit(&stream->inflight);
}

static void pump(struct http_request *request);

static void on_proceed(h2o_generator_t *generator, h2o_req_t *req)
{
    (void)req;
    struct stream *stream = (struct stream *)generator;
    stream->busy = false;
    if (stream->request != NULL) {
        pump(stream->request);
    }
}

static void on_stop(h2o_generator_t *generator, h2o_req_t *req)
{
    (void)req;
    struct stream *stream = (struct stream *)generator;
    if (stream->request != NULL) {
        struct http_request *request = stream->request;
        stream->request = NULL;
        http_request_detach(request, false);
    }
}

static void start(struct stream *stream)
{
    struct http_request *request = stream->request;
    h2o_req_t *req = stream->req;
    req->res.status = request->status;
    req->res.reason = request->status < 300 ? "OK" : request->status < 500 ? "Refused" : "Error";
    req->res.content_length = request->content_length;
    for (size_t i = 0; i < request->headers.count; i++) {
        h2o_iovec_t name = h2o_strdup(&req->pool, request->headers.items[i].name, SIZE_MAX);
        h2o_iovec_t value = h2o_strdup(&req->pool, request->headers.items[i].value, SIZE_MAX);
        h2o_add_header_by_str(&req->pool, &req->res.headers, name.base, name.len, 1, NULL,
                              value.base, value.len);
    }
    stream->generator.proceed = on_proceed;
    stream->generator.stop = on_stop;
    stream->started = true;
    h2o_start_response(req, &stream->generator);
}

static void pump(struct http_request *request)
{
    struct stream *stream = request->stream;
    if (stream == NULL || stream->busy || stream->finished) {
        return;
    }
    pthread_mutex_lock(&request->lock);
    bool head = strcmp(request->method, "HEAD") == 0;
    bool begun = request->begun || request->aborted;
    bool aborted = request->aborted;
    bool ended = request->ended;
    if (begun) {
        struct buf sent = stream->inflight; /* h2o is done with it: it becomes the queue */
        buf_clear(&sent);
        stream->inflight = request->queue;
        request->queue = sent;
        request->queue.limit = HTTP_REPLY_MAX;
        http_request_drained(request);
        if (head) {
            buf_clear(&stream->inflight);
        }
    }
    pthread_mutex_unlock(&request->lock);
    if (!begun) {
        return;
    }
    if (!stream->started && aborted) {
        request->status = 500;
        request->content_length = HTTP_UNKNOWN_SIZE;
        stream->req->http1_is_persistent = 0;
    }
    if (!stream->started) {
        start(stream);
    }
    bool empty = stream->inflight.size == 0;
    if (empty && !ended && stream->busy) {
        return;
    }
    h2o_send_state_t state = aborted ? H2O_SEND_STATE_ERROR
                             : ended ? H2O_SEND_STATE_FINAL
                                     : H2O_SEND_STATE_IN_PROGRESS;
    if (empty && state == H2O_SEND_STATE_IN_PROGRESS) {
        return; /* headers go out with the first bytes */
    }
    h2o_iovec_t part = {.base = (char *)stream->inflight.data, .len = stream->inflight.size};
    stream->busy = true;
    stream->finished = ended;
    h2o_send(stream->req, &part, empty ? 0 : 1, state);
}

static const struct http_transport transport = {.pump = pump};

static int on_request(h2o_handler_t *self, h2o_req_t *req)
{
    struct http_server *server = ((struct handler *)self)->server;
    struct sockaddr_storage address = {0};
    char peer[80] = "";
    socklen_t size = req->conn->callbacks->get_peername(req->conn, (void *)&address);
    if (size > 0) {
        char host[NI_MAXHOST];
        size_t length = h2o_socket_getnumerichost((void *)&address, size, host);
        if (length != SIZE_MAX) {
            (void)snprintf(peer, sizeof peer, "%.*s:%d", (int)(length < 64 ? length : 64), host,
                           (int)h2o_socket_getport((void *)&address));
        }
    }
    struct http_request *request = http_request_create(server, &transport, 1, peer);
    if (request == NULL) {
        h2o_send_error_503(req, "Out Of Memory", "out of memory", 0);
        return 0;
    }
    struct stream *stream = h2o_mem_alloc_shared(&req->pool, sizeof *stream, on_dispose);
    memset(stream, 0, sizeof *stream);
    buf_init(&stream->inflight, HTTP_REPLY_MAX);
    stream->req = req;
    stream->request = request;
    request->stream = stream;
    enum err err = http_request_target(
        request,
        (struct bytes){.data = (const uint8_t *)req->input.method.base,
                       .size = req->input.method.len},
        (struct bytes){.data = (const uint8_t *)req->input.path.base, .size = req->input.path.len});
    for (size_t i = 0; i < req->headers.size && err == ERR_OK; i++) {
        const h2o_header_t *header = &req->headers.entries[i];
        err = http_request_field(
            request,
            (struct bytes){.data = (const uint8_t *)header->name->base, .size = header->name->len},
            (struct bytes){.data = (const uint8_t *)header->value.base, .size = header->value.len});
    }
    if (err == ERR_OK && req->authority.len > 0 && http_header(request, "host") == NULL) {
        err =
            http_request_field(request, (struct bytes){.data = (const uint8_t *)"host", .size = 4},
                               (struct bytes){.data = (const uint8_t *)req->authority.base,
                                              .size = req->authority.len});
    }
    bool oversized = req->entity.base != NULL && req->entity.len > server->options.body_max;
    if (err == ERR_OK && req->entity.base != NULL && !oversized &&
        server->body_bytes + req->entity.len <= HTTP_BODY_TOTAL_MAX) {
        err = buf_append(&request->body, req->entity.base, req->entity.len);
        server->body_bytes += request->body.size;
    } else if (err == ERR_OK && req->entity.base != NULL && !oversized) {
        pthread_mutex_lock(&request->lock);
        request->references++;
        pthread_mutex_unlock(&request->lock);
        http_reply_error(request, 503, "overloaded", "too many request bodies at once");
        return 0;
    }
    pthread_mutex_lock(&request->lock);
    request->references++; /* the holder's */
    pthread_mutex_unlock(&request->lock);
    if (err != ERR_OK) {
        http_reply_error(request, 431, "invalid_request_error", "request headers too large");
        return 0;
    }
    if (oversized) {
        char text[96];
        (void)snprintf(text, sizeof text, "request body has %zu bytes, the limit is %u",
                       req->entity.len, server->options.body_max);
        http_reply_error(request, 413, "invalid_request_error", text);
        return 0;
    }
    http_dispatch(server, request);
    return 0;
}

void http1_setup(struct http_server *server)
{
    h2o_config_init(&server->config);
    server->config.server_name = h2o_iovec_init(H2O_STRLIT("openledger"));
    /* libh2o refuses with plain text; what is not absurdly large is read and refused by on_request,
     * as an error object with the bound in it. */
    server->config.max_request_entity_size = 2 * (size_t)server->options.body_max;
    server->config.http1.upgrade_to_http2 = 0;
    server->config.http1.req_timeout = server->options.request_ms;
    h2o_hostconf_t *host =
        h2o_config_register_host(&server->config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h2o_pathconf_t *path = h2o_config_register_path(host, "/", 0);
    struct handler *handler = (struct handler *)h2o_create_handler(path, sizeof *handler);
    handler->server = server;
    handler->super.on_req = on_request;
}

void http1_accept(struct http_connection *connection)
{
    connection->state = HTTP_SPEAKS_1;
    uint64_t now_us = clock_real_us();
    struct timeval now = {.tv_sec = (time_t)(now_us / 1000000),
                          .tv_usec = (suseconds_t)(now_us % 1000000)};
    h2o_http1_accept(&connection->server->accept, connection->socket, now);
}
