/* log_files.c - the ledger's public log through the front door: /checkpoint, /tile/..., /batch/....
 *
 * Settlement has the files; they pass over NATS in pieces of at most 256 KiB, asynchronously: no thread waits.
 * Runs on the HTTP loop and on the RPC client's threads, one at a time per request. */
#include <stdlib.h>
#include <string.h>

#include "openledger/v1/services.pb-c.h"
#include "services/lora-gateway/desk.h"
#include "shared/tlog/tile.h"

enum { PATH_MAX_SIZE = 128, FILE_BYTES_MAX = TLOG_BUNDLE_MAX };

struct log_get {
    struct rpc_client *client;
    struct http_request *http; /* owned until it is answered */
    char path[PATH_MAX_SIZE];
    struct buf body;
};

static void end_error(struct log_get *get, enum err err, const char *text)
{
    http_reply_error(get->http, err_http_status(err),
                     err == ERR_NOT_FOUND ? "not_found" : "unavailable", text);
    buf_deinit(&get->body);
    free(get);
}

static void end_file(struct log_get *get, const Openledger__V1__LogFile *file)
{
    const struct http_field fields[] = {
        {"content-type", file->content_type},
        {"cache-control",
         file->immutable ? "public, max-age=31536000, immutable" : "public, max-age=1"},
        {"access-control-allow-origin", "*"}};
    http_reply_fields(get->http, 200, (struct http_fields){.items = fields, .count = 3},
                      buf_bytes(&get->body));
    buf_deinit(&get->body);
    free(get);
}

static void get_more(struct log_get *get);

static void on_piece(void *context, enum err err, struct bytes reply, const struct note *note)
{
    struct log_get *get = context;
    if (err != ERR_OK) {
        /* what is no path of the log is simply not there for HTTP */
        end_error(get, err == ERR_INVALID ? ERR_NOT_FOUND : err, note->text);
        return;
    }
    Openledger__V1__LogFile *file = openledger__v1__log_file__unpack(NULL, reply.size, reply.data);
    if (file == NULL || buf_append(&get->body, file->data.data, file->data.len) != ERR_OK ||
        (file->data.len == 0 && get->body.size < file->size)) {
        end_error(get, ERR_IO, "the ledger's answer is malformed");
    } else if (get->body.size < file->size) {
        get_more(get);
    } else {
        end_file(get, file);
    }
    if (file != NULL) {
        openledger__v1__log_file__free_unpacked(file, NULL);
    }
}

static void get_more(struct log_get *get)
{
    Openledger__V1__GetLogFileRequest request = OPENLEDGER__V1__GET_LOG_FILE_REQUEST__INIT;
    request.path = get->path;
    request.offset = get->body.size;
    enum err err =
        rpc_call_async(get->client, "Settlement.GetLogFile", &request.base, 0, on_piece, get);
    if (err != ERR_OK) {
        end_error(get, err, "the ledger cannot be asked now");
    }
}

static void on_get(void *context, struct http_request *http)
{
    const char *path = http_path(http) + 1;
    struct log_get *get = calloc(1, sizeof *get);
    if (get == NULL || strlen(path) >= sizeof get->path) {
        free(get);
        http_reply_error(http, 404, "not_found", "not a path of the log");
        return;
    }
    get->client = service_client(context);
    get->http = http;
    memcpy(get->path, path, strlen(path) + 1);
    buf_init(&get->body, FILE_BYTES_MAX);
    get_more(get);
}

void log_files_serve(struct service *service)
{
    struct http_server *http = service_http(service);
    http_route(http, "GET", "/checkpoint", on_get, service);
    http_route(http, "GET", "/tile/*", on_get, service);
    http_route(http, "GET", "/batch/*", on_get, service);
}
