/* signals.h - SIGTERM and SIGINT become a flag and a readable descriptor; SIGPIPE is ignored.
 *
 * No code of ours runs inside a signal handler but "set the flag, wake the waiter". Process-wide:
 * call signals_init once, first in main, before any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

void signals_init(void);

bool signals_stop_requested(void);
void signals_request_stop(void); /* as if SIGTERM had come; any thread */

/* Becomes readable for good once a stop is requested: add it to an event loop, never read it. */
int signals_fd(void);

/* Waits until a stop is requested (true) or the time is over (false). */
bool signals_wait(uint64_t timeout_ms);
