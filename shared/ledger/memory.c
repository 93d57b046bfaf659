/* memory.c - see memory.h. Free blocks are kept by size and split when a smaller one is wanted; they are not
 * merged again, since what gives blocks back (a table that doubles) never wants the smaller ones later. */
#include "shared/ledger/memory.h"

#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "shared/base/check.h"

enum {
    ORDER_MIN = 7, /* of MEMORY_BLOCK_MIN */
    ORDER_END = 48,
    HUGE_ORDER = 21,       /* of a huge page: 2 MiB */
    REGION_ORDER_MAX = 26, /* 64 MiB: few mappings, however large the state */
    LINE = 64,             /* bytes of a cache line */
    SLAB_BLOCK_MIN = 1024, /* a slab's blocks double: small states have hundreds of slabs */
    SLAB_BLOCK_MAX = 65536
};
_Static_assert(MEMORY_BLOCK_MIN == 1 << ORDER_MIN, "the smallest block's order");

struct block {
    struct block *next;
};

struct region {
    struct region *next;
    void *start;
};

struct memory {
    pthread_mutex_t lock;
    struct region *regions;
    unsigned region_order;
    struct block *free[ORDER_END];
};

struct memory *memory_create(void)
{
    struct memory *memory = calloc(1, sizeof *memory);
    CHECK(memory != NULL);
    CHECK(pthread_mutex_init(&memory->lock, NULL) == 0);
    memory->region_order = HUGE_ORDER;
    return memory;
}

void memory_destroy(struct memory *memory)
{
    if (memory == NULL) {
        return;
    }
    for (struct region *region = memory->regions; region != NULL;) {
        struct region *next = region->next;
        free(region->start);
        free(region);
        region = next;
    }
    CHECK(pthread_mutex_destroy(&memory->lock) == 0);
    free(memory);
}

static unsigned order_of(size_t size)
{
    unsigned order = ORDER_MIN;
    while (order < ORDER_END && (size_t)1 << order < size) {
        order++;
    }
    CHECK(order < ORDER_END && (size_t)1 << order == size);
    return order;
}

static void block_push(struct memory *memory, void *start, unsigned order)
{
    struct block *block = start;
    block->next = memory->free[order];
    memory->free[order] = block;
    ASAN_POISON_MEMORY_REGION(start, (size_t)1 << order);
}

static struct block *block_pop(struct memory *memory, unsigned order)
{
    struct block *block = memory->free[order];
    if (block != NULL) {
        ASAN_UNPOISON_MEMORY_REGION(block, (size_t)1 << order);
        memory->free[order] = block->next;
    }
    return block;
}

/* A new region, one free block of at least this order; and its order. */
static void *region_add(struct memory *memory, unsigned least, unsigned *out_order)
{
    unsigned order = memory->region_order < least ? least : memory->region_order;
    struct region *region = malloc(sizeof *region);
    CHECK(region != NULL);
    region->start = aligned_alloc((size_t)1 << HUGE_ORDER, (size_t)1 << order);
    CHECK(region->start != NULL);
    if (memory->regions != NULL) {
        /* Refused where the kernel has no huge pages: then these are small. */
        (void)madvise(region->start, (size_t)1 << order, MADV_HUGEPAGE);
    }
    region->next = memory->regions;
    memory->regions = region;
    memory->region_order += memory->region_order < REGION_ORDER_MAX ? 1 : 0;
    *out_order = order;
    return region->start;
}

void *memory_take(struct memory *memory, size_t size)
{
    unsigned wanted = order_of(size);
    unsigned order = wanted;
    CHECK(pthread_mutex_lock(&memory->lock) == 0);
    while (order < ORDER_END - 1 && memory->free[order] == NULL) {
        order++;
    }
    uint8_t *start = (uint8_t *)block_pop(memory, order);
    if (start == NULL) {
        start = region_add(memory, wanted, &order);
    }
    while (order > wanted) {
        order--;
        block_push(memory, start + ((size_t)1 << order), order);
    }
    CHECK(pthread_mutex_unlock(&memory->lock) == 0);
    return start;
}

void memory_give(struct memory *memory, void *block, size_t size)
{
    unsigned order = order_of(size);
    CHECK(pthread_mutex_lock(&memory->lock) == 0);
    block_push(memory, block, order);
    CHECK(pthread_mutex_unlock(&memory->lock) == 0);
}

/* ---- slabs -------------------------------------------------------------------------------------- */

struct slab_item {
    struct slab_item *next;
};

static size_t stride_of(size_t size)
{
    return (size + LINE - 1) / LINE * LINE;
}

void *slab_take(struct slab *slab, struct memory *memory, size_t size)
{
    size_t stride = stride_of(size);
    struct slab_item *item = slab->free;
    if (item != NULL) {
        ASAN_UNPOISON_MEMORY_REGION(item, size);
        slab->free = item->next;
        return item;
    }
    if ((size_t)(slab->end - slab->next) < stride) {
        size_t block = slab->block == 0 ? SLAB_BLOCK_MIN : slab->block;
        block *= slab->block > 0 && slab->block < SLAB_BLOCK_MAX ? 2 : 1;
        while (block < stride) {
            block *= 2;
        }
        slab->block = block;
        slab->next = memory_take(memory, block);
        slab->end = slab->next + block;
        ASAN_POISON_MEMORY_REGION(slab->next, block);
    }
    uint8_t *fresh = slab->next;
    slab->next += stride;
    ASAN_UNPOISON_MEMORY_REGION(fresh, size);
    return fresh;
}

void slab_give(struct slab *slab, void *item, size_t size)
{
    struct slab_item *given = item;
    given->next = slab->free;
    slab->free = given;
    ASAN_POISON_MEMORY_REGION(item, size);
}
