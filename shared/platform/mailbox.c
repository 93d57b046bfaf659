/* mailbox.c - see mailbox.h. A ring under one mutex; the eventfd holds 1 while there is something. */
#include "shared/platform/mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "shared/base/check.h"
#include "shared/platform/clock.h"

struct mailbox {
    pthread_mutex_t lock;
    pthread_cond_t not_empty;
    pthread_cond_t not_full;
    int fd;
    bool fd_set; /* the eventfd is readable */
    bool closed;
    uint32_t capacity;
    uint32_t first;
    uint32_t count;
    void *items[];
};

struct mailbox *mailbox_create(uint32_t capacity)
{
    CHECK(capacity >= 1);
    struct mailbox *mailbox = calloc(1, sizeof *mailbox + capacity * sizeof mailbox->items[0]);
    if (mailbox == NULL) {
        return NULL;
    }
    mailbox->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (mailbox->fd < 0) {
        free(mailbox);
        return NULL;
    }
    mailbox->capacity = capacity;
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&mailbox->not_empty, &attributes);
    (void)pthread_cond_init(&mailbox->not_full, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    (void)pthread_mutex_init(&mailbox->lock, NULL);
    return mailbox;
}

void mailbox_destroy(struct mailbox *mailbox, void (*drop)(void *message))
{
    if (mailbox == NULL) {
        return;
    }
    for (uint32_t i = 0; i < mailbox->count && drop != NULL; i++) {
        drop(mailbox->items[(mailbox->first + i) % mailbox->capacity]);
    }
    (void)close(mailbox->fd);
    (void)pthread_cond_destroy(&mailbox->not_empty);
    (void)pthread_cond_destroy(&mailbox->not_full);
    (void)pthread_mutex_destroy(&mailbox->lock);
    free(mailbox);
}

/* Makes the descriptor say whether there is something to take. Under the lock. */
static void show(struct mailbox *mailbox)
{
    bool want = mailbox->count > 0 || mailbox->closed;
    if (want == mailbox->fd_set) {
        return;
    }
    uint64_t value = 1;
    ssize_t rc =
        want ? write(mailbox->fd, &value, sizeof value) : read(mailbox->fd, &value, sizeof value);
    CHECK(rc == (ssize_t)sizeof value);
    mailbox->fd_set = want;
}

/* Waits on cond until end_ms (monotonic). False when the time is over. */
static bool wait_until(struct mailbox *mailbox, pthread_cond_t *cond, uint64_t end_ms)
{
    struct timespec end = {.tv_sec = (time_t)(end_ms / 1000),
                           .tv_nsec = (long)(end_ms % 1000) * 1000000};
    return pthread_cond_timedwait(cond, &mailbox->lock, &end) != ETIMEDOUT;
}

/* The moment timeout_ms from now; far away stays far away. */
static uint64_t end_of(uint64_t timeout_ms)
{
    uint64_t far_ms = UINT64_C(1000) * 60 * 60 * 24 * 365;
    return clock_mono_ms() + (timeout_ms < far_ms ? timeout_ms : far_ms);
}

enum err mailbox_post_wait(struct mailbox *mailbox, void *message, uint64_t timeout_ms)
{
    CHECK(message != NULL);
    uint64_t end_ms = timeout_ms > 0 ? end_of(timeout_ms) : 0;
    enum err err = ERR_OK;
    (void)pthread_mutex_lock(&mailbox->lock);
    while (!mailbox->closed && mailbox->count == mailbox->capacity && err == ERR_OK) {
        if (timeout_ms == 0 || !wait_until(mailbox, &mailbox->not_full, end_ms)) {
            err = ERR_TIMEOUT;
        }
    }
    if (mailbox->closed) {
        err = ERR_CANCELLED;
    } else if (mailbox->count < mailbox->capacity) {
        uint32_t last = (mailbox->first + mailbox->count) % mailbox->capacity;
        mailbox->items[last] = message;
        mailbox->count++;
        show(mailbox);
        (void)pthread_cond_signal(&mailbox->not_empty);
        err = ERR_OK;
    }
    (void)pthread_mutex_unlock(&mailbox->lock);
    return err;
}

enum err mailbox_post(struct mailbox *mailbox, void *message)
{
    enum err err = mailbox_post_wait(mailbox, message, 0);
    return err == ERR_TIMEOUT ? ERR_LIMIT : err;
}

enum err mailbox_take(struct mailbox *mailbox, uint64_t timeout_ms, void **out_message)
{
    uint64_t end_ms = timeout_ms > 0 ? end_of(timeout_ms) : 0;
    bool in_time = timeout_ms > 0;
    enum err err = ERR_OK;
    (void)pthread_mutex_lock(&mailbox->lock);
    while (mailbox->count == 0 && !mailbox->closed && in_time) {
        in_time = wait_until(mailbox, &mailbox->not_empty, end_ms);
    }
    if (mailbox->count > 0) {
        *out_message = mailbox->items[mailbox->first];
        mailbox->first = (mailbox->first + 1) % mailbox->capacity;
        mailbox->count--;
        show(mailbox);
        (void)pthread_cond_signal(&mailbox->not_full);
    } else {
        err = mailbox->closed ? ERR_CANCELLED : ERR_TIMEOUT;
    }
    (void)pthread_mutex_unlock(&mailbox->lock);
    return err;
}

void mailbox_close(struct mailbox *mailbox)
{
    (void)pthread_mutex_lock(&mailbox->lock);
    mailbox->closed = true;
    show(mailbox);
    (void)pthread_cond_broadcast(&mailbox->not_empty);
    (void)pthread_cond_broadcast(&mailbox->not_full);
    (void)pthread_mutex_unlock(&mailbox->lock);
}

int mailbox_fd(const struct mailbox *mailbox)
{
    return mailbox->fd;
}

uint32_t mailbox_count(struct mailbox *mailbox)
{
    (void)pthread_mutex_lock(&mailbox->lock);
    uint32_t count = mailbox->count;
    (void)pthread_mutex_unlock(&mailbox->lock);
    return count;
}
