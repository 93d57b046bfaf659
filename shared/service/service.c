/* service.c - one worker, and everything that brings it work; see service.h.
 *
 * Threads: the worker (service_run's caller), one per consumer or follower, and those of bus and
 * http. All of them reach the worker through one mailbox of jobs. A consumer's thread hands over one
 * message and waits for its verdict, so order is kept and nothing piles up.
 *
 * Stopping: intake closes (bus subscriptions, consumers, HTTP), accepted jobs run, then run returns. */
#include "shared/service/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/base/log.h"
#include "shared/platform/clock.h"
#include "shared/platform/signals.h"
#include "shared/service/internal.h"

struct job {
    void (*run)(void *argument);
    void *argument;
};

static const struct setting common[] = {
    {.name = "nats-url",
     .type = SETTING_TEXT,
     .fallback = "nats://127.0.0.1:4222",
     .doc = "where the bus is; several separated by commas"},
    {.name = "redis",
     .type = SETTING_TEXT,
     .fallback = "127.0.0.1:6379",
     .doc = "host:port of the cache; empty: go without"},
    {.name = "data-dir",
     .type = SETTING_TEXT,
     .fallback = "openledger-data",
     .doc = "folder of all services' data; each uses its own below"},
    {.name = "blob-dir",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "folder of content-addressed objects; empty: blobs in data-dir"},
    {.name = "blob-copies-mib",
     .type = SETTING_U64,
     .fallback = "131072", /* BLOB_COPIES_MAX */
     .min = 1,
     .max = 1U << 30,
     .doc = "whole-file copies of base models beside the objects: at most so many MiB"},
    {.name = "http",
     .type = SETTING_TEXT,
     .fallback = "127.0.0.1:0",
     .doc = "host:port of methods, health and metrics; port 0: any"},
    {.name = "key-file",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "the service's secret key; empty: one is made in its data folder"},
    {.name = "log-level",
     .type = SETTING_TEXT,
     .fallback = "info",
     .doc = "debug, info, warn or error"},
    {.name = "replicas",
     .type = SETTING_U64,
     .fallback = "1",
     .min = 1,
     .max = 5,
     .doc = "copies of each stream in a NATS cluster"},
};
#define COMMON_COUNT (sizeof common / sizeof common[0])

/* ---- opening ---- */

