/* fetch.c - see fetch.h. */
#include "shared/http/fetch.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>

#include "shared/base/check.h"

struct fetch {
    CURL *curl;
};

/* One request while it runs. */
struct running {
    const struct fetch_request *request;
    struct buf *body;
    enum err err;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void start_library(void)
{
    CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

struct fetch *fetch_create(void)
{
    (void)pthread_once(&once, start_library);
    struct fetch *fetch = calloc(1, sizeof *fetch);
    if (fetch != NULL) {
        fetch->curl = curl_easy_init();
    }
    if (fetch != NULL && fetch->curl == NULL) {
        free(fetch);
        return NULL;
    }
    return fetch;
}

void fetch_destroy(struct fetch *fetch)
{
    if (fetch != NULL) {
        curl_easy_cleanup(fetch->curl);
        free(fetch);
    }
}

/* NOLINTNEXTLINE(readability-non-const-parameter): CURLOPT_WRITEFUNCTION */
static size_t on_body(char *data, size_t size, size_t count, void *context)
{
    struct running *running = context;
    struct bytes piece = {(const uint8_t *)data, size * count};
    if (running->request->on_data != NULL) {
        if (!running->request->on_data(running->request->context, piece)) {
            running->err = ERR_CANCELLED;
        }
    } else {
        running->err = buf_append_bytes(running->body, piece);
    }
    return running->err == ERR_OK ? piece.size : 0;
}

static enum err map_error(CURLcode code)
{
    return code == CURLE_OPERATION_TIMEDOUT                                    ? ERR_TIMEOUT
           : code == CURLE_OUT_OF_MEMORY                                       ? ERR_NO_MEMORY
           : code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL ? ERR_INVALID
                                                                               : ERR_UNAVAILABLE;
}

static struct curl_slist *make_headers(const char *const *headers)
{
    struct curl_slist *list = curl_slist_append(NULL, "Expect:"); /* no waiting for a 100 */
    for (size_t i = 0; headers != NULL && headers[i] != NULL; i++) {
        CHECK(i < FETCH_HEADERS_MAX);
        struct curl_slist *longer = curl_slist_append(list, headers[i]);
        CHECK(longer != NULL);
        list = longer;
    }
    return list;
}

enum err fetch_run(struct fetch *fetch, const struct fetch_request *request, int *out_status,
                   struct buf *body, struct note *note)
{
    CHECK(body != NULL || request->on_data != NULL);
    CURL *curl = fetch->curl;
    struct running running = {.request = request, .body = body, .err = ERR_OK};
    struct curl_slist *headers = make_headers(request->headers);
    bool has_body = request->body.data != NULL;
    curl_easy_reset(curl); /* keeps the connection */
    (void)curl_easy_setopt(curl, CURLOPT_URL, request->url);
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, &running);
    if (has_body) {
        (void)curl_easy_setopt(curl, CURLOPT_POST, 1L);
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.size);
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, (const char *)request->body.data);
    }
    if (request->method != NULL) {
        (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    }
    CURLcode code = curl_easy_perform(curl);
    long status = 0;
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    if (running.err != ERR_OK) {
        return note_set(note, running.err, "%s: the answer was not taken to its end", request->url);
    }
    if (code != CURLE_OK) {
        return note_set(note, map_error(code), "%s: %s", request->url, curl_easy_strerror(code));
    }
    *out_status = (int)status;
    return ERR_OK;
}
