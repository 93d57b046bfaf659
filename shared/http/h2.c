/* h2.c - HTTP/2: an nghttp2 session on an h2o socket.
 *
 * nghttp2 checks the protocol and keeps the windows; we bound what it leaves to us: bodies, time,
 * streams and resets. Nothing is sent from inside a session callback: answers come by message, so
 * the session is never re-entered. All on the loop thread. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/http/internal.h"
#include "shared/platform/clock.h"

#define OUT_MAX 65536               /* bytes framed ahead of the socket */
#define WINDOW_SIZE (1 << 20)       /* bytes a client may send ahead, per stream */
#define CONNECTION_WINDOW (4 << 20) /* and per connection */

struct stream {
    struct http_connection *connection;
    int32_t id;
    struct http_request *request;
    h2o_linklist_t link;
    uint64_t since_ms;
    struct bytes method, path;
    int refused; /* HTTP status of a request that broke a limit; 0: none */
    bool dispatched, submitted, finished;
};

static void flush(struct http_connection *connection);

void http2_close(struct http_connection *connection)
{
    if (connection->writing || connection->in_session) {
        connection->dead = true; /* its callback closes */
        return;
    }
    for (h2o_linklist_t *at = connection->stream_list.next; at != &connection->stream_list;) {
        struct stream *stream = H2O_STRUCT_FROM_MEMBER(struct stream, link, at);
        at = at->next;
        h2o_linklist_unlink(&stream->link);
        if (stream->request != NULL) {
            http_request_detach(stream->request, stream->finished);
        }
        free(stream);
    }
    nghttp2_session_del(connection->session);
    h2o_buffer_dispose(&connection->out);
    h2o_socket_close(connection->socket); /* frees connection through on_close */
}

static void on_written(h2o_socket_t *socket, const char *err)
{
    struct http_connection *connection = socket->data;
    connection->writing = false;
    h2o_buffer_consume(&connection->out, connection->out->size);
    if (err != NULL || connection->dead) {
        http2_close(connection);
        return;
    }
    flush(connection);
}

static void flush(struct http_connection *connection)
{
    if (connection->writing || connection->in_session) {
        return;
    }
    const uint8_t *data;
    connection->in_session = true;
    while (connection->out->size < OUT_MAX) {
        ssize_t size = nghttp2_session_mem_send(connection->session, &data);
        if (size <= 0) {
            connection->dead = connection->dead || size < 0;
            break;
        }
        memcpy(h2o_buffer_reserve(&connection->out, (size_t)size).base, data, (size_t)size);
        connection->out->size += (size_t)size;
    }
    connection->in_session = false;
    if (connection->out->size > 0) {
        h2o_iovec_t part = {.base = connection->out->bytes, .len = connection->out->size};
        connection->writing = true;
        h2o_socket_write(connection->socket, &part, 1, on_written);
    } else if (connection->dead || (nghttp2_session_want_read(connection->session) == 0 &&
                                    nghttp2_session_want_write(connection->session) == 0)) {
        http2_close(connection);
    }
}

static void on_read(h2o_socket_t *socket, const char *err)
{
    struct http_connection *connection = socket->data;
    if (err != NULL) {
        h2o_socket_read_stop(socket);
        http2_close(connection);
        return;
    }
    connection->since_ms = clock_mono_ms();
    connection->in_session = true;
    ssize_t used = nghttp2_session_mem_recv(
        connection->session, (const uint8_t *)socket->input->bytes, socket->input->size);
    connection->in_session = false;
    h2o_buffer_consume(&socket->input, socket->input->size);
    if (used < 0 || connection->dead) {
        h2o_socket_read_stop(socket);
        http2_close(connection);
        return;
    }
    flush(connection);
}

/* ---- answering ---- */

static nghttp2_nv pair(const char *name, const char *value)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                        .value = (uint8_t *)(uintptr_t)value,
                        .namelen = strlen(name),
                        .valuelen = strlen(value),
                        .flags = NGHTTP2_NV_FLAG_NONE}; /* nghttp2 copies */
}

static size_t pairs(struct http_fields fields, nghttp2_nv *out, size_t used)
{
    for (size_t i = 0; i < fields.count && used < HTTP_HEADER_MAX; i++) {
        out[used++] = pair(fields.items[i].name, fields.items[i].value);
    }
    return used;
}

