/* client_http.c - calling through the front door: gRPC-Web over libcurl.
 *
 * Why gRPC-Web and not gRPC: status and note come in the body, so that any HTTP version and any proxy
 * on the way will do; and one format serves unary calls and streams. */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/platform/clock.h"
#include "shared/rpc/internal.h"

#define CONNECT_MS 5000
#define FLAG_TRAILERS 0x80
#define URL_MAX 512

struct rpc_web_client {
    char url[URL_MAX];
    char token[RPC_TOKEN_MAX + 1];
};

struct rpc_web_stream {
    const struct rpc_spec *spec;
    CURL *easy;
    CURLM *multi; /* NULL: unary */
    struct curl_slist *headers;
    struct buf frame, in, out; /* request; received; the message last given */
    size_t read;               /* bytes of in already used */
    uint64_t deadline_ms;
    CURLcode code;
    bool done, paused;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void start_curl(void)
{
    CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

struct rpc_web_client *rpc_web_client_create(const char *url, const char *token)
{
    CHECK(pthread_once(&once, start_curl) == 0);
    struct rpc_web_client *client = calloc(1, sizeof *client);
    size_t size = strlen(url);
    while (size > 0 && url[size - 1] == '/') {
        size--;
    }
    token = token == NULL ? "" : token;
    if (client == NULL || size + RPC_NAME_MAX + 32 > URL_MAX || strlen(token) > RPC_TOKEN_MAX) {
        free(client);
        return NULL;
    }
    (void)snprintf(client->url, sizeof client->url, "%.*s", (int)size, url);
    (void)snprintf(client->token, sizeof client->token, "%s", token);
    return client;
}

void rpc_web_client_destroy(struct rpc_web_client *client)
{
    free(client);
}

static size_t on_body(char *data, size_t unit, size_t count, void *context)
{
    struct rpc_web_stream *stream = context;
    size_t size = unit * count;
    if (stream->multi != NULL && stream->in.size - stream->read > RPC_MESSAGE_MAX + 5) {
        stream->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    if (stream->read > 0) {
        memmove(stream->in.data, stream->in.data + stream->read, stream->in.size - stream->read);
        buf_truncate(&stream->in, stream->in.size - stream->read);
        stream->read = 0;
    }
    return buf_append(&stream->in, data, size) == ERR_OK ? size : 0;
}

static bool add_header(struct rpc_web_stream *stream, const char *format, const char *value)
{
    char text[RPC_TOKEN_MAX + 64];
    (void)snprintf(text, sizeof text, "%s%s", format, value);
    struct curl_slist *longer = curl_slist_append(stream->headers, text);
    if (longer != NULL) {
        stream->headers = longer;
    }
    return longer != NULL;
}

void rpc_web_stream_close(struct rpc_web_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    if (stream->multi != NULL) {
        if (stream->easy != NULL) {
            (void)curl_multi_remove_handle(stream->multi, stream->easy);
        }
        (void)curl_multi_cleanup(stream->multi);
    }
    curl_easy_cleanup(stream->easy);
    curl_slist_free_all(stream->headers);
    buf_deinit(&stream->frame);
    buf_deinit(&stream->in);
    buf_deinit(&stream->out);
    free(stream);
}

static struct rpc_web_stream *prepare(const struct rpc_web_client *client,
                                      const struct rpc_spec *spec, struct bytes request,
                                      uint32_t timeout_ms)
{
    struct rpc_web_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        return NULL;
    }
    stream->spec = spec;
    stream->deadline_ms = clock_mono_ms() + timeout_ms;
    stream->easy = curl_easy_init();
    buf_init(&stream->frame, RPC_MESSAGE_MAX + 5);
    buf_init(&stream->in, 3 * (size_t)RPC_MESSAGE_MAX);
    buf_init(&stream->out, RPC_MESSAGE_MAX);
    buf_append_byte(&stream->frame, 0);
    buf_append_u32be(&stream->frame, (uint32_t)request.size);
    buf_append_bytes(&stream->frame, request);
    char url[URL_MAX + RPC_NAME_MAX + 32];
    char timeout[24];
    (void)snprintf(url, sizeof url, "%s/openledger.v1.%s/%s", client->url, spec->service,
                   spec->method);
    (void)snprintf(timeout, sizeof timeout, "%um",
                   (unsigned)(timeout_ms > 99999999 ? 99999999 : timeout_ms));
    bool made =
        stream->easy != NULL && buf_err(&stream->frame) == ERR_OK &&
        add_header(stream, "content-type: ", "application/grpc-web+proto") &&
        add_header(stream, "grpc-timeout: ", timeout) && add_header(stream, "expect:", "") &&
        (client->token[0] == '\0' || add_header(stream, "authorization: Bearer ", client->token));
    if (!made) {
        rpc_web_stream_close(stream);
        return NULL;
    }
    struct bytes frame = buf_bytes(&stream->frame);
    curl_easy_setopt(stream->easy, CURLOPT_URL, url);
    curl_easy_setopt(stream->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(stream->easy, CURLOPT_HTTPHEADER, stream->headers);
    curl_easy_setopt(stream->easy, CURLOPT_POST, 1L);
    curl_easy_setopt(stream->easy, CURLOPT_POSTFIELDS, (const char *)frame.data);
    curl_easy_setopt(stream->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)frame.size);
    curl_easy_setopt(stream->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(stream->easy, CURLOPT_WRITEDATA, stream);
    curl_easy_setopt(stream->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(stream->easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(stream->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(stream->easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms + 500);
    return stream;
}

/* What went wrong below the call: no connection, time, or an HTTP status that is not 200. */
static enum err transfer_err(const struct rpc_web_stream *stream, struct note *note)
{
    char *url = NULL;
    long status = 0;
    (void)curl_easy_getinfo(stream->easy, CURLINFO_EFFECTIVE_URL, &url);
    (void)curl_easy_getinfo(stream->easy, CURLINFO_RESPONSE_CODE, &status);
    if (stream->code != CURLE_OK) {
        enum err err = stream->code == CURLE_OPERATION_TIMEDOUT ? ERR_TIMEOUT
                       : stream->code == CURLE_WRITE_ERROR      ? ERR_LIMIT
                       : stream->code == CURLE_URL_MALFORMAT    ? ERR_INVALID
                                                                : ERR_UNAVAILABLE;
        return note_set(note, err, "%s: %s", url, curl_easy_strerror(stream->code));
    }
    enum err err = status == 413 || status == 429 || status == 431   ? ERR_LIMIT
                   : status == 404 || status == 405 || status == 415 ? ERR_UNIMPLEMENTED
                   : status == 502 || status == 503                  ? ERR_UNAVAILABLE
                                                                     : ERR_IO;
    return note_set(note, err, "%s answered with HTTP status %ld", url, status);
}

/* "grpc-status: 5\r\ngrpc-message: no%20such" */
static enum err trailer_err(struct bytes trailers, struct note *note)
{
    char text[4 * NOTE_SIZE];
    size_t size = trailers.size < sizeof text - 1 ? trailers.size : sizeof text - 1;
    memcpy(text, trailers.data == NULL ? (const uint8_t *)"" : trailers.data, size);
    text[size] = '\0';
    const char *status = strstr(text, "grpc-status:");
    if (status == NULL) {
        return note_set(note, ERR_IO, "answer without a status");
    }
    enum err err = err_from_grpc_status((int)strtol(status + 12, NULL, 10));
    char *message = strstr(text, "grpc-message:");
    if (err != ERR_OK && note != NULL) {
        char *start = message == NULL ? text + size : message + 13;
        start += strspn(start, " ");
        start[strcspn(start, "\r\n")] = '\0';
        rpc_percent_decode(start, note->text, sizeof note->text);
    }
    return err;
}

/* Takes the next frame out of in. ERR_TIMEOUT: not there yet. *out_end: it was the trailers, all well. */
static enum err take_frame(struct rpc_web_stream *stream, bool *out_end, struct note *note)
{
    struct bytes rest = {.data = stream->in.data == NULL ? NULL : stream->in.data + stream->read,
                         .size = stream->in.size - stream->read};
    if (rest.size < 5) {
        return ERR_TIMEOUT;
    }
    uint8_t flags = 0;
    struct bytes message = {0};
    size_t before = rest.size;
    enum err err = rpc_parse_frame(&rest, &flags, &message, note);
    if (err == ERR_INVALID) {
        return ERR_TIMEOUT; /* only its start is here */
    }
    if (err != ERR_OK) {
        return err;
    }
    *out_end = (flags & FLAG_TRAILERS) != 0;
    if (*out_end) {
        err = trailer_err(message, note);
    } else {
        buf_clear(&stream->out);
        err = buf_append_bytes(&stream->out, message);
    }
    stream->read += before - rest.size;
    return err;
}

enum err rpc_web_call(struct rpc_web_client *client, const struct rpc_spec *spec,
                      struct bytes request, uint32_t timeout_ms, struct buf *out_reply,
                      struct note *note)
{
    struct rpc_web_stream *stream = prepare(client, spec, request, timeout_ms);
    if (stream == NULL) {
        return ERR_NO_MEMORY;
    }
    stream->code = curl_easy_perform(stream->easy);
    long status = 0;
    (void)curl_easy_getinfo(stream->easy, CURLINFO_RESPONSE_CODE, &status);
    enum err err = stream->code == CURLE_OK && status == 200 ? ERR_OK : transfer_err(stream, note);
    bool end = false, got = false;
    while (err == ERR_OK && !end) {
        err = take_frame(stream, &end, note);
        got = got || (err == ERR_OK && !end);
    }
    if (err == ERR_TIMEOUT && !end && stream->code == CURLE_OK && status == 200) {
        err = note_set(note, ERR_UNAVAILABLE, "the answer of %s.%s was cut off", spec->service,
                       spec->method);
    }
    if (err == ERR_OK) {
        err = got ? buf_append_bytes(out_reply, buf_bytes(&stream->out))
                  : note_set(note, ERR_IO, "%s.%s: empty answer", spec->service, spec->method);
    }
    rpc_web_stream_close(stream);
    return err;
}

enum err rpc_web_stream_open(struct rpc_web_client *client, const struct rpc_spec *spec,
                             struct bytes request, uint32_t timeout_ms,
                             struct rpc_web_stream **out_stream, struct note *note)
{
    (void)note;
    struct rpc_web_stream *stream = prepare(client, spec, request, timeout_ms);
    if (stream == NULL) {
        return ERR_NO_MEMORY;
    }
    stream->multi = curl_multi_init();
    if (stream->multi == NULL || curl_multi_add_handle(stream->multi, stream->easy) != CURLM_OK) {
        rpc_web_stream_close(stream);
        return ERR_NO_MEMORY;
    }
    *out_stream = stream;
    return ERR_OK;
}

static void transfer(struct rpc_web_stream *stream, int wait_ms)
{
    int running = 0;
    int queued = 0;
    if (stream->paused) {
        stream->paused = false;
        (void)curl_easy_pause(stream->easy, CURLPAUSE_CONT);
    }
    (void)curl_multi_perform(stream->multi, &running);
    if (running > 0 && wait_ms > 0) {
        (void)curl_multi_poll(stream->multi, NULL, 0, wait_ms, NULL);
        (void)curl_multi_perform(stream->multi, &running);
    }
    const CURLMsg *message;
    while ((message = curl_multi_info_read(stream->multi, &queued)) != NULL) {
        if (message->msg == CURLMSG_DONE) {
            stream->done = true;
            stream->code = message->data.result;
        }
    }
}

enum err rpc_web_stream_next(struct rpc_web_stream *stream, uint32_t wait_ms,
                             struct bytes *out_data, struct note *note)
{
    uint64_t end_ms = clock_mono_ms() + wait_ms;
    for (;;) {
        long status = 0;
        (void)curl_easy_getinfo(stream->easy, CURLINFO_RESPONSE_CODE, &status);
        if (status != 0 && status != 200) {
            return transfer_err(stream, note);
        }
        bool end = false;
        enum err err = take_frame(stream, &end, note);
        if (err == ERR_OK) {
            struct bytes data = buf_bytes(&stream->out);
            if (data.data == NULL) {
                data.data = (const uint8_t *)"";
            }
            const struct bytes nothing = {0};
            *out_data = end ? nothing : data;
            return ERR_OK;
        }
        if (err != ERR_TIMEOUT || end) {
            return err;
        }
        if (stream->done) {
            return stream->code != CURLE_OK
                       ? transfer_err(stream, note)
                       : note_set(note, ERR_UNAVAILABLE, "the stream was cut off");
        }
        uint64_t now_ms = clock_mono_ms();
        if (now_ms >= end_ms) {
            return ERR_TIMEOUT;
        }
        transfer(stream, (int)(end_ms - now_ms));
    }
}
