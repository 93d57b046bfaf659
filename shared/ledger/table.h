/* table.h - finds a record by its key's digest: a hash table whose growth never stops the world.
 *
 * Keys are SHA-256 digests, so their own bits are the hash. The table is split into segments by the
 * first bits; each is a linear-probing table that doubles by itself, so the longest pause is that of
 * one segment (10 million records: about 10,000 slots moved). Internal to this room. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "shared/base/digest.h"
#include "shared/ledger/memory.h"

enum { TABLE_SEGMENTS = 1024 };

struct table_slot {
    uint64_t head; /* the key's first 8 bytes, big-endian */
    void *item;    /* NULL: free */
};

struct table_segment {
    struct table_slot *slots;
    uint32_t capacity; /* a power of two, or 0 */
    uint32_t count;
};

/* A table zeroed but for its first two members is empty. key_of tells an item's whole key: it settles equal heads. */
struct table {
    const struct digest *(*key_of)(const void *item);
    struct memory *memory; /* borrowed: where the slots are; they end with it */
    struct table_segment segments[TABLE_SEGMENTS];
};

uint64_t table_head(const struct digest *key);
void *table_get(const struct table *table, const struct digest *key); /* NULL: none */
void table_put(struct table *table, void *item);                      /* its key must be new */
void table_remove(struct table *table, const void *item);             /* must be there */

/* Asks the CPU to fetch what a table_get of this key will read first. */
void table_prefetch(const struct table *table, const struct digest *key);
/* The item that a table_get of this key will look at, itself unread; NULL: none. */
const void *table_likely(const struct table *table, const struct digest *key);
