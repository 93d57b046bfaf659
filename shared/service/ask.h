/* ask.h - lets another thread ask the worker something and wait for the answer.
 *
 * A job thread works for minutes on copies; now and then it needs the ledger, which only the worker may
 * touch. Never call it from the worker itself: it would wait for itself. */
#pragma once

#include "shared/base/err.h"

struct service;

/* Runs question(argument) on the worker and returns when it has returned. ERR_CANCELLED: the service
 * has stopped, it was not run. Waits while the worker's queue is full. */
MUST_USE enum err service_ask(struct service *service, void (*question)(void *argument),
                              void *argument);
