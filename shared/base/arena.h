/* arena.h - memory that lives exactly as long as one request.
 *
 * Why: a request makes hundreds of small objects that all die together. A bump allocator makes
 * them cheap, its ceiling makes a hostile request fail with ERR_LIMIT rather than take the machine's
 * memory, and one reset frees everything: nothing can leak, nothing is freed twice.
 *
 * One thread at a time. Nothing is ever freed singly. */
#pragma once

#include <stdarg.h>
#include <stddef.h>

#include "shared/base/err.h"

struct arena;

/* Makes an arena that hands out at most limit bytes between two resets. NULL: out of memory. */
MUST_USE struct arena *arena_create(size_t limit);
void arena_destroy(struct arena *arena); /* NULL is fine */

/* Takes back everything that was handed out; keeps one block for the next request. */
void arena_reset(struct arena *arena);

/* Returns size zeroed bytes aligned for any type, valid until reset or destroy. NULL past the limit
 * or when memory is gone: the caller returns ERR_LIMIT. size 0 gives a valid pointer. */
MUST_USE void *arena_alloc(struct arena *arena, size_t size);

/* As arena_alloc for count items of size bytes each; an overflowing product gives NULL. */
MUST_USE void *arena_alloc_array(struct arena *arena, size_t count, size_t size);

/* Copies; NULL as above. arena_dup copies size bytes and adds a NUL, so text may be cut out. */
MUST_USE void *arena_dup(struct arena *arena, const void *data, size_t size);
MUST_USE char *arena_strdup(struct arena *arena, const char *text);
MUST_USE char *arena_printf(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Bytes handed out since the last reset, with padding. */
size_t arena_used(const struct arena *arena);
