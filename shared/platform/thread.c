/* thread.c - see thread.h. */
#include "shared/platform/thread.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"

struct thread {
    pthread_t id;
    void (*body)(void *argument);
    void *argument;
};

static void *run(void *argument)
{
    struct thread *thread = argument;
    thread->body(thread->argument);
    return NULL;
}

enum err thread_start(const char *name, void (*body)(void *argument), void *argument,
                      struct thread **out_thread, struct note *note)
{
    CHECK(strlen(name) <= 15);
    struct thread *thread = malloc(sizeof *thread);
    if (thread == NULL) {
        return note_set(note, ERR_NO_MEMORY, "no memory for thread %s", name);
    }
    *thread = (struct thread){.body = body, .argument = argument};
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread->id, NULL, run, thread);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        free(thread);
        return note_set(note, ERR_LIMIT, "could not start thread %s: %s", name,
                        strerrordesc_np(rc));
    }
    (void)pthread_setname_np(thread->id, name);
    *out_thread = thread;
    return ERR_OK;
}

void thread_join(struct thread *thread)
{
    if (thread != NULL) {
        int rc = pthread_join(thread->id, NULL);
        CHECK(rc == 0);
        free(thread);
    }
}
