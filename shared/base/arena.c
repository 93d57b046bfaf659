/* arena.c - see arena.h. A list of blocks, newest first; each new block is twice the last. */
#include "shared/base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"

enum { BLOCK_FIRST = 4096, BLOCK_LARGEST = 1 << 20, ALIGN = alignof(max_align_t) };

struct block {
    struct block *next;
    size_t size; /* bytes in data[] */
    size_t used;
    alignas(max_align_t) uint8_t data[];
};

struct arena {
    struct block *blocks; /* the first one is being filled */
    size_t limit;
    size_t used;
    size_t next_size;
};

struct arena *arena_create(size_t limit)
{
    struct arena *arena = calloc(1, sizeof *arena);
    if (arena != NULL) {
        arena->limit = limit;
        arena->next_size = BLOCK_FIRST;
    }
    return arena;
}

static void blocks_free(struct block *block)
{
    while (block != NULL) {
        struct block *next = block->next;
        free(block);
        block = next;
    }
}

void arena_destroy(struct arena *arena)
{
    if (arena != NULL) {
        blocks_free(arena->blocks);
        free(arena);
    }
}

void arena_reset(struct arena *arena)
{
    struct block *keep = arena->blocks;
    if (keep != NULL) {
        blocks_free(keep->next);
        keep->next = NULL;
        if (keep->size > BLOCK_LARGEST) { /* a giant request should not hold memory for ever */
            free(keep);
            arena->blocks = NULL;
        } else {
            keep->used = 0;
        }
    }
    arena->used = 0;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    CHECK(arena != NULL);
    if (size > arena->limit) {
        return NULL;
    }
    size = size == 0 ? ALIGN : (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (size == 0 || size > arena->limit - arena->used) {
        return NULL;
    }
    struct block *block = arena->blocks;
    if (block == NULL || size > block->size - block->used) {
        size_t block_size = size > arena->next_size ? size : arena->next_size;
        block = malloc(sizeof *block + block_size);
        if (block == NULL) {
            return NULL;
        }
        *block = (struct block){.next = arena->blocks, .size = block_size};
        arena->blocks = block;
        arena->next_size =
            arena->next_size < BLOCK_LARGEST ? arena->next_size * 2 : arena->next_size;
    }
    void *out = block->data + block->used;
    block->used += size;
    arena->used += size;
    return memset(out, 0, size);
}

void *arena_alloc_array(struct arena *arena, size_t count, size_t size)
{
    size_t total;
    return __builtin_mul_overflow(count, size, &total) ? NULL : arena_alloc(arena, total);
}

void *arena_dup(struct arena *arena, const void *data, size_t size)
{
    CHECK(data != NULL || size == 0);
    uint8_t *out = size == SIZE_MAX ? NULL : arena_alloc(arena, size + 1);
    if (out != NULL && size > 0) {
        memcpy(out, data, size);
    }
    return out;
}

char *arena_strdup(struct arena *arena, const char *text)
{
    return arena_dup(arena, text, strlen(text));
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *out = size < 0 ? NULL : arena_alloc(arena, (size_t)size + 1);
    if (out != NULL) {
        va_start(args, format);
        (void)vsnprintf(out, (size_t)size + 1, format, args);
        va_end(args);
    }
    return out;
}

size_t arena_used(const struct arena *arena)
{
    return arena->used;
}
