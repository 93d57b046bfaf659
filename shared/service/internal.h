/* internal.h - what the files of the service room share; for no one else. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "shared/platform/file.h"
#include "shared/platform/mailbox.h"
#include "shared/platform/thread.h"
#include "shared/service/service.h"

#define SERVICE_ROUTES_MAX 32
#define SERVICE_SUBSCRIPTIONS_MAX 16

struct timer {
    void (*job)(void *context);
    void *context;
    uint64_t period_ms, next_ms;
};

struct route {
    struct service *service;
    http_handler *handler;
    void *context;
};

struct listener {
    struct service *service;
    service_message *handler;
    void *context;
    const char *subject;
    struct bus_subscription *subscription;
};

/* A consumer or a follower: a thread that fetches, and the hand-over of one message at a time. */
struct feed {
    struct service *service;
    service_message *handler;
    void *context;
    struct service_consumer consumer; /* of a consumer */
    const char *stream, *filter;      /* of a follower */
    uint64_t first;
    struct thread *thread;
    struct metric *handled, *retried, *parked;
    /* the hand-over */
    pthread_mutex_t lock;
    pthread_cond_t decided;
    struct bus_message *message;
    enum service_verdict verdict;
    struct note note;
    bool pending;
};

struct service {
    const struct service_config *config;
    struct setting *table;
    struct settings_spec spec; /* settings keeps a pointer to it */
    struct settings *settings;
    char data_dir[FILE_PATH_SIZE];
    struct bus *bus;
    struct cache *cache;
    struct blob_store *blobs;
    struct metrics *metrics;
    struct http_server *http;
    struct rpc_server *rpc;
    struct rpc_client *client;
    struct mailbox *jobs;
    struct timer timers[SERVICE_TIMERS_MAX];
    size_t timer_count;
    struct route routes[SERVICE_ROUTES_MAX];
    size_t route_count;
    struct listener listeners[SERVICE_SUBSCRIPTIONS_MAX];
    size_t listener_count;
    struct feed feeds[SERVICE_CONSUMERS_MAX];
    size_t feed_count;
    uint64_t start_ms;
    atomic_bool stopping;
    atomic_int exit_code;
    bool running;
    pthread_mutex_t lock; /* guards the readiness below */
    bool ready;
    struct note reason;
};

/* A feed's thread: fetches and hands over until the service stops. */
void service_feed_consume(void *argument);
void service_feed_follow(void *argument);

/* health.c: adds /healthz, /readyz, /metrics and the RPC service. */
void service_health_add(struct service *service);
/* Is the service fit to serve? If not, *out_reason says why. Any thread. */
bool service_is_ready(struct service *service, struct note *out_reason);
