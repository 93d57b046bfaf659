/* feed.c - stream messages on their way to the worker: durable consumers and followers.
 *
 * Each feed is a thread that fetches, hands one message at a time to the worker and waits for the
 * verdict, so that order is kept and nothing piles up. */
#include <stdio.h>
#include <stdlib.h>

#include "shared/base/check.h"
#include "shared/base/log.h"
#include "shared/platform/clock.h"
#include "shared/service/internal.h"

#define FETCH_MS 1000 /* how long a consumer waits for messages at a time */
#define AWAY_MS 200   /* and between attempts while the bus is away */

static void run_feed(void *argument)
{
    struct feed *feed = argument;
    struct note note = {0};
    enum service_verdict verdict = feed->handler(feed->context, feed->message, &note);
    pthread_mutex_lock(&feed->lock);
    feed->verdict = verdict;
    feed->note = note;
    feed->pending = false;
    pthread_cond_signal(&feed->decided);
    pthread_mutex_unlock(&feed->lock);
}

/* Has the worker handle message. False: it did not, the service is stopping or overloaded. */
static bool hand_over(struct feed *feed, struct bus_message *message)
{
    struct service *service = feed->service;
    feed->message = message;
    feed->pending = true;
    while (service_post(service, run_feed, feed) != ERR_OK) {
        if (atomic_load(&service->stopping)) {
            return false;
        }
        clock_sleep_ms(AWAY_MS);
    }
    pthread_mutex_lock(&feed->lock);
    while (feed->pending) {
        pthread_cond_wait(&feed->decided, &feed->lock);
    }
    pthread_mutex_unlock(&feed->lock);
    metric_add(feed->verdict == SERVICE_RETRY  ? feed->retried
               : feed->verdict == SERVICE_PARK ? feed->parked
                                               : feed->handled,
               1);
    return true;
}

static void pause_feed(const struct feed *feed, uint32_t duration_ms)
{
    uint64_t end_ms = clock_mono_ms() + duration_ms;
    while (!atomic_load(&feed->service->stopping) && clock_mono_ms() < end_ms) {
        clock_sleep_ms(20);
    }
}

static void log_verdict(const struct feed *feed, const char *event, const char *name,
                        const struct bus_message *message)
{
    log_write(feed->verdict == SERVICE_PARK ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO,
              "%s feed=%s sequence=%llu deliveries=%llu reason=\"%s\"", event, name,
              (unsigned long long)bus_message_sequence(message),
              (unsigned long long)bus_message_deliveries(message), feed->note.text);
}

static void handle_consumed(struct feed *feed, struct bus_message *message)
{
    const char *name = feed->consumer.bus.durable;
    if (!hand_over(feed, message)) {
        bus_nak(message, 0);
        bus_message_destroy(message);
        return;
    }
    switch (feed->verdict) {
    case SERVICE_DONE:
        bus_ack(message);
        break;
    case SERVICE_RETRY:
        log_verdict(feed, "message_retried", name, message);
        bus_nak(message, feed->consumer.retry_ms == 0 ? 1000 : feed->consumer.retry_ms);
        break;
    case SERVICE_PARK:
        log_verdict(feed, "message_parked", name, message);
        bus_term(message);
        break;
    case SERVICE_HELD:
        return; /* the handler has it */
    }
    bus_message_destroy(message);
}

void service_feed_consume(void *argument)
{
    struct feed *feed = argument;
    struct service *service = feed->service;
    struct bus_consumer *consumer = NULL;
    uint32_t batch = feed->consumer.batch == 0 ? 64 : feed->consumer.batch;
    batch = batch > BUS_FETCH_MAX ? BUS_FETCH_MAX : batch;
    struct bus_message **messages = calloc(batch, sizeof *messages);
    CHECK(messages != NULL);
    CHECK(bus_consumer_open(service->bus, &feed->consumer.bus, &consumer) == ERR_OK);
    while (!atomic_load(&service->stopping)) {
        size_t count = 0;
        if (feed->consumer.wanted != NULL && !feed->consumer.wanted(feed->context)) {
            pause_feed(feed, AWAY_MS);
            continue;
        }
        enum err err = bus_fetch(consumer, batch, FETCH_MS, messages, &count);
        for (size_t i = 0; i < count; i++) {
            handle_consumed(feed, messages[i]);
        }
        if (err != ERR_OK && err != ERR_TIMEOUT) {
            pause_feed(feed, AWAY_MS);
        }
    }
    bus_consumer_close(consumer);
    free(messages);
}

void service_feed_follow(void *argument)
{
    struct feed *feed = argument;
    struct service *service = feed->service;
    struct bus_replay *replay = NULL;
    CHECK(bus_replay_open(service->bus, feed->stream, feed->filter, feed->first, &replay) ==
          ERR_OK);
    while (!atomic_load(&service->stopping)) {
        struct bus_message *message = NULL;
        enum err err = bus_replay_next(replay, FETCH_MS, &message);
        if (err != ERR_OK) {
            pause_feed(feed, err == ERR_TIMEOUT ? 0 : AWAY_MS);
            continue;
        }
        bool handled = hand_over(feed, message);
        while (handled && feed->verdict == SERVICE_RETRY && !atomic_load(&service->stopping)) {
            log_verdict(feed, "entry_retried", feed->stream, message);
            pause_feed(feed, 1000);
            handled = hand_over(feed, message);
        }
        bool parked = handled && feed->verdict == SERVICE_PARK;
        if (parked) {
            log_verdict(feed, "entry_refused", feed->stream, message);
            service_stop(service, 1);
        }
        if (!handled || feed->verdict != SERVICE_HELD) {
            bus_message_destroy(message);
        }
        if (parked) {
            break;
        }
    }
    bus_replay_close(replay);
}

static struct feed *add_feed(struct service *service, const char *name, service_message *handler,
                             void *context)
{
    CHECK(!service->running);
    CHECK(service->feed_count < SERVICE_CONSUMERS_MAX);
    struct feed *feed = &service->feeds[service->feed_count++];
    feed->service = service;
    feed->handler = handler;
    feed->context = context;
    pthread_mutex_init(&feed->lock, NULL);
    pthread_cond_init(&feed->decided, NULL);
    char label[128];
    (void)snprintf(label, sizeof label, "feed=\"%s\"", name);
    feed->handled =
        metrics_counter(service->metrics, "feed_handled_total", label, "stream messages handled");
    feed->retried =
        metrics_counter(service->metrics, "feed_retried_total", label, "stream messages put off");
    feed->parked = metrics_counter(service->metrics, "feed_parked_total", label,
                                   "stream messages that cannot be processed");
    return feed;
}

void service_consume(struct service *service, const struct service_consumer *consumer,
                     service_message *handler, void *context)
{
    add_feed(service, consumer->bus.durable, handler, context)->consumer = *consumer;
}

void service_follow(struct service *service, const char *stream, const char *filter, uint64_t first,
                    service_message *handler, void *context)
{
    struct feed *feed = add_feed(service, stream, handler, context);
    feed->stream = stream;
    feed->filter = filter;
    feed->first = first;
}
