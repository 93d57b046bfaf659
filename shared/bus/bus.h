/* bus.h - the one door to NATS: events, request-reply, streams, work queues, replay.
 *
 * Why a door: services speak of subjects, messages and enum err, and never see the NATS client; its
 * callbacks, threads and reconnects stay in this room.
 *
 * Life without a server: bus_open() succeeds with NATS away and connects for ever in the background
 * (once a second). While away, everything that needs the server returns ERR_UNAVAILABLE at once.
 * After a reconnect subscriptions are there again, declared streams are ensured again (a server that
 * lost its disk gets them anew) and consumers are re-created by the next fetch. When a stream lost its
 * end, a durable consumer that was past it begins again at the first message that is left.
 *
 * What an acknowledgement is worth: nats-server 2.9 acknowledges before it syncs to disk. Commit what
 * must not be lost yourself first; give each message an id, so that publishing it again is harmless.
 *
 * Threads: every function may be called from any thread unless it says otherwise. Callbacks run on
 * threads of the bus and must only copy and enqueue (shared/service does that for a service). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"
#include "shared/base/note.h"

#define BUS_MESSAGE_MAX                                                                            \
    (576u << 10)             /* bytes of data: a 512 KiB entry and what wraps it; the \
                                         server's own limit is 1 MiB */
#define BUS_SUBJECT_MAX 200  /* characters */
#define BUS_HEADER_MAX 8     /* headers a publisher may add to a message */
#define BUS_FETCH_MAX 1024   /* messages in one fetch */
#define BUS_STREAM_MAX 16    /* streams one process declares */
#define BUS_REQUEST_MAX 4096 /* asynchronous requests in flight per process */

struct bus;
struct bus_message;      /* received; opaque; owned by whoever holds the pointer */
struct bus_subscription; /* core NATS interest */
struct bus_consumer;     /* durable position in a stream */
struct bus_replay;       /* ordered reader of a stream */

struct bus_header {
    const char *name;  /* [A-Za-z0-9-], NUL-terminated */
    const char *value; /* printable ASCII without line breaks, NUL-terminated */
};

struct bus_headers {
    const struct bus_header *items;
    size_t count; /* 0..BUS_HEADER_MAX */
};

struct bus_options {
    const char *url;  /* "nats://host:port", several separated by commas; user:password allowed */
    const char *name; /* shown by the server's monitoring: the service's name */
};

/* Opens the bus; returns ERR_OK also when no server answers yet. ERR_INVALID: the URL is malformed.
 * Stop using all subscriptions, consumers and replays before bus_close(), which accepts NULL. */
MUST_USE enum err bus_open(const struct bus_options *options, struct bus **out_bus,
                           struct note *note);
void bus_close(struct bus *bus);

/* True while a server is connected and every declared stream exists there. */
bool bus_ready(const struct bus *bus);
/* Waits up to timeout_ms for bus_ready(). Returns whether it is. */
bool bus_wait_ready(struct bus *bus, uint32_t timeout_ms);
/* Why bus_ready() is false: "not connected", or the stream that cannot be made. "" when ready. */
void bus_reason(const struct bus *bus, struct note *out_reason);

/* ---- received messages ---- */

/* All borrowed until bus_message_destroy(). */
const char *bus_message_subject(const struct bus_message *message);
const char *bus_message_reply(const struct bus_message *message); /* NULL when none is wanted */
struct bytes bus_message_data(const struct bus_message *message);
/* The header's first value, or NULL. */
const char *bus_message_header(const struct bus_message *message, const char *name);
/* Of a stream message: 1-based place in the stream, and how often it was delivered to this consumer
 * (1 = first time). 0 for a core message. */
uint64_t bus_message_sequence(const struct bus_message *message);
uint64_t bus_message_deliveries(const struct bus_message *message);
/* How many messages of the stream were still behind this one when it was sent to us. */
uint64_t bus_message_pending(const struct bus_message *message);
/* True when this is no answer but the server saying that nobody serves the subject that a message with
 * a reply subject was published to. */
