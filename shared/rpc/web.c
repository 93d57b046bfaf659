/* web.c - calls over HTTP: gRPC, gRPC-Web and Connect on one path, told apart by content-type.
 *
 * Sources: grpc.io PROTOCOL-HTTP2.md and PROTOCOL-WEB.md; connectrpc.com/docs/protocol. Not spoken:
 * compression of messages, Connect GET, gRPC-Web text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/json/json.h"
#include "shared/rpc/internal.h"

#define PATH_PREFIX "/openledger.v1."
#define FLAG_COMPRESSED 0x01
#define FLAG_CONNECT_END 0x02
#define FLAG_WEB_TRAILERS 0x80

enum protocol { GRPC, GRPC_WEB, CONNECT_UNARY, CONNECT_STREAM };

struct rpc_web {
    struct http_request *request;
    enum protocol protocol;
    bool json;
    bool begun;
    const char *content_type;
};

static const struct {
    const char *content_type;
    enum protocol protocol;
    bool json;
} protocols[] = {
    {"application/grpc", GRPC, false},
    {"application/grpc+proto", GRPC, false},
    {"application/grpc-web", GRPC_WEB, false},
    {"application/grpc-web+proto", GRPC_WEB, false},
    {"application/json", CONNECT_UNARY, true},
    {"application/proto", CONNECT_UNARY, false},
    {"application/connect+json", CONNECT_STREAM, true},
    {"application/connect+proto", CONNECT_STREAM, false},
};

/* Connect's names of gRPC's numbers, and its HTTP status for each. */
static const struct {
    const char *code;
    int http;
} connect_codes[] = {
    {"ok", 200},
    {"canceled", 499},
    {"unknown", 500},
    {"invalid_argument", 400},
    {"deadline_exceeded", 504},
    {"not_found", 404},
    {"already_exists", 409},
    {"permission_denied", 403},
    {"resource_exhausted", 429},
    {"failed_precondition", 400},
    {"aborted", 409},
    {"out_of_range", 400},
    {"unimplemented", 501},
    {"internal", 500},
    {"unavailable", 503},
    {"data_loss", 500},
    {"unauthenticated", 401},
};

static void write_connect_error(struct json_writer *writer, enum err err, const char *note)
{
    json_begin_object(writer);
    json_put_text(writer, "code", connect_codes[err_grpc_status(err)].code);
    json_write_key(writer, "message");
    json_write_text_bytes(writer,
                          (struct bytes){.data = (const uint8_t *)note, .size = strlen(note)});
    json_end_object(writer);
}

static void begin(struct rpc_web *web)
{
    if (!web->begun) {
        web->begun = true;
        struct http_field field = {"content-type", web->content_type};
        http_begin(web->request, 200, (struct http_fields){.items = &field, .count = 1});
    }
}

static enum err make_frame(struct buf *out, uint8_t flags, struct bytes data)
{
    buf_init(out, data.size + 5);
    buf_append_byte(out, flags);
    buf_append_u32be(out, (uint32_t)data.size);
    return buf_append_bytes(out, data);
}

static enum err write_frame(struct rpc_web *web, uint8_t flags, struct bytes data)
{
    struct buf frame;
    enum err err = make_frame(&frame, flags, data);
    if (err == ERR_OK) {
        begin(web);
        err = http_write(web->request, buf_bytes(&frame));
    }
    buf_deinit(&frame);
    return err;
}

enum err rpc_web_send(void *data, struct bytes message)
{
    struct rpc_web *web = data;
    return web->protocol == CONNECT_UNARY ? ERR_UNIMPLEMENTED : write_frame(web, 0, message);
}

static bool web_room(void *data)
{
    return http_room(((struct rpc_web *)data)->request);
}

bool rpc_web_gone(void *data)
{
    return http_gone(((struct rpc_web *)data)->request);
}

bool rpc_web_json(const struct rpc_web *web)
{
    return web->json;
}

static void end_connect_unary(struct rpc_web *web, enum err err, const char *note,
                              struct bytes reply)
{
    if (err == ERR_OK) {
        http_reply(web->request, 200, web->content_type, reply);
        return;
    }
    struct buf text;
    buf_init(&text, 8UL * NOTE_SIZE);
    struct json_writer writer;
    json_writer_init(&writer, &text, false);
    write_connect_error(&writer, err, note);
    http_reply(web->request, connect_codes[err_grpc_status(err)].http, "application/json",
               buf_bytes(&text));
    buf_deinit(&text);
}

