/* service.h - what every service's main does the same way: settings, wiring, the worker, signals.
 *
 * A service is one process with one *worker*: the thread that calls service_run(). The worker is the
 * only owner of the service's state. Everything comes to it as a job: RPC calls, HTTP requests,
 * stream messages, timers, and what other threads post. So handlers need no locks; a handler that
 * would block for long hands the work to a thread of its own and posts the result back.
 *
 *     int main(int argc, char **argv)
 *     {
 *         struct service *service;
 *         int code = service_open(&CONFIG, argc, argv, &service);
 *         if (service == NULL) {
 *             return code;
 *         }
 *         struct registry *registry = registry_create(service_data_dir(service), ...);
 *         service_rpc(service, &registry_rpc, registry);
 *         service_follow(service, "OL_LEDGER", NULL, next, on_entry, registry);
 *         service_every(service, 1000, on_tick, registry);
 *         service_ready(service, true, NULL);
 *         code = service_run(service);
 *         registry_destroy(registry);
 *         service_close(service);
 *         return code;
 *     }
 *
 * Settings every service has (its own table adds more): nats-url, redis, data-dir, blob-dir, http (own
 * methods, /healthz, /readyz, /metrics), key-file, log-level, replicas. Environment OPENLEDGER_<NAME>.
 *
 * NATS or Redis away: the process keeps running, says so on /readyz, and goes on when they are back.
 *
 * Threads: functions marked [any] may be called from any thread; the others from the worker, or from
 * main before service_run(). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/err.h"
#include "shared/base/metrics.h"
#include "shared/base/note.h"
#include "shared/blob/blob.h"
#include "shared/bus/bus.h"
#include "shared/cache/cache.h"
#include "shared/http/http.h"
#include "shared/platform/settings.h"
#include "shared/rpc/rpc.h"

#define SERVICE_JOBS_MAX 8192 /* jobs waiting for the worker; then callers get ERR_LIMIT */
#define SERVICE_TIMERS_MAX 32
#define SERVICE_CONSUMERS_MAX 16 /* service_consume and service_follow together */
#define SERVICE_STOP_MS 5000     /* from SIGTERM to exit, at most */

struct service;

struct service_config {
    const char *name;               /* "registry": program openledger-registry in logs */
    const char *about;              /* for --help */
    const struct setting *settings; /* the service's own, after the common ones */
    size_t setting_count;
    bool front_door;        /* http defaults to 127.0.0.1:8080 and other services' methods are
                               forwarded to NATS; otherwise http defaults to a free port */
    uint32_t http_body_max; /* 0: http's default */
};

/* Reads settings, opens log, data and blob folders, bus, cache, HTTP port. *out_service is NULL when
 * the program should end now with the returned exit code: --help (0), a bad setting (2), a folder or
 * address that cannot be used (1); the reason is on standard error. */
int service_open(const struct service_config *config, int argc, char **argv,
                 struct service **out_service);

/* Starts the transports and works until SIGTERM, SIGINT or service_stop(). Returns the exit code. */
int service_run(struct service *service);
/* [any] Ends service_run() with this exit code: 0, or 1 after an error that a restart may cure. */
void service_stop(struct service *service, int exit_code);
/* Accepts NULL. Free your own state after service_run() and before this. */
void service_close(struct service *service);

/* ---- what it holds: valid until service_close() ---- */

const struct settings *service_settings(const struct service *service); /* [any] */
const char *service_data_dir(const struct service *service); /* private folder: <data-dir>/<name> */
const char *service_key_file(const struct service *service); /* "" when not given */
uint32_t service_replicas(const struct service *service);    /* for bus streams */
struct bus *service_bus(struct service *service);            /* [any] */
struct cache *service_cache(struct service *service);        /* the worker's own */
struct blob_store *service_blobs(struct service *service);   /* [any] */
struct metrics *service_metrics(struct service *service);    /* [any] */
struct http_server *service_http(struct service *service);   /* for static routes, before run */
struct rpc_client *service_client(struct service *service);  /* [any] other services, over NATS */
uint16_t service_http_port(const struct service *service);

/* ---- what the worker does ---- */

/* Serves an RPC service over NATS and on the HTTP port; handlers run on the worker. Before
 * service_run(), as all that follow unless they are marked [any]. */
void service_rpc(struct service *service, const struct rpc_service *rpc, void *context);

/* As http_route(), but the handler runs on the worker. */
void service_route(struct service *service, const char *method, const char *path,
                   http_handler *handler, void *context);

/* Runs job on the worker every period_ms (first after one period; late ones are not made up for). */
void service_every(struct service *service, uint32_t period_ms, void (*job)(void *context),
                   void *context);

/* [any] Runs job on the worker soon, after what was posted before. ERR_LIMIT: SERVICE_JOBS_MAX wait;
 * ERR_CANCELLED: the service has stopped. Then job will not run and argument stays yours. Jobs
 * accepted always run, also while stopping. */
MUST_USE enum err service_post(struct service *service, void (*job)(void *argument),
                               void *argument);

enum service_verdict {
    SERVICE_DONE,  /* acknowledge: never again */
    SERVICE_RETRY, /* again in retry_ms: a peer is away, an earlier message is missing */
    SERVICE_PARK,  /* can never be processed: terminated, counted, logged; note the reason first */
    SERVICE_HELD   /* the handler keeps the message: it acks and destroys it later, on any thread */
};

/* Runs on the worker, one message at a time, in the order they came. message is destroyed
 * afterwards unless SERVICE_HELD. note: the reason of RETRY and PARK, for the log. */
typedef enum service_verdict service_message(void *context, struct bus_message *message,
                                             struct note *note);

struct service_consumer {
    struct bus_consumer_config bus;
    uint32_t batch;    /* messages fetched ahead; 0: 64. 1 for long jobs */
    uint32_t retry_ms; /* 0: 1000 */
    /* Fetch at all, now? NULL: always. Called with the handler's context on the feed's own thread. For
     * replicas of which only one consumes. */
    bool (*wanted)(void *context);
};

/* Fetches from a durable consumer on a thread of its own for as long as the service runs, through
 * outages. Declare the stream first (bus_stream_declare). Strings must outlive the service. */
void service_consume(struct service *service, const struct service_consumer *consumer,
                     service_message *handler, void *context);

/* Follows a stream from sequence first (1-based) on, in order, without acknowledging: the ledger.
 * Each message is handled once per process; SERVICE_RETRY calls again with the same one after a
 * second, SERVICE_PARK stops the service with exit code 1 (a replica that cannot apply an entry must
 * not go on). */
void service_follow(struct service *service, const char *stream, const char *filter, uint64_t first,
                    service_message *handler, void *context);

/* Core NATS events (may be lost); the verdict is ignored but for SERVICE_HELD. */
void service_subscribe(struct service *service, const char *subject, service_message *handler,
                       void *context);

/* [any] The service's own part of readiness; reason (copied) says why not. False until first set. */
void service_ready(struct service *service, bool ready, const char *reason);