static enum err load_settings(struct service *service, int argc, char **argv, bool *out_help,
                              struct note *note)
{
    const struct service_config *config = service->config;
    size_t count = COMMON_COUNT + config->setting_count;
    service->table = calloc(count, sizeof service->table[0]);
    if (service->table == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(service->table, common, sizeof common);
    if (config->setting_count > 0) {
        memcpy(service->table + COMMON_COUNT, config->settings,
               config->setting_count * sizeof service->table[0]);
    }
    for (size_t i = 0; i < COMMON_COUNT; i++) {
        if (config->front_door && strcmp(common[i].name, "http") == 0) {
            service->table[i].fallback = "127.0.0.1:8080";
        }
    }
    service->spec = (struct settings_spec){.program = config->name,
                                           .usage = "[options]",
                                           .about = config->about,
                                           .table = service->table,
                                           .count = count};
    enum err err = settings_load(&service->spec, argc, argv, &service->settings, note);
    *out_help = err == ERR_OK && settings_help_wanted(service->settings);
    if (*out_help) {
        struct buf text;
        buf_init(&text, 65536);
        settings_help(&service->spec, &text);
        (void)fputs(buf_text(&text), stdout);
        buf_deinit(&text);
    }
    return err;
}

static enum err open_parts(struct service *service, struct note *note)
{
    const struct service_config *config = service->config;
    const struct settings *settings = service->settings;
    const char *data_dir = settings_text(settings, "data-dir");
    const char *blob_dir = settings_text(settings, "blob-dir");
    char blobs[FILE_PATH_SIZE];
    enum err err = file_path(service->data_dir, "%s/%s", data_dir, config->name);
    if (err == ERR_OK) {
        err = blob_dir[0] == '\0' ? file_path(blobs, "%s/blobs", data_dir)
                                  : file_path(blobs, "%s", blob_dir);
    }
    if (err != ERR_OK) {
        return note_set(note, err, "data-dir '%s' is too long", data_dir);
    }
    err = file_make_folders(service->data_dir, note);
    if (err == ERR_OK) {
        err = file_make_folders(blobs, note);
    }
    if (err == ERR_OK) {
        err = blob_open(blobs, &service->blobs, note);
    }
    if (err == ERR_OK) {
        blob_mend(service->blobs);
        blob_copies_limit(service->blobs, settings_u64(settings, "blob-copies-mib") << 20);
    }
    if (err == ERR_OK) {
        err = bus_open(
            &(struct bus_options){.url = settings_text(settings, "nats-url"), .name = config->name},
            &service->bus, note);
    }
    if (err == ERR_OK) {
        err = cache_open(
            &(struct cache_options){.address = settings_text(settings, "redis"), .prefix = "ol:"},
            &service->cache);
        if (err != ERR_OK) {
            (void)note_set(note, err, "redis '%s': want host:port",
                           settings_text(settings, "redis"));
        }
    }
    if (err == ERR_OK) {
        err = http_open(&(struct http_options){.address = settings_text(settings, "http"),
                                               .body_max = config->http_body_max},
                        &service->http, note);
    }
    return err;
}

static enum err post_job(void *context, void (*run)(void *argument), void *argument)
{
    return service_post(context, run, argument);
}

static enum err make_parts(struct service *service, struct note *note)
{
    service->start_ms = clock_mono_ms();
    service->metrics = metrics_create();
    service->jobs = mailbox_create(SERVICE_JOBS_MAX);
    if (service->metrics == NULL || service->jobs == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = open_parts(service, note);
    if (err != ERR_OK) {
        return err;
    }
    service->rpc = rpc_server_create((struct rpc_executor){.post = post_job, .context = service},
                                     service->metrics);
    service->client = rpc_client_bus(service->bus);
    if (service->rpc == NULL || service->client == NULL) {
        return ERR_NO_MEMORY;
    }
    service_health_add(service);
    (void)note_set(&service->reason, ERR_OK, "starting");
    return ERR_OK;
}

int service_open(const struct service_config *config, int argc, char **argv,
                 struct service **out_service)
{
    *out_service = NULL;
    signals_init();
    struct service *service = calloc(1, sizeof *service);
    if (service == NULL) {
        return 1;
    }
    service->config = config;
    pthread_mutex_init(&service->lock, NULL);
    struct note note = {0};
    bool help = false;
    enum log_level level = LOG_LEVEL_INFO;
    int code = 0;
    enum err err = load_settings(service, argc, argv, &help, &note);
    if (err == ERR_OK && !help) {
        err = log_level_parse(settings_text(service->settings, "log-level"), &level);
        if (err != ERR_OK) {
            (void)note_set(&note, err, "log-level '%s': want debug, info, warn or error",
                           settings_text(service->settings, "log-level"));
        }
    }
    if (err != ERR_OK) {
        code = 2;
    } else if (!help) {
        log_start(config->name, level, clock_real_ms);
        err = make_parts(service, &note);
        code = err == ERR_OK ? 0 : 1;
    }
    if (err != ERR_OK) {
        (void)fprintf(stderr, "%s: %s\n", config->name,
                      note.text[0] == '\0' ? err_meaning(err) : note.text);
    }
    if (err != ERR_OK || help) {
        service_close(service);
        return code;
    }
    *out_service = service;
    return 0;
}

void service_close(struct service *service)
{
    if (service == NULL) {
        return;
    }
    http_close(service->http, 0);
    rpc_client_destroy(service->client);
    rpc_server_destroy(service->rpc);
    bus_close(service->bus);
    cache_close(service->cache);
    blob_close(service->blobs);
    if (service->jobs != NULL) {
        mailbox_destroy(service->jobs, free);
    }
    for (size_t i = 0; i < service->feed_count; i++) {
        pthread_cond_destroy(&service->feeds[i].decided);
        pthread_mutex_destroy(&service->feeds[i].lock);
    }
    metrics_destroy(service->metrics);
    settings_destroy(service->settings);
    free(service->table);
    pthread_mutex_destroy(&service->lock);
    free(service);
}

/* ---- what it holds ---- */

const struct settings *service_settings(const struct service *service)
{
    return service->settings;
}

const char *service_data_dir(const struct service *service)
{
    return service->data_dir;
}

const char *service_key_file(const struct service *service)
{
    return settings_text(service->settings, "key-file");
}

uint32_t service_replicas(const struct service *service)
{
    return (uint32_t)settings_u64(service->settings, "replicas");
}

struct bus *service_bus(struct service *service)
{
    return service->bus;
}

struct cache *service_cache(struct service *service)
{
    return service->cache;
}

struct blob_store *service_blobs(struct service *service)
{
    return service->blobs;
}

struct metrics *service_metrics(struct service *service)
{
    return service->metrics;
}

struct http_server *service_http(struct service *service)
{
    return service->http;
}

struct rpc_client *service_client(struct service *service)
{
    return service->client;
}

uint16_t service_http_port(const struct service *service)
{
    return http_port(service->http);
}

void service_ready(struct service *service, bool ready, const char *reason)
{
    pthread_mutex_lock(&service->lock);
    service->ready = ready;
    (void)note_set(&service->reason, ERR_OK, "%s", reason == NULL ? "not ready" : reason);
    pthread_mutex_unlock(&service->lock);
}

bool service_is_ready(struct service *service, struct note *out_reason)
{
    pthread_mutex_lock(&service->lock);
    bool ready = service->ready;
    *out_reason = service->reason;
    pthread_mutex_unlock(&service->lock);
    if (ready && !bus_ready(service->bus)) {
        bus_reason(service->bus, out_reason);
        ready = false;
    }
    if (ready) {
        *out_reason = (struct note){0};
    }
    return ready;
}

/* ---- jobs ---- */

enum err service_post(struct service *service, void (*run)(void *argument), void *argument)
{
    struct job *job = malloc(sizeof *job);
    if (job == NULL) {
        return ERR_NO_MEMORY;
    }
    *job = (struct job){.run = run, .argument = argument};
    enum err err = mailbox_post(service->jobs, job);
    if (err != ERR_OK) {
        free(job);
    }
    return err;
}

void service_rpc(struct service *service, const struct rpc_service *rpc, void *context)
{
    rpc_serve(service->rpc, rpc, context);
}

void service_every(struct service *service, uint32_t period_ms, void (*job)(void *context),
                   void *context)
{
    CHECK(service->timer_count < SERVICE_TIMERS_MAX);
    CHECK(period_ms > 0);
    service->timers[service->timer_count++] =
        (struct timer){.job = job,
                       .context = context,
                       .period_ms = period_ms,
                       .next_ms = clock_mono_ms() + period_ms};
}

struct routed {
    const struct route *route;
    struct http_request *request;
};

static void run_route(void *argument)
{
    struct routed routed = *(struct routed *)argument;
    free(argument);
    routed.route->handler(routed.route->context, routed.request);
}

static void on_route(void *context, struct http_request *request)
{
    const struct route *route = context;
    struct routed *routed = malloc(sizeof *routed);
    if (routed != NULL) {
        *routed = (struct routed){.route = route, .request = request};
        if (service_post(route->service, run_route, routed) == ERR_OK) {
            return;
        }
        free(routed);
    }
    http_reply_error(request, 503, "overloaded", "the service is too busy, try again");
}

void service_route(struct service *service, const char *method, const char *path,
                   http_handler *handler, void *context)
{
    CHECK(service->route_count < SERVICE_ROUTES_MAX);
    struct route *route = &service->routes[service->route_count++];
    *route = (struct route){.service = service, .handler = handler, .context = context};
    http_route(service->http, method, path, on_route, route);
}

struct heard {
    const struct listener *listener;
    struct bus_message *message;
};

static void run_heard(void *argument)
{
    struct heard heard = *(struct heard *)argument;
    free(argument);
    struct note note = {0};
    if (heard.listener->handler(heard.listener->context, heard.message, &note) != SERVICE_HELD) {
        bus_message_destroy(heard.message);
    }
}

static void on_event(void *context, struct bus_message *message)
{
    const struct listener *listener = context;
    struct heard *heard = malloc(sizeof *heard);
    if (heard != NULL) {
        *heard = (struct heard){.listener = listener, .message = message};
        if (service_post(listener->service, run_heard, heard) == ERR_OK) {
            return;
        }
        free(heard);
    }
    bus_message_destroy(message); /* core NATS may lose it anywhere */
}

void service_subscribe(struct service *service, const char *subject, service_message *handler,
                       void *context)
{
    CHECK(!service->running);
    CHECK(service->listener_count < SERVICE_SUBSCRIPTIONS_MAX);
    service->listeners[service->listener_count++] = (struct listener){
        .service = service, .handler = handler, .context = context, .subject = subject};
}

/* ---- running ---- */

static enum err start(struct service *service, struct note *note)
{
    service->running = true;
    rpc_serve_http(service->rpc, service->http, service->config->front_door ? service->bus : NULL);
    enum err err = rpc_serve_bus(service->rpc, service->bus, note);
    for (size_t i = 0; i < service->listener_count && err == ERR_OK; i++) {
        struct listener *listener = &service->listeners[i];
        err = bus_subscribe(service->bus, listener->subject, NULL, on_event, listener,
                            &listener->subscription);
    }
    for (size_t i = 0; i < service->feed_count && err == ERR_OK; i++) {
        struct feed *feed = &service->feeds[i];
        err =
            thread_start("feed", feed->stream == NULL ? service_feed_consume : service_feed_follow,
                         feed, &feed->thread, note);
    }
    return err == ERR_OK ? http_start(service->http) : err;
}

/* Runs the timers that are due; returns the milliseconds until the next one. */
static uint64_t run_timers(struct service *service)
{
    uint64_t wait_ms = 100; /* how late a stop signal may be noticed */
    for (size_t i = 0; i < service->timer_count; i++) {
        struct timer *timer = &service->timers[i];
        uint64_t now_ms = clock_mono_ms();
        if (now_ms >= timer->next_ms) {
            timer->next_ms = now_ms + timer->period_ms;
            timer->job(timer->context);
        }
        now_ms = clock_mono_ms();
        uint64_t left_ms = timer->next_ms > now_ms ? timer->next_ms - now_ms : 0;
        wait_ms = left_ms < wait_ms ? left_ms : wait_ms;
    }
    return wait_ms;
}

static bool run_job(struct service *service, uint64_t wait_ms)
{
    void *item = NULL;
    if (mailbox_take(service->jobs, wait_ms, &item) != ERR_OK) {
        return false;
    }
    struct job job = *(struct job *)item;
    free(item);
    job.run(job.argument);
    return true;
}

/* The feeds wait for the worker's verdicts: so another thread joins them while the worker works on. */
static void join_feeds(void *argument)
{
    struct service *service = argument;
    for (size_t i = 0; i < service->feed_count; i++) {
        thread_join(service->feeds[i].thread);
        service->feeds[i].thread = NULL;
    }
    for (size_t i = 0; i < service->listener_count; i++) {
        bus_unsubscribe(service->listeners[i].subscription);
        service->listeners[i].subscription = NULL;
    }
    http_close(service->http, SERVICE_STOP_MS / 4);
    service->http = NULL;
    mailbox_close(service->jobs);
}

static void stop(struct service *service)
{
    atomic_store(&service->stopping, true);
    service_ready(service, false, "stopping");
    struct thread *joiner = NULL;
    if (thread_start("joiner", join_feeds, service, &joiner, NULL) != ERR_OK) {
        return; /* service_close does what it can */
    }
    void *item = NULL;
    enum err err;
    while ((err = mailbox_take(service->jobs, 100, &item)) != ERR_CANCELLED) {
        if (err == ERR_OK) {
            struct job job = *(struct job *)item;
            free(item);
            job.run(job.argument);
        }
    }
    thread_join(joiner);
}

int service_run(struct service *service)
{
    struct note note = {0};
    enum err err = start(service, &note);
    if (err != ERR_OK) {
        log_error("start_failed reason=\"%s\"", note.text);
        service_stop(service, 1);
    } else {
        log_info("started http_port=%u data_dir=%s", (unsigned)service_http_port(service),
                 service->data_dir);
    }
    while (!atomic_load(&service->stopping) && !signals_stop_requested()) {
        uint64_t wait_ms = run_timers(service);
        if (run_job(service, wait_ms)) {
            for (int i = 0; i < 64 && run_job(service, 0); i++) {
            }
        }
    }
    stop(service);
    log_info("stopped exit_code=%d", atomic_load(&service->exit_code));
    return atomic_load(&service->exit_code);
}

void service_stop(struct service *service, int exit_code)
{
    if (exit_code != 0) {
        atomic_store(&service->exit_code, exit_code);
    }
    atomic_store(&service->stopping, true);
}