static void end_framed(struct rpc_web *web, enum err err, const char *note)
{
    char status[16];
    char encoded[3 * NOTE_SIZE];
    (void)snprintf(status, sizeof status, "%d", err_grpc_status(err));
    rpc_percent_encode(note, encoded, sizeof encoded);
    struct http_field trailers[] = {{"grpc-status", status}, {"grpc-message", encoded}};
    struct http_fields fields = {.items = trailers, .count = err == ERR_OK ? 1 : 2};
    begin(web);
    if (web->protocol == GRPC) {
        http_finish(web->request, fields);
        return;
    }
    struct buf text;
    buf_init(&text, 8UL * NOTE_SIZE);
    if (web->protocol == GRPC_WEB) {
        for (size_t i = 0; i < fields.count; i++) {
            buf_printf(&text, "%s: %s\r\n", fields.items[i].name, fields.items[i].value);
        }
    } else {
        struct json_writer writer;
        json_writer_init(&writer, &text, false);
        json_begin_object(&writer);
        if (err != ERR_OK) {
            json_write_key(&writer, "error");
            write_connect_error(&writer, err, note);
        }
        json_end_object(&writer);
    }
    struct buf last;
    err = make_frame(&last, web->protocol == GRPC_WEB ? FLAG_WEB_TRAILERS : FLAG_CONNECT_END,
                     buf_bytes(&text));
    if (err == ERR_OK) {
        http_finish_with(web->request, buf_bytes(&last), (struct http_fields){0});
    } else {
        http_abort(web->request); /* which no client takes for a whole answer */
    }
    buf_deinit(&last);
    buf_deinit(&text);
}

void rpc_web_end(void *data, enum err err, const char *note, struct bytes reply)
{
    struct rpc_web *web = data;
    if (web->protocol == CONNECT_UNARY) {
        end_connect_unary(web, err, note, reply);
    } else {
        if (err == ERR_OK) { /* an empty reply is a frame too */
            enum err sent = write_frame(web, 0, reply);
            err = sent == ERR_UNAVAILABLE ? err : sent;
        }
        end_framed(web, err, note);
    }
    free(web);
}

static const struct rpc_transport web_transport = {
    .send = rpc_web_send, .room = web_room, .gone = rpc_web_gone, .end = rpc_web_end};

/* A stream's end: without a message of its own. */
void rpc_web_end_stream(struct rpc_web *web, enum err err, const char *note)
{
    end_framed(web, err, note);
    free(web);
}

static void web_stream_end(void *data, enum err err, const char *note, struct bytes reply)
{
    (void)reply;
    rpc_web_end_stream(data, err, note);
}

static const struct rpc_transport web_stream_transport = {
    .send = rpc_web_send, .room = web_room, .gone = rpc_web_gone, .end = web_stream_end};

static bool is_identity(const struct http_request *request, const char *header)
{
    const char *value = http_header(request, header);
    return value == NULL || strcmp(value, "identity") == 0;
}

static enum err read_timeout(const struct http_request *request, uint32_t *out_ms,
                             struct note *note)
{
    const char *grpc = http_header(request, "grpc-timeout");
    const char *connect = http_header(request, "connect-timeout-ms");
    if (grpc != NULL) {
        enum err err = rpc_parse_grpc_timeout(grpc, out_ms);
        return err == ERR_OK ? err : note_set(note, err, "bad grpc-timeout '%.40s'", grpc);
    }
    if (connect != NULL) {
        size_t digits = strspn(connect, "0123456789");
        if (digits == 0 || digits > 10 || connect[digits] != '\0') {
            return note_set(note, ERR_INVALID, "bad connect-timeout-ms '%.40s'", connect);
        }
        uint64_t ms = strtoull(connect, NULL, 10);
        *out_ms = ms > RPC_DEADLINE_MAX_MS ? RPC_DEADLINE_MAX_MS : ms == 0 ? 1 : (uint32_t)ms;
    }
    return ERR_OK;
}

/* Takes the one request message out of the body. */
static enum err read_message(const struct rpc_web *web, struct bytes *out_message,
                             struct note *note)
{
    struct bytes body = http_body(web->request);
    if (!is_identity(web->request, web->protocol == CONNECT_UNARY    ? "content-encoding"
                                   : web->protocol == CONNECT_STREAM ? "connect-content-encoding"
                                                                     : "grpc-encoding")) {
        return note_set(note, ERR_UNIMPLEMENTED, "compressed messages are not supported");
    }
    if (web->protocol == CONNECT_UNARY) {
        *out_message = body;
        return ERR_OK;
    }
    uint8_t flags = 0;
    enum err err = rpc_parse_frame(&body, &flags, out_message, note);
    if (err != ERR_OK) {
        return err;
    }
    if ((flags & FLAG_COMPRESSED) != 0) {
        return note_set(note, ERR_UNIMPLEMENTED, "compressed messages are not supported");
    }
    struct bytes last = {0};
    if (body.size > 0 && web->protocol == CONNECT_STREAM &&
        rpc_parse_frame(&body, &flags, &last, NULL) == ERR_OK && flags != FLAG_CONNECT_END) {
        return note_set(note, ERR_UNIMPLEMENTED, "client streams are not supported");
    }
    return body.size == 0
               ? ERR_OK
               : note_set(note, ERR_INVALID, "%zu bytes after the request message", body.size);
}

