/* table.c - see table.h. Load is at most 3/4; removal shifts back, so there are no tombstones. */
#include "shared/ledger/table.h"

#include <string.h>

#include "shared/base/check.h"

enum { SEGMENT_BITS = 10, CAPACITY_MIN = 8, CAPACITY_MAX = 1 << 30 };

uint64_t table_head(const struct digest *key)
{
    uint64_t head = 0;
    for (size_t i = 0; i < sizeof head; i++) {
        head = head << 8 | key->bytes[i];
    }
    return head;
}

static size_t segment_of(uint64_t head)
{
    return (size_t)(head >> (64 - SEGMENT_BITS));
}

static uint32_t home_of(const struct table_segment *segment, uint64_t head)
{
    return (uint32_t)head & (segment->capacity - 1);
}

/* The slot of the key, or the free slot where it would go. The segment has a free slot. */
static uint32_t slot_find(const struct table *table, const struct table_segment *segment,
                          uint64_t head, const struct digest *key)
{
    uint32_t at = home_of(segment, head);
    for (;; at = (at + 1) & (segment->capacity - 1)) {
        const struct table_slot *slot = &segment->slots[at];
        if (slot->item == NULL ||
            (slot->head == head && digest_equal(table->key_of(slot->item), key))) {
            return at;
        }
    }
}

void table_prefetch(const struct table *table, const struct digest *key)
{
    uint64_t head = table_head(key);
    const struct table_segment *segment = &table->segments[segment_of(head)];
    if (segment->capacity > 0) {
        __builtin_prefetch(&segment->slots[home_of(segment, head)]);
    }
}

const void *table_likely(const struct table *table, const struct digest *key)
{
    uint64_t head = table_head(key);
    const struct table_segment *segment = &table->segments[segment_of(head)];
    if (segment->capacity == 0) {
        return NULL;
    }
    uint32_t at = home_of(segment, head);
    while (segment->slots[at].item != NULL && segment->slots[at].head != head) {
        at = (at + 1) & (segment->capacity - 1);
    }
    return segment->slots[at].item;
}

void *table_get(const struct table *table, const struct digest *key)
{
    uint64_t head = table_head(key);
    const struct table_segment *segment = &table->segments[segment_of(head)];
    return segment->capacity == 0 ? NULL
                                  : segment->slots[slot_find(table, segment, head, key)].item;
}

static void segment_grow(struct memory *memory, struct table_segment *segment)
{
    struct table_segment grown = {.count = segment->count};
    CHECK(segment->capacity < CAPACITY_MAX);
    grown.capacity = segment->capacity == 0 ? CAPACITY_MIN : 2 * segment->capacity;
    grown.slots = memory_take(memory, grown.capacity * sizeof *grown.slots);
    memset(grown.slots, 0, grown.capacity * sizeof *grown.slots);
    for (uint32_t i = 0; i < segment->capacity; i++) {
        if (segment->slots[i].item != NULL) {
            uint32_t at = home_of(&grown, segment->slots[i].head);
            while (grown.slots[at].item != NULL) {
                at = (at + 1) & (grown.capacity - 1);
            }
            grown.slots[at] = segment->slots[i];
        }
    }
    if (segment->capacity > 0) {
        memory_give(memory, segment->slots, segment->capacity * sizeof *segment->slots);
    }
    *segment = grown;
}

void table_put(struct table *table, void *item)
{
    const struct digest *key = table->key_of(item);
    uint64_t head = table_head(key);
    struct table_segment *segment = &table->segments[segment_of(head)];
    if (4 * (uint64_t)(segment->count + 1) > 3 * (uint64_t)segment->capacity) {
        segment_grow(table->memory, segment);
    }
    struct table_slot *slot = &segment->slots[slot_find(table, segment, head, key)];
    CHECK(slot->item == NULL);
    *slot = (struct table_slot){.head = head, .item = item};
    segment->count++;
}

void table_remove(struct table *table, const void *item)
{
    const struct digest *key = table->key_of(item);
    uint64_t head = table_head(key);
    struct table_segment *segment = &table->segments[segment_of(head)];
    CHECK(segment->capacity > 0);
    uint32_t mask = segment->capacity - 1;
    uint32_t hole = slot_find(table, segment, head, key);
    CHECK(segment->slots[hole].item == item);
    /* Whatever follows moves up, unless that would put it before its home. */
    for (uint32_t at = (hole + 1) & mask; segment->slots[at].item != NULL; at = (at + 1) & mask) {
        uint32_t home = home_of(segment, segment->slots[at].head);
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            segment->slots[hole] = segment->slots[at];
            hole = at;
        }
    }
    segment->slots[hole] = (struct table_slot){.item = NULL};
    segment->count--;
}
