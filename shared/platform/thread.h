/* thread.h - start and join a named thread. Locks are plain pthread mutexes where needed. */
#pragma once

#include "shared/base/err.h"
#include "shared/base/note.h"

struct thread;

/* Runs body(argument) in a new thread; all signals are blocked in it, so they reach main. name: at
 * most 15 characters, shown by ps. Every started thread must be joined. */
MUST_USE enum err thread_start(const char *name, void (*body)(void *argument), void *argument,
                               struct thread **out_thread, struct note *note);
void thread_join(struct thread *thread); /* waits and frees; NULL is fine */
