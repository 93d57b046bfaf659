/* mailbox.h - a bounded queue of pointers from many threads to one owner.
 *
 * Why: a library's callback thread must not touch the owner's state. It posts a message and
 * returns; the owner takes messages in its own time, from a wait or from its event loop. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "shared/base/err.h"

struct mailbox;

/* capacity: messages, >= 1. NULL: out of memory or descriptors. */
MUST_USE struct mailbox *mailbox_create(uint32_t capacity);
/* Calls drop (may be NULL) on every message still inside. No other thread may use it any more. */
void mailbox_destroy(struct mailbox *mailbox, void (*drop)(void *message));

/* Any thread, never blocks. On ERR_OK ownership of message (not NULL) moves; on ERR_LIMIT (full) or
 * ERR_CANCELLED (closed) it stays with the caller. */
MUST_USE enum err mailbox_post(struct mailbox *mailbox, void *message);

/* As mailbox_post, but waits for room: back-pressure. ERR_TIMEOUT: still full. */
MUST_USE enum err mailbox_post_wait(struct mailbox *mailbox, void *message, uint64_t timeout_ms);

/* Takes the oldest message, waiting up to timeout_ms (0: not at all). ERR_TIMEOUT: none came.
 * ERR_CANCELLED: closed and empty. */
MUST_USE enum err mailbox_take(struct mailbox *mailbox, uint64_t timeout_ms, void **out_message);

/* Refuses further posts and wakes the waiters; what is inside can still be taken. Any thread. */
void mailbox_close(struct mailbox *mailbox);

/* An eventfd that is readable while messages (or the close) wait. Do not read it: take until
 * ERR_TIMEOUT and it stops being readable. */
int mailbox_fd(const struct mailbox *mailbox);
uint32_t mailbox_count(struct mailbox *mailbox); /* messages inside now, for metrics */
