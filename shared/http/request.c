/* request.c - the request that both HTTP versions share, and its answer; see http.h. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/http/internal.h"
#include "shared/json/json.h"

struct http_request *http_request_create(struct http_server *server,
                                         const struct http_transport *transport, int version,
                                         const char *peer)
{
    struct http_request *request = calloc(1, sizeof *request);
    if (request == NULL) {
        return NULL;
    }
    request->arena = arena_create(HTTP_ARENA_MAX);
    if (request->arena == NULL) {
        free(request);
        return NULL;
    }
    pthread_mutex_init(&request->lock, NULL);
    buf_init(&request->body, server->options.body_max);
    buf_init(&request->queue, HTTP_REPLY_MAX);
    request->references = 1;
    request->server = server;
    request->transport = transport;
    request->attached = true;
    request->version = version;
    request->method = request->path = request->query = "";
    request->peer = arena_strdup(request->arena, peer);
    request->content_length = HTTP_UNKNOWN_SIZE;
    h2o_linklist_insert(&server->requests, &request->link);
    return request;
}

static struct bytes text_bytes(const char *text)
{
    return (struct bytes){.data = (const uint8_t *)text, .size = strlen(text)};
}

enum err http_request_field(struct http_request *request, struct bytes name, struct bytes value)
{
    request->header_bytes += name.size + value.size;
    if (request->field_count == HTTP_HEADER_MAX || request->header_bytes > HTTP_HEADER_BYTES_MAX) {
        return ERR_LIMIT;
    }
    char *own_name = arena_dup(request->arena, name.data, name.size);
    char *own_value = arena_dup(request->arena, value.data, value.size);
    if (own_name == NULL || own_value == NULL) {
        return ERR_LIMIT;
    }
    request->fields[request->field_count++] =
        (struct http_field){.name = own_name, .value = own_value};
    return ERR_OK;
}

enum err http_request_target(struct http_request *request, struct bytes method, struct bytes target)
{
    request->header_bytes += method.size + target.size;
    char *own_method = arena_dup(request->arena, method.data, method.size);
    char *path = arena_dup(request->arena, target.data, target.size);
    if (request->header_bytes > HTTP_HEADER_BYTES_MAX || own_method == NULL || path == NULL) {
        return ERR_LIMIT;
    }
    char *mark = strchr(path, '?');
    if (mark != NULL) {
        *mark = '\0';
        request->query = mark + 1;
    }
    request->method = own_method;
    request->path = path;
    return ERR_OK;
}

void http_request_release(struct http_request *request)
{
    pthread_mutex_lock(&request->lock);
    CHECK(request->references > 0);
    bool last = --request->references == 0;
    pthread_mutex_unlock(&request->lock);
    if (last) {
        pthread_mutex_destroy(&request->lock);
        buf_deinit(&request->body);
        buf_deinit(&request->queue);
        arena_destroy(request->arena);
        free(request);
    }
}

void http_request_detach(struct http_request *request, bool whole)
{
    h2o_linklist_unlink(&request->link);
    request->server->body_bytes -= request->body.size;
    pthread_mutex_lock(&request->lock);
    request->attached = false;
    request->stream = NULL;
    if (!whole && !request->ended && request->notify != NULL) {
        request->notify(request->notify_context, HTTP_GONE);
        request->notify = NULL;
    }
    pthread_mutex_unlock(&request->lock);
    http_request_release(request);
}

void http_request_drained(struct http_request *request)
{
    if (request->was_full) {
        request->was_full = false;
        if (request->notify != NULL && !request->ended) {
            request->notify(request->notify_context, HTTP_WRITABLE);
        }
    }
}

/* With the lock held: has the loop look at the answer. */
static void kick(struct http_request *request)
{
    if (request->attached && !request->kicked) {
        request->kicked = true;
        request->references++;
        h2o_multithread_send_message(&request->server->receiver, &request->message);
    }
}

/* ---- the request ---- */

const char *http_method(const struct http_request *request)
{
    return request->method;
}

const char *http_path(const struct http_request *request)
{
    return request->path;
}

const char *http_query(const struct http_request *request)
{
    return request->query;
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef";
    char lower = c >= 'A' && c <= 'F' ? (char)(c + 32) : c;
    const char *at = lower == '\0' ? NULL : strchr(digits, lower);
    return at == NULL ? -1 : (int)(at - digits);
}

enum err http_query_get(const struct http_request *request, const char *name, char *out,
                        size_t out_size)
{
    size_t name_size = strlen(name);
    const char *at = request->query;
    while (strncmp(at, name, name_size) != 0 || at[name_size] != '=') {
        at = strchr(at, '&');
        if (at == NULL) {
            return ERR_NOT_FOUND;
        }
        at++;
    }
    size_t used = 0;
    for (at += name_size + 1; *at != '\0' && *at != '&'; at++) {
        char c = *at == '+' ? ' ' : *at;
        if (c == '%') {
            int high = hex_digit(at[1]);
            int low = high < 0 ? -1 : hex_digit(at[2]);
            if (low < 0 || (high == 0 && low == 0)) {
                return ERR_INVALID;
            }
            c = (char)(high * 16 + low);
            at += 2;
        }
        if (used + 1 >= out_size) {
            return ERR_LIMIT;
        }
        out[used++] = c;
    }
    out[used] = '\0';
    return ERR_OK;
}

const char *http_header(const struct http_request *request, const char *name)
{
    for (size_t i = 0; i < request->field_count; i++) {
        if (strcmp(request->fields[i].name, name) == 0) {
            return request->fields[i].value;
        }
    }
    return NULL;
}

