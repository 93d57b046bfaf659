/* rpc_worker.h - the one thread that runs a test's RPC handlers, as a service's worker does. */
#pragma once

#include <stdlib.h>

#include "shared/base/err.h"
#include "shared/platform/mailbox.h"
#include "shared/platform/thread.h"

struct job {
    void (*run)(void *argument);
    void *argument;
};

static struct mailbox *jobs;
static struct thread *worker;

static enum err post(void *context, void (*run)(void *argument), void *argument)
{
    (void)context;
    struct job *job = malloc(sizeof *job);
    *job = (struct job){.run = run, .argument = argument};
    enum err err = mailbox_post(jobs, job);
    if (err != ERR_OK) {
        free(job);
    }
    return err;
}

static void work(void *argument)
{
    (void)argument;
    void *item;
    enum err err;
    while ((err = mailbox_take(jobs, 1000, &item)) != ERR_CANCELLED) {
        if (err == ERR_OK) {
            struct job job = *(struct job *)item;
            free(item);
            job.run(job.argument);
        }
    }
}