bool bus_message_unserved(const struct bus_message *message);
/* Accepts NULL. */
void bus_message_destroy(struct bus_message *message);

/* ---- core NATS: at most once ---- */

/* Sends data to whoever listens now. ERR_LIMIT: more than BUS_MESSAGE_MAX; ERR_UNAVAILABLE: not
 * connected, nothing was sent. headers may be {0}; reply may be NULL. */
MUST_USE enum err bus_publish(struct bus *bus, const char *subject, const char *reply,
                              struct bus_headers headers, struct bytes data);

/* Called on a bus thread with a message it then owns. It must only enqueue: return quickly, never
 * block, never call back into the bus. */
typedef void bus_deliver(void *context, struct bus_message *message);

/* Listens on subject ('*' one token, '>' the rest). With queue != NULL each message goes to one
 * member of that group. Survives reconnects; works while not connected (it starts then). */
MUST_USE enum err bus_subscribe(struct bus *bus, const char *subject, const char *queue,
                                bus_deliver *deliver, void *context,
                                struct bus_subscription **out_subscription);
/* After it returns deliver is not running and will not be called again. Not from deliver itself.
 * Accepts NULL. */
void bus_unsubscribe(struct bus_subscription *own);

/* Writes a fresh subject that only this process listens for into out_subject. */
#define BUS_INBOX_SIZE 96
void bus_inbox(struct bus *bus, char out_subject[static BUS_INBOX_SIZE]);

/* Sends a request and waits for one reply, blocking the calling thread. On ERR_OK the caller owns
 * *out_reply. ERR_TIMEOUT: no answer within timeout_ms; ERR_UNAVAILABLE: not connected, or nobody
 * serves the subject. */
MUST_USE enum err bus_request(struct bus *bus, const char *subject, struct bus_headers headers,
                              struct bytes data, uint32_t timeout_ms,
                              struct bus_message **out_reply);

/* Called exactly once, on a bus thread: with the reply (owned by the callee) and ERR_OK, or with NULL
 * and the error of bus_request(). Same rules as bus_deliver. */
typedef void bus_answer(void *context, enum err err, struct bus_message *reply);

/* As bus_request, without waiting. When it returns an error, answer is not called. ERR_LIMIT:
 * BUS_REQUEST_MAX requests are in flight. */
MUST_USE enum err bus_request_async(struct bus *bus, const char *subject,
                                    struct bus_headers headers, struct bytes data,
                                    uint32_t timeout_ms, bus_answer *answer, void *context);

/* ---- streams ---- */

enum bus_retention {
    BUS_KEEP,      /* keep within the limits below: events, the ledger */
    BUS_WORK_QUEUE /* keep until acknowledged, each message to one worker: jobs */
};

struct bus_stream {
    const char *name;            /* [A-Z0-9_-] */
    const char *const *subjects; /* what it captures */
    size_t subject_count;
    enum bus_retention retention;
    uint64_t age_max_s;        /* 0: keeps for ever */
    uint64_t bytes_max;        /* 0: no limit */
    uint32_t dedupe_window_ms; /* how long a message id is remembered; 0: two minutes */
    uint32_t replicas;         /* 0 counts as 1 */
    bool append_only;          /* deny delete and purge: the ledger */
};

/* Says that stream must exist, now and after every reconnect; the strings must outlive the bus. The
 * bus creates or updates it in the background and tries again every second while the server refuses:
 * until then bus_ready() is false and bus_reason() says why. ERR_LIMIT past BUS_STREAM_MAX. */
MUST_USE enum err bus_stream_declare(struct bus *bus, const struct bus_stream *stream);

#define BUS_ANY UINT64_MAX