struct bytes http_body(const struct http_request *request)
{
    return buf_bytes(&request->body);
}

const char *http_peer(const struct http_request *request)
{
    return request->peer;
}

int http_version(const struct http_request *request)
{
    return request->version;
}

static pthread_mutex_t *lock_of(const struct http_request *request)
{
    return (pthread_mutex_t *)(uintptr_t)&request->lock;
}

bool http_gone(const struct http_request *request)
{
    pthread_mutex_lock(lock_of(request));
    bool gone = !request->attached;
    pthread_mutex_unlock(lock_of(request));
    return gone;
}

/* ---- the answer ---- */

/* Line breaks in a value would let a caller's text forge headers: they end the value. */
static struct http_fields copy_fields(struct http_request *request, struct http_fields from)
{
    struct http_field *items = arena_alloc_array(request->arena, from.count + 1, sizeof *items);
    size_t count = 0;
    for (size_t i = 0; items != NULL && i < from.count; i++) {
        char *name = arena_strdup(request->arena, from.items[i].name);
        char *value =
            arena_dup(request->arena, from.items[i].value, strcspn(from.items[i].value, "\r\n"));
        if (name != NULL && value != NULL) {
            items[count++] = (struct http_field){.name = name, .value = value};
        }
    }
    return (struct http_fields){.items = items, .count = count};
}

void http_begin(struct http_request *request, int status, struct http_fields headers)
{
    CHECK(status >= 200 && status <= 599);
    struct http_fields own = copy_fields(request, headers);
    pthread_mutex_lock(&request->lock);
    CHECK(!request->begun);
    request->begun = true;
    request->status = status;
    request->headers = own;
    kick(request);
    pthread_mutex_unlock(&request->lock);
}

enum err http_write(struct http_request *request, struct bytes data)
{
    enum err err = ERR_OK;
    pthread_mutex_lock(&request->lock);
    CHECK(request->begun);
    CHECK(!request->ended);
    if (!request->attached) {
        err = ERR_UNAVAILABLE;
    } else if (request->queue.size - request->queue_read > 0 &&
               request->queue.size - request->queue_read + data.size > HTTP_QUEUE_MAX) {
        request->was_full = true;
        err = ERR_LIMIT;
    } else {
        err = buf_append_bytes(&request->queue, data);
        kick(request);
    }
    pthread_mutex_unlock(&request->lock);
    return err;
}

bool http_room(const struct http_request *request)
{
    pthread_mutex_lock(lock_of(request));
    bool room =
        !request->attached || request->queue.size - request->queue_read < HTTP_QUEUE_MAX / 2;
    pthread_mutex_unlock(lock_of(request));
    return room;
}

static void end(struct http_request *request)
{
    pthread_mutex_lock(&request->lock);
    CHECK(!request->ended);
    request->ended = true;
    request->notify = NULL;
    kick(request);
    pthread_mutex_unlock(&request->lock);
    http_request_release(request);
}

void http_finish_with(struct http_request *request, struct bytes data, struct http_fields trailers)
{
    struct http_fields own = copy_fields(request, trailers);
    pthread_mutex_lock(&request->lock);
    CHECK(request->begun);
    request->trailers = own;
    if (request->attached && buf_append_bytes(&request->queue, data) != ERR_OK) {
        request->aborted = true;
    }
    pthread_mutex_unlock(&request->lock);
    end(request);
}

void http_finish(struct http_request *request, struct http_fields trailers)
{
    http_finish_with(request, (struct bytes){0}, trailers);
}

void http_abort(struct http_request *request)
{
    pthread_mutex_lock(&request->lock);
    request->aborted = true;
    pthread_mutex_unlock(&request->lock);
    end(request);
}

void http_reply_fields(struct http_request *request, int status, struct http_fields headers,
                       struct bytes body)
{
    CHECK(status >= 200 && status <= 599);
    struct http_fields own = copy_fields(request, headers);
    pthread_mutex_lock(&request->lock);
    CHECK(!request->begun);
    request->begun = true;
    request->status = status;
    request->headers = own;
    request->content_length = body.size;
    if (request->attached && buf_append_bytes(&request->queue, body) != ERR_OK) {
        request->aborted = true; /* larger than HTTP_REPLY_MAX, or no memory */
    }
    pthread_mutex_unlock(&request->lock);
    end(request);
}

void http_reply(struct http_request *request, int status, const char *content_type,
                struct bytes body)
{
    struct http_field field = {.name = "content-type", .value = content_type};
    http_reply_fields(request, status, (struct http_fields){.items = &field, .count = 1}, body);
}

void http_reply_error(struct http_request *request, int status, const char *type,
                      const char *message)
{
    struct buf text;
    buf_init(&text, 65536);
    struct json_writer writer;
    json_writer_init(&writer, &text, false);
    json_begin_object(&writer);
    json_write_key(&writer, "error");
    json_begin_object(&writer);
    json_write_key(&writer, "message");
    json_write_text_bytes(&writer, text_bytes(message));
    json_put_text(&writer, "type", type);
    json_put_text(&writer, "param", NULL);
    json_put_text(&writer, "code", NULL);
    json_end_object(&writer);
    json_end_object(&writer);
    http_reply(request, status, "application/json", buf_bytes(&text));
    buf_deinit(&text);
}

void http_watch(struct http_request *request, http_notify *notify, void *context)
{
    pthread_mutex_lock(&request->lock);
    if (!request->attached) {
        notify(context, HTTP_GONE);
    } else {
        request->notify = notify;
        request->notify_context = context;
    }
    pthread_mutex_unlock(&request->lock);
}
