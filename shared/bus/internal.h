/* internal.h - what the files of the bus room share; for no one else. */
#pragma once

#include <nats/nats.h>
#include <pthread.h>

#include "shared/bus/bus.h"
#include "shared/platform/thread.h"

#define BUS_CALL_MS 5000  /* a JetStream API call */
#define BUS_RETRY_MS 1000 /* between attempts to make a stream */
#define BUS_SWEEP_MS 20   /* how late an asynchronous request may time out */

/* A request waiting for its answer. id is 0 when the slot is free. */
struct bus_pending {
    uint64_t id;
    uint64_t deadline_ms;
    bus_answer *answer;
    void *context;
};

struct bus {
    natsConnection *connection;
    jsCtx *stream_context;
    struct thread *keeper; /* ensures streams, times requests out */
    natsSubscription *inbox_subscription;
    char inbox[BUS_INBOX_SIZE]; /* asynchronous answers come to <inbox>.<id> */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    bool stopping;
    bool closed;         /* the client's last callback was made */
    uint64_t generation; /* counts connects: what was made on an older one is made again */
    struct bus_stream streams[BUS_STREAM_MAX];
    uint64_t ensured[BUS_STREAM_MAX]; /* generation in which it was seen to exist */
    size_t stream_count;
    struct note reason;          /* why the last stream could not be made */
    struct bus_pending *pending; /* [BUS_REQUEST_MAX] */
    size_t pending_count;
    uint64_t next_id;
};

struct bus_message {
    natsMsg *msg;
    uint64_t sequence, consumer_sequence, deliveries, pending;
};

enum err bus_err(natsStatus status);
/* Takes msg. meta: it came from a stream. NULL (msg destroyed): out of memory. */
struct bus_message *bus_message_wrap(natsMsg *msg, bool meta);
bool bus_connected(const struct bus *bus);
uint64_t bus_generation(struct bus *bus);
/* Builds a message with headers and checks the limits. */
MUST_USE enum err bus_build(const char *subject, const char *reply, struct bus_headers headers,
                            struct bytes data, natsMsg **out_msg);
void bus_sweep(
    struct bus *bus); /* answers requests whose time is over; all of them when stopping */
void bus_on_answer(natsConnection *connection, natsSubscription *subscription, natsMsg *msg,
                   void *context);
void bus_until(struct timespec *out, uint64_t mono_ms); /* for pthread_cond_timedwait */
