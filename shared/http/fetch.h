/* fetch.h - an HTTP client for programs that may wait: the command line, tests, the RPC client.
 *
 * Behind it is libcurl. One request blocks its thread until it ends; the body comes at once or, for
 * server-sent events and streams, piece by piece as it arrives. Any thread; a struct fetch keeps its
 * connection open between requests and belongs to one thread at a time. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/err.h"
#include "shared/base/note.h"

#define FETCH_HEADERS_MAX 16

struct fetch;

/* NULL: out of memory. */
MUST_USE struct fetch *fetch_create(void);
void fetch_destroy(struct fetch *fetch); /* NULL is fine */

struct fetch_request {
    const char *method; /* NULL: GET without a body, POST with one */
    const char *url;
    const char *const *headers; /* "Name: value", NULL-ended, at most FETCH_HEADERS_MAX; or NULL */
    struct bytes body;
    uint32_t timeout_ms; /* of the whole request; 0: none */
    /* Called with each piece of the body; false ends the request with ERR_CANCELLED. NULL: the body
     * is appended to the buffer given to fetch_run. */
    bool (*on_data)(void *context, struct bytes data);
    void *context;
};

/* Runs it. *out_status is the HTTP status: an answer like 404 is ERR_OK here. body may be NULL when
 * on_data is set; its limit is the ceiling (ERR_LIMIT). ERR_UNAVAILABLE: cannot be reached or broke
 * off; ERR_TIMEOUT. The note names url and cause. */
MUST_USE enum err fetch_run(struct fetch *fetch, const struct fetch_request *request,
                            int *out_status, struct buf *body, struct note *note);