static ssize_t on_want_data(nghttp2_session *session, int32_t id, uint8_t *out, size_t size,
                            uint32_t *flags, nghttp2_data_source *source, void *context)
{
    (void)context;
    struct stream *stream = source->ptr;
    struct http_request *request = stream->request;
    pthread_mutex_lock(&request->lock);
    size_t waiting = request->queue.size - request->queue_read;
    size_t part = waiting < size ? waiting : size;
    if (part > 0) {
        memcpy(out, request->queue.data + request->queue_read, part);
        request->queue_read += part;
    }
    ssize_t result = (ssize_t)part;
    if (part == waiting) {
        buf_clear(&request->queue);
        request->queue_read = 0;
        if (request->aborted) {
            result = NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* resets the stream */
        } else if (request->ended) {
            *flags |= NGHTTP2_DATA_FLAG_EOF;
            stream->finished = true;
            nghttp2_nv trailers[HTTP_HEADER_MAX];
            size_t count = pairs(request->trailers, trailers, 0);
            if (count > 0 && nghttp2_submit_trailer(session, id, trailers, count) == 0) {
                *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            }
        } else if (part == 0) {
            result = NGHTTP2_ERR_DEFERRED;
        }
        http_request_drained(request);
    }
    pthread_mutex_unlock(&request->lock);
    return result;
}

static void pump(struct http_request *request)
{
    struct stream *stream = request->stream;
    if (stream == NULL) {
        return;
    }
    struct http_connection *connection = stream->connection;
    pthread_mutex_lock(&request->lock);
    bool begun = request->begun;
    bool aborted = request->aborted;
    pthread_mutex_unlock(&request->lock);
    if (aborted) {
        (void)nghttp2_submit_rst_stream(connection->session, NGHTTP2_FLAG_NONE, stream->id,
                                        NGHTTP2_INTERNAL_ERROR);
    } else if (begun && !stream->submitted) {
        stream->submitted = true;
        nghttp2_nv headers[HTTP_HEADER_MAX];
        char status[16];
        char length[24];
        (void)snprintf(status, sizeof status, "%d", request->status);
        size_t count = 0;
        headers[count++] = pair(":status", status);
        headers[count++] = pair("server", "openledger");
        if (request->content_length != HTTP_UNKNOWN_SIZE) {
            (void)snprintf(length, sizeof length, "%zu", request->content_length);
            headers[count++] = pair("content-length", length);
        }
        count = pairs(request->headers, headers, count);
        nghttp2_data_provider provider = {.source.ptr = stream, .read_callback = on_want_data};
        bool head = strcmp(request->method, "HEAD") == 0;
        if (head) {
            stream->finished = true;
        }
        (void)nghttp2_submit_response(connection->session, stream->id, headers, count,
                                      head ? NULL : &provider);
    } else if (begun) {
        (void)nghttp2_session_resume_data(connection->session, stream->id);
    }
    flush(connection);
}

static const struct http_transport transport = {.pump = pump};

/* A request that broke a limit: a bare status, and no more of its bytes. */
static void refuse(struct stream *stream, int status)
{
    if (stream->refused != 0 || stream->dispatched) {
        return;
    }
    stream->refused = status;
    nghttp2_session *session = stream->connection->session;
    char text[16];
    (void)snprintf(text, sizeof text, "%d", status);
    nghttp2_nv header = pair(":status", text);
    (void)nghttp2_submit_response(session, stream->id, &header, 1, NULL);
    (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_NO_ERROR);
}

/* ---- receiving ---- */