/* "/openledger.v1.Settlement/Submit" to "Settlement.Submit". */
static void method_name(const char *path, char out[RPC_NAME_MAX + 1])
{
    const char *name = path + strlen(PATH_PREFIX);
    out[0] = '\0';
    if (strlen(name) <= RPC_NAME_MAX && strchr(name, '.') == NULL) {
        memcpy(out, name, strlen(name) + 1);
        char *slash = strchr(out, '/');
        if (slash != NULL) {
            *slash = '.';
        }
    }
}

static struct rpc_web *recognise(struct http_request *request)
{
    const char *type = http_header(request, "content-type");
    type = type == NULL ? "" : type;
    size_t size = strcspn(type, "; ");
    for (size_t i = 0; i < sizeof protocols / sizeof protocols[0]; i++) {
        if (strlen(protocols[i].content_type) == size &&
            memcmp(protocols[i].content_type, type, size) == 0) {
            struct rpc_web *web = calloc(1, sizeof *web);
            if (web != NULL) {
                *web = (struct rpc_web){.request = request,
                                        .protocol = protocols[i].protocol,
                                        .json = protocols[i].json,
                                        .content_type = protocols[i].content_type};
            }
            return web;
        }
    }
    return NULL;
}

static void on_http(void *context, struct http_request *request)
{
    struct rpc_server *server = context;
    struct rpc_web *web = recognise(request);
    if (web == NULL) {
        http_reply_error(request, 415, "invalid_request_error",
                         "content-type is none of gRPC, gRPC-Web, Connect");
        return;
    }
    if (web->protocol == GRPC && http_version(request) != 2) {
        free(web);
        http_reply_error(request, 505, "invalid_request_error", "gRPC needs HTTP/2");
        return;
    }
    char name[RPC_NAME_MAX + 1];
    method_name(http_path(request), name);
    const struct rpc_spec *spec = rpc_find(name);
    struct note note = {0};
    const char *bearer = http_header(request, "authorization");
    struct rpc_incoming incoming = {.service_method = name, .json = web->json, .outside = true};
    if (bearer != NULL && strncmp(bearer, "Bearer ", 7) == 0 &&
        strlen(bearer + 7) <= RPC_TOKEN_MAX) {
        incoming.token = bearer + 7;
    }
    bool stream = spec != NULL && spec->kind == RPC_SERVER_STREAM;
    enum err err = read_timeout(request, &incoming.timeout_ms, &note);
    if (err == ERR_OK) {
        err = read_message(web, &incoming.data, &note);
    }
    if (err == ERR_OK && spec == NULL) {
        err = note_set(&note, ERR_UNIMPLEMENTED, "no such method: %.100s", http_path(request));
    }
    if (err == ERR_OK && (web->protocol == CONNECT_UNARY || web->protocol == CONNECT_STREAM) &&
        stream != (web->protocol == CONNECT_STREAM)) {
        err = note_set(&note, ERR_UNIMPLEMENTED, "%s is %s: use content-type application/%s", name,
                       stream ? "a stream" : "unary",
                       stream ? "connect+json or connect+proto" : "json or proto");
    }
    if (err == ERR_OK && rpc_bound_find(server, name) == NULL && server->forward.bus != NULL) {
        if (spec->who == RPC_SERVICES) {
            err = note_set(&note, ERR_DENIED, "%s is for services only", name);
        } else {
            rpc_web_forward(&server->forward, &incoming, spec, web);
            return;
        }
    }
    if (err != ERR_OK) {
        rpc_web_end(web, err, note.text, (struct bytes){0});
        return;
    }
    rpc_accept(server, &incoming, stream ? &web_stream_transport : &web_transport, web);
}

void rpc_serve_http(struct rpc_server *server, struct http_server *http, struct bus *forward)
{
    if (forward != NULL) {
        rpc_forward_init(&server->forward, server, forward);
    }
    http_route(http, "POST", PATH_PREFIX "*", on_http, server);
}
