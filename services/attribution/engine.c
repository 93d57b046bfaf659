/* engine.c - the engine's thread; see engine.h. */
#include <stdlib.h>
#include <string.h>

#include "services/attribution/internal.h"
#include "shared/base/check.h"
#include "shared/base/log.h"
#include "shared/platform/clock.h"
#include "shared/platform/signals.h"
#include "shared/service/ask.h"

#define FETCH_WAIT_MS 100
#define AWAY_WAIT_MS 200      /* before asking a bus again that is not there */
#define INDEX_LOOK_MS 500     /* between two looks for a missing index */
#define OPENINGS_ACK_MS 60000 /* an answer waits behind an index that is being built */

static const char *const SHARES_SUBJECTS[] = {"ol.shares.>"};

bool engine_stopping(struct engine *engine)
{
    return atomic_load(&engine->stop) || signals_stop_requested();
}

bool engine_ask(struct engine *engine, void (*question)(void *argument), void *argument)
{
    return service_ask(engine->options.service, question, argument) == ERR_OK;
}

static void handle(struct engine *engine, struct bus_message *message)
{
    struct note note = {""};
    switch (engine_answer(engine, bus_message_data(message), &note)) {
    case ENGINE_DONE:
        bus_ack(message);
        break;
    case ENGINE_LATER:
        log_debug("answer_later note=\"%s\"", note.text);
        bus_nak(message, ENGINE_RETRY_MS);
        break;
    case ENGINE_PARKED:
        bus_term(message);
        break;
    }
}

/* Takes what answers there are. */
static void answers(struct engine *engine, struct bus_consumer *consumer)
{
    struct bus_message *messages[ENGINE_FETCH_MAX];
    size_t count = 0;
    enum err err = bus_fetch(consumer, ENGINE_FETCH_MAX, FETCH_WAIT_MS, messages, &count);
    if (err != ERR_OK && err != ERR_TIMEOUT) {
        clock_sleep_ms(AWAY_WAIT_MS);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (!engine_stopping(engine)) { /* else unacknowledged: it comes again */
            handle(engine, messages[i]);
        }
        bus_message_destroy(messages[i]);
    }
}

static void body(void *argument)
{
    struct engine *engine = argument;
    struct bus_consumer_config config = {
        .stream = "OL_OPENINGS", .durable = "attribution", .ack_wait_ms = OPENINGS_ACK_MS};
    struct bus_consumer *consumer = NULL;
    if (bus_consumer_open(service_bus(engine->options.service), &config, &consumer) != ERR_OK) {
        log_error("answers_unusable");
        service_stop(engine->options.service, 1);
        return;
    }
    while (!engine_stopping(engine)) {
        uint64_t now = clock_mono_ms();
        if (now >= engine->index_at_ms) {
            engine_indexes(engine);
            engine->index_at_ms = clock_mono_ms() + INDEX_LOOK_MS;
        }
        answers(engine, consumer);
        now = clock_mono_ms();
        if (now >= engine->batch_at_ms) {
            engine_outbox(engine);
            engine->batch_at_ms = clock_mono_ms() + ENGINE_BATCH_MS;
        }
    }
    bus_consumer_close(consumer);
    engine_judges_clear(engine);
}

enum err engine_create(const struct engine_options *options, struct engine **out, struct note *note)
{
    struct engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL) {
        return ERR_NO_MEMORY;
    }
    engine->options = *options;
    CHECK(pthread_mutex_init(&engine->lock, NULL) == 0);
    struct metrics *metrics = service_metrics(options->service);
    engine->answers_total = metrics_counter(metrics, "attribution_answers_total", "",
                                            "answers whose shares were computed");
    engine->parked_total = metrics_counter(metrics, "attribution_parked_total", "",
                                           "answers that can never be processed");
    engine->batches_total =
        metrics_counter(metrics, "attribution_batches_total", "", "share batches published");
    struct bus_stream stream = {.name = "OL_SHARES",
                                .subjects = SHARES_SUBJECTS,
                                .subject_count = 1,
                                .retention = BUS_KEEP,
                                .replicas = service_replicas(options->service)};
    enum err err = bus_stream_declare(service_bus(options->service), &stream);
    if (err == ERR_OK) {
        engine->pool = pool_create(options->threads);
        err = engine->pool == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    if (err == ERR_OK) {
        err = thread_start("attribution", body, engine, &engine->thread, note);
    }
    if (err != ERR_OK) {
        engine_destroy(engine);
        return err;
    }
    *out = engine;
    return ERR_OK;
}

void engine_destroy(struct engine *engine)
{
    if (engine == NULL) {
        return;
    }
    atomic_store(&engine->stop, true);
    thread_join(engine->thread);
    engine_judges_clear(engine);
    pool_destroy(engine->pool);
    (void)pthread_mutex_destroy(&engine->lock);
    free(engine);
}
