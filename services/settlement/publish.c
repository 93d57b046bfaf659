/* publish.c - see publish.h. */
#include "services/settlement/publish.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/base/log.h"
#include "shared/journal/journal.h"
#include "shared/ledger/ledger.h"
#include "shared/platform/clock.h"
#include "shared/platform/file.h"
#include "shared/platform/thread.h"

enum { CHECK_MS = 2000, RETRY_MS = 500 }; /* how often the stream's end is looked at */

struct publisher {
    struct bus *bus;
    struct thread *thread;
    char log_folder[FILE_PATH_SIZE];

    pthread_mutex_t mutex; /* guards what follows, up to the blank line */
    pthread_cond_t changed;
    uint64_t durable;
    uint64_t published;
    bool stopping;

    struct journal *journal; /* the thread's own */
    struct buf entry;
};

/* Brings the read-only view of the journal up to entry index. */
static enum err journal_reach(struct publisher *publisher, uint64_t index, struct note *note)
{
    enum err err = ERR_OK;
    if (publisher->journal != NULL && journal_count(publisher->journal) < index) {
        err = journal_refresh(publisher->journal, note);
    }
    if (err != ERR_OK) {
        journal_close(publisher->journal);
        publisher->journal = NULL;
    }
    if (publisher->journal == NULL) {
        const struct journal_options options = {.folder = publisher->log_folder, .read_only = true};
        err = journal_open(&options, &publisher->journal, note);
    }
    if (err == ERR_OK && journal_count(publisher->journal) < index) {
        err = note_set(note, ERR_UNAVAILABLE, "entry %llu is not in the journal's files yet",
                       (unsigned long long)index);
    }
    return err;
}

static enum err publish_one(struct publisher *publisher, uint64_t index, struct note *note)
{
    struct digest hash;
    char id[2 * DIGEST_SIZE + 1];
    enum err err = journal_reach(publisher, index, note);
    if (err != ERR_OK) {
        return err;
    }
    buf_clear(&publisher->entry);
    err = journal_read(publisher->journal, index - 1, &publisher->entry, note);
    if (err != ERR_OK) {
        return err;
    }
    ledger_entry_hash(buf_bytes(&publisher->entry), &hash);
    const struct bus_publish_options options = {
        .id = hex_encode(hash.bytes, DIGEST_SIZE, id),
        .expect_last = true,
        .expect_sequence = index - 1,
        .expect_subject_sequence = BUS_ANY,
    };
    return bus_stream_publish(publisher->bus, PUBLISH_SUBJECT, buf_bytes(&publisher->entry),
                              &options, NULL, note);
}

static bool waited(struct publisher *publisher, uint32_t ms)
{
    uint64_t until_ms = clock_mono_ms() + ms;
    struct timespec until = {.tv_sec = (time_t)(until_ms / 1000),
                             .tv_nsec = (long)(until_ms % 1000) * 1000000};
    return pthread_cond_timedwait(&publisher->changed, &publisher->mutex, &until) != 0;
}

/* Publishes all there is; false when it should be tried again a little later. */
static bool publish_all(struct publisher *publisher, uint64_t durable)
{
    struct note note = {""};
    uint64_t last = 0;
    if (durable == 0) {
        return true; /* nothing yet, or another replica publishes */
    }
    enum err err = bus_stream_last(publisher->bus, PUBLISH_STREAM, &last);
    if (err == ERR_OK && last > durable) {
        log_error("stream_ahead stream=%llu journal=%llu", (unsigned long long)last,
                  (unsigned long long)durable);
        return true; /* another ledger's stream: nothing to do but say so now and then */
    }
    while (err == ERR_OK && last < durable) {
        err = publish_one(publisher, last + 1, &note);
        if (err == ERR_OK) {
            last++;
        }
        (void)pthread_mutex_lock(&publisher->mutex);
        publisher->published = last;
        bool stopping = publisher->stopping;
        (void)pthread_mutex_unlock(&publisher->mutex);
        if (stopping) {
            break;
        }
    }
    if (err == ERR_OK) {
        (void)pthread_mutex_lock(&publisher->mutex);
        publisher->published = last;
        (void)pthread_mutex_unlock(&publisher->mutex);
        return true;
    }
    if (err != ERR_CONFLICT && err != ERR_UNAVAILABLE && err != ERR_NOT_FOUND) {
        log_warn("publish_failed index=%llu err=%s note=\"%s\"", (unsigned long long)last + 1,
                 err_name(err), note.text);
    }
    return false;
}

static void publish_loop(void *argument)
{
    struct publisher *publisher = argument;
    (void)pthread_mutex_lock(&publisher->mutex);
    while (!publisher->stopping) {
        uint64_t durable = publisher->durable;
        (void)pthread_mutex_unlock(&publisher->mutex);
        bool done = publish_all(publisher, durable);
        (void)pthread_mutex_lock(&publisher->mutex);
        if (!publisher->stopping && (!done || publisher->durable == durable)) {
            (void)waited(publisher, done ? CHECK_MS : RETRY_MS);
        }
    }
    (void)pthread_mutex_unlock(&publisher->mutex);
}

enum err publisher_start(struct bus *bus, const char *log_folder, uint32_t replicas,
                         struct publisher **out_publisher, struct note *note)
{
    static const char *const SUBJECTS[] = {"ol.ledger.>"};
    const struct bus_stream stream = {.name = PUBLISH_STREAM,
                                      .subjects = SUBJECTS,
                                      .subject_count = 1,
                                      .retention = BUS_KEEP,
                                      .replicas = replicas,
                                      .append_only = true};
    struct publisher *publisher = calloc(1, sizeof *publisher);
    if (publisher == NULL) {
        return ERR_NO_MEMORY;
    }
    pthread_condattr_t monotonic;
    CHECK(pthread_condattr_init(&monotonic) == 0);
    CHECK(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_mutex_init(&publisher->mutex, NULL) == 0);
    CHECK(pthread_cond_init(&publisher->changed, &monotonic) == 0);
    (void)pthread_condattr_destroy(&monotonic);
    publisher->bus = bus;
    buf_init(&publisher->entry, LEDGER_ENTRY_MAX);
    enum err err = file_path(publisher->log_folder, "%s", log_folder);
    err = err ? err : bus_stream_declare(bus, &stream);
    err = err ? err : thread_start("publish", publish_loop, publisher, &publisher->thread, note);
    if (err != ERR_OK) {
        publisher_stop(publisher);
        return err;
    }
    *out_publisher = publisher;
    return ERR_OK;
}

void publisher_stop(struct publisher *publisher)
{
    if (publisher == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&publisher->mutex);
    publisher->stopping = true;
    (void)pthread_cond_broadcast(&publisher->changed);
    (void)pthread_mutex_unlock(&publisher->mutex);
    thread_join(publisher->thread);
    journal_close(publisher->journal);
    buf_deinit(&publisher->entry);
    (void)pthread_cond_destroy(&publisher->changed);
    (void)pthread_mutex_destroy(&publisher->mutex);
    free(publisher);
}

void publisher_wake(struct publisher *publisher, uint64_t durable)
{
    (void)pthread_mutex_lock(&publisher->mutex);
    if (publisher->durable != durable) {
        publisher->durable = durable;
        (void)pthread_cond_broadcast(&publisher->changed);
    }
    (void)pthread_mutex_unlock(&publisher->mutex);
}

uint64_t publisher_published(struct publisher *publisher)
{
    (void)pthread_mutex_lock(&publisher->mutex);
    uint64_t published = publisher->published;
    (void)pthread_mutex_unlock(&publisher->mutex);
    return published;
}