static int on_begin(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    struct http_connection *connection = context;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    struct stream *stream = calloc(1, sizeof *stream);
    struct http_request *request =
        stream == NULL ? NULL
                       : http_request_create(connection->server, &transport, 2, connection->peer);
    if (request == NULL) {
        free(stream);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    stream->connection = connection;
    stream->id = frame->hd.stream_id;
    stream->since_ms = clock_mono_ms();
    stream->request = request;
    request->stream = stream;
    h2o_linklist_insert(&connection->stream_list, &stream->link);
    connection->streams++;
    nghttp2_session_set_stream_user_data(session, stream->id, stream);
    return 0;
}

/* NOLINTNEXTLINE(readability-function-size): nghttp2_on_header_callback */
static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *context)
{
    (void)flags;
    (void)context;
    struct stream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (stream == NULL || stream->refused != 0 || stream->dispatched ||
        frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0; /* request trailers are not used by anything we speak */
    }
    struct http_request *request = stream->request;
    struct bytes text = {.data = value, .size = value_size};
    enum err err = ERR_OK;
    if (name_size == 7 && memcmp(name, ":method", 7) == 0) {
        stream->method.data = arena_dup(request->arena, value, value_size);
        stream->method.size = value_size;
        err = stream->method.data == NULL ? ERR_LIMIT : ERR_OK;
    } else if (name_size == 5 && memcmp(name, ":path", 5) == 0) {
        stream->path.data = arena_dup(request->arena, value, value_size);
        stream->path.size = value_size;
        err = stream->path.data == NULL ? ERR_LIMIT : ERR_OK;
    } else if (name_size == 10 && memcmp(name, ":authority", 10) == 0) {
        err = http_request_field(request,
                                 (struct bytes){.data = (const uint8_t *)"host", .size = 4}, text);
    } else if (name_size > 0 && name[0] != ':') {
        err = http_request_field(request, (struct bytes){.data = name, .size = name_size}, text);
    }
    if (err != ERR_OK) {
        refuse(stream, 431);
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t size, void *context)
{
    (void)flags;
    struct http_server *server = ((struct http_connection *)context)->server;
    struct stream *stream = nghttp2_session_get_stream_user_data(session, id);
    if (stream == NULL || stream->refused != 0 || stream->dispatched) {
        return 0;
    }
    if (server->body_bytes + size > HTTP_BODY_TOTAL_MAX) {
        refuse(stream, 503);
    } else if (buf_append(&stream->request->body, data, size) != ERR_OK) {
        refuse(stream, 413);
    } else {
        server->body_bytes += size;
    }
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    struct http_connection *connection = context;
    if (frame->hd.type == NGHTTP2_RST_STREAM) {
        uint64_t now_ms = clock_mono_ms();
        if (now_ms - connection->reset_since_ms > HTTP_RESET_WINDOW_MS) {
            connection->reset_since_ms = now_ms;
            connection->resets = 0;
        }
        if (++connection->resets > HTTP_RESET_MAX) {
            (void)nghttp2_session_terminate_session(session, NGHTTP2_ENHANCE_YOUR_CALM);
        }
    }
    if ((frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) ||
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) {
        return 0;
    }
    struct stream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (stream == NULL || stream->refused != 0 || stream->dispatched) {
        return 0;
    }
    struct http_request *request = stream->request;
    if (http_request_target(request, stream->method, stream->path) != ERR_OK) {
        refuse(stream, 431);
        return 0;
    }
    stream->dispatched = true;
    pthread_mutex_lock(&request->lock);
    request->references++; /* the holder's */
    pthread_mutex_unlock(&request->lock);
    http_dispatch(connection->server, request);
    return 0;
}

static int on_stream_closed(nghttp2_session *session, int32_t id, uint32_t code, void *context)
{
    struct http_connection *connection = context;
    struct stream *stream = nghttp2_session_get_stream_user_data(session, id);
    if (stream != NULL) {
        h2o_linklist_unlink(&stream->link);
        connection->streams--;
        http_request_detach(stream->request, stream->finished && code == NGHTTP2_NO_ERROR);
        free(stream);
        nghttp2_session_set_stream_user_data(session, id, NULL);
    }
    return 0;
}

/* ---- connections ---- */

void http2_setup(struct http_server *server)
{
    CHECK(nghttp2_session_callbacks_new(&server->callbacks) == 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(server->callbacks, on_begin);
    nghttp2_session_callbacks_set_on_header_callback(server->callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(server->callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(server->callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(server->callbacks, on_stream_closed);
    CHECK(nghttp2_option_new(&server->h2_options) == 0);
    nghttp2_option_set_max_settings(server->h2_options, 32);
}

void http2_accept(struct http_connection *connection)
{
    connection->state = HTTP_SPEAKS_2;
    connection->since_ms = connection->reset_since_ms = clock_mono_ms();
    connection->socket->data = connection;
    h2o_linklist_init_anchor(&connection->stream_list);
    h2o_buffer_init(&connection->out, &h2o_socket_buffer_prototype);
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, HTTP_STREAM_MAX},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_SIZE},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP_HEADER_BYTES_MAX}};
    CHECK(nghttp2_session_server_new2(&connection->session, connection->server->callbacks,
                                      connection, connection->server->h2_options) == 0);
    (void)nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, settings,
                                  sizeof settings / sizeof settings[0]);
    (void)nghttp2_session_set_local_window_size(connection->session, NGHTTP2_FLAG_NONE, 0,
                                                CONNECTION_WINDOW);
    h2o_socket_read_start(connection->socket, on_read);
    if (connection->socket->input->size > 0) {
        on_read(connection->socket, NULL);
    } else {
        flush(connection);
    }
}

void http2_tick(struct http_connection *connection, uint64_t now_ms)
{
    const struct http_options *options = &connection->server->options;
    for (h2o_linklist_t *at = connection->stream_list.next; at != &connection->stream_list;
         at = at->next) {
        const struct stream *stream = H2O_STRUCT_FROM_MEMBER(struct stream, link, at);
        if (!stream->dispatched && stream->since_ms + options->request_ms < now_ms) {
            (void)nghttp2_submit_rst_stream(connection->session, NGHTTP2_FLAG_NONE, stream->id,
                                            NGHTTP2_CANCEL);
        }
    }
    if (connection->streams == 0 && connection->since_ms + options->idle_ms < now_ms) {
        (void)nghttp2_session_terminate_session(connection->session, NGHTTP2_NO_ERROR);
    }
    flush(connection);
}

void http2_goaway(struct http_connection *connection)
{
    (void)nghttp2_submit_goaway(connection->session, NGHTTP2_FLAG_NONE,
                                nghttp2_session_get_last_proc_stream_id(connection->session),
                                NGHTTP2_NO_ERROR, NULL, 0);
    flush(connection);
}
