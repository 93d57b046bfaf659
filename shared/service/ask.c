/* ask.c - see ask.h. */
#include "shared/service/ask.h"

#include <pthread.h>
#include <stdbool.h>

#include "shared/base/check.h"
#include "shared/platform/clock.h"
#include "shared/service/service.h"

#define FULL_WAIT_MS 20 /* before trying again when the worker's queue is full */

struct ask {
    void (*question)(void *argument);
    void *argument;
    pthread_mutex_t lock;
    pthread_cond_t answered;
    bool done;
};

static void on_worker(void *argument)
{
    struct ask *ask = argument;
    ask->question(ask->argument);
    CHECK(pthread_mutex_lock(&ask->lock) == 0);
    ask->done = true;
    CHECK(pthread_cond_signal(&ask->answered) == 0); /* inside: the asker's stack holds the lock */
    CHECK(pthread_mutex_unlock(&ask->lock) == 0);
}

enum err service_ask(struct service *service, void (*question)(void *argument), void *argument)
{
    struct ask ask = {.question = question, .argument = argument};
    CHECK(pthread_mutex_init(&ask.lock, NULL) == 0);
    CHECK(pthread_cond_init(&ask.answered, NULL) == 0);
    enum err err = service_post(service, on_worker, &ask);
    while (err == ERR_LIMIT) {
        clock_sleep_ms(FULL_WAIT_MS);
        err = service_post(service, on_worker, &ask);
    }
    if (err == ERR_OK) {
        CHECK(pthread_mutex_lock(&ask.lock) == 0);
        while (!ask.done) {
            CHECK(pthread_cond_wait(&ask.answered, &ask.lock) == 0);
        }
        CHECK(pthread_mutex_unlock(&ask.lock) == 0);
    }
    (void)pthread_cond_destroy(&ask.answered);
    (void)pthread_mutex_destroy(&ask.lock);
    return err;
}