/* What a publisher to a stream may demand. {0} demands nothing: see bus_stream_defaults. */
struct bus_publish_options {
    const char *id;                   /* dedupe: the same id within the window is stored once */
    bool expect_last;                 /* the two fields below are conditions */
    uint64_t expect_sequence;         /* the stream's last sequence, BUS_ANY: do not care */
    uint64_t expect_subject_sequence; /* this subject's last sequence (0: none yet), BUS_ANY */
    struct bus_headers headers;       /* may be {0} */
    uint32_t timeout_ms;              /* 0: five seconds */
};

struct bus_receipt {
    uint64_t sequence; /* where the message is in the stream */
    bool duplicate;    /* it was there already, by its id */
};

/* Publishes to the stream that captures subject and waits for its acknowledgement. ERR_CONFLICT: an
 * expectation does not hold; ERR_UNAVAILABLE: not connected, or no stream captures subject (yet);
 * ERR_TIMEOUT: unknown outcome, publish again with the same id. options and out_receipt may be NULL. */
MUST_USE enum err bus_stream_publish(struct bus *bus, const char *subject, struct bytes data,
                                     const struct bus_publish_options *options,
                                     struct bus_receipt *out_receipt, struct note *note);

/* ---- durable consumers: at least once ---- */

struct bus_consumer_config {
    const char *stream;
    const char *durable;      /* name of the position; processes that share it share the work */
    const char *filter;       /* only this subject (wildcards allowed); NULL: all */
    uint32_t ack_wait_ms;     /* unacknowledged so long, it is delivered again; 0: 30 s */
    uint32_t ack_pending_max; /* delivered and not yet acknowledged; 0: 1,000 */
};

/* Prepares a consumer; strings are copied; the server is first asked by bus_fetch. A message is
 * redelivered without end until acknowledged or terminated. Close accepts NULL; the position stays. */
MUST_USE enum err bus_consumer_open(struct bus *bus, const struct bus_consumer_config *config,
                                    struct bus_consumer **out_consumer);
void bus_consumer_close(struct bus_consumer *consumer);

/* Waits up to timeout_ms for at least one message, and takes at most max (1..BUS_FETCH_MAX) that are
 * there. *out_count is 0 on ERR_TIMEOUT (nothing to do). ERR_UNAVAILABLE: not connected or no such
 * stream yet: wait and call again. One thread at a time per consumer. */
MUST_USE enum err bus_fetch(struct bus_consumer *consumer, size_t max, uint32_t timeout_ms,
                            struct bus_message **out_messages, size_t *out_count);

/* What became of a fetched message; the message stays yours to destroy. A lost acknowledgement means
 * one more delivery, so errors are not reported. */
void bus_ack(struct bus_message *message);                    /* done, never again */
void bus_nak(struct bus_message *message, uint32_t delay_ms); /* again, after delay_ms */
void bus_term(struct bus_message *message);                   /* never again, though not done */
void bus_progress(struct bus_message *message);               /* still working: restart ack_wait */

/* ---- replay: every message of a stream in order ---- */

/* Reads the stream from sequence first (1-based) on, filter as above. Nothing is acknowledged or
 * consumed. Close accepts NULL. */
MUST_USE enum err bus_replay_open(struct bus *bus, const char *stream, const char *filter,
                                  uint64_t first, struct bus_replay **out_replay);
void bus_replay_close(struct bus_replay *replay);

/* The next message in stream order, each exactly once, resuming after reconnects by itself; the
 * caller owns it. ERR_TIMEOUT: nothing new within timeout_ms; ERR_UNAVAILABLE: server or stream away,
 * try again later. One thread at a time. */
MUST_USE enum err bus_replay_next(struct bus_replay *replay, uint32_t timeout_ms,
                                  struct bus_message **out_message);

/* The last sequence in the stream now, 0 when empty. For "replay until here". */
MUST_USE enum err bus_stream_last(struct bus *bus, const char *stream, uint64_t *out_sequence);
