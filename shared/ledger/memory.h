/* memory.h - memory for the state's millions of small things. Internal to this room.
 *
 * Why: a payment to one of ten million accounts reads a dozen places that no cache holds, and with pages of
 * 4 KiB each of them costs a walk through page tables that no cache holds either. So leaves, branches and
 * slots come from large regions that the kernel may back with huge pages, each item on its own cache
 * lines, and all of it goes back at once. Only the first region, which is all that a small state needs, has
 * small pages. Without huge pages everything works the same, slower.
 *
 * Out of memory aborts (state.h). Freed memory is poisoned for AddressSanitizer. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct memory;

struct memory *memory_create(void);
/* NULL is fine. Everything that was handed out ends here. */
void memory_destroy(struct memory *memory);

/* Blocks are of a power of two of bytes, at least MEMORY_BLOCK_MIN, and aligned to their size or to a huge page,
 * whichever is less. Contents are undefined. Any thread. memory_give takes the size that was asked for. */
enum { MEMORY_BLOCK_MIN = 128 };
void *memory_take(struct memory *memory, size_t size);
void memory_give(struct memory *memory, void *block, size_t size);

/* Items of one size. A zeroed slab is empty. One thread at a time; several slabs may share a memory. */
struct slab {
    struct slab_item *free; /* given back: a list through the items themselves */
    uint8_t *next;          /* never handed out yet: [next, end) of the newest block */
    uint8_t *end;
    size_t block; /* bytes of the newest block */
};

/* size: the same for every call on one slab, at least a pointer's. Contents are undefined. */
void *slab_take(struct slab *slab, struct memory *memory, size_t size);
void slab_give(struct slab *slab, void *item, size_t size);
