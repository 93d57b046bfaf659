/* stops.h - stop sequences in text that grows: where to end, and what must not be shown yet.
 *
 * A stop sequence may arrive in pieces over several tokens, so text that could be the beginning of
 * one is held back until it is clear. Pure. */
#pragma once

#include <stddef.h>

#include "shared/base/bytes.h"

#define STOPS_NONE ((size_t)-1)

/* Where the earliest stop sequence that ends after `from` begins in text, or STOPS_NONE. */
size_t stops_find(struct bytes text, size_t from, const char *const *stops, size_t count);

/* How many bytes at the end of text could begin a stop sequence. */
size_t stops_hold(struct bytes text, const char *const *stops, size_t count);
