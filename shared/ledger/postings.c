/* postings.c - see postings.h. */
#include "shared/ledger/postings.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"

enum {
    LEVEL = 8, /* a part has 2^LEVEL leaves: some 30 us of hashing */
    LEAVES = 1 << LEVEL,
    FILLED_MAX = 512 /* parts kept unhashed, 64 KiB each at most */
};

struct postings_leaves {
    uint8_t data[LEAVES * POSTING_MAX];
    size_t size;
    uint32_t count;
};

struct postings_part {
    struct postings_leaves *leaves; /* NULL: hashed */
    struct digest root;
};

static void hash_leaves(const struct postings_leaves *leaves, struct digest out_leaves[LEAVES])
{
    struct bytes in = bytes_of(leaves->data, leaves->size);
    struct bytes postings[LEAVES];
    for (uint32_t i = 0; i < leaves->count; i++) {
        uint16_t size = 0;
        CHECK(bytes_take_u16le(&in, &size) == ERR_OK);
        CHECK(bytes_take(&in, size, &postings[i]) == ERR_OK);
    }
    merkle_leaves(postings, leaves->count, out_leaves);
}

static void part_hash(struct postings_part *part)
{
    struct digest leaves[LEAVES];
    hash_leaves(part->leaves, leaves);
    merkle_perfect(leaves, LEVEL, &part->root);
    free(part->leaves);
    part->leaves = NULL;
}

static struct postings_part *part_next(struct postings_parts *parts)
{
    if (parts->count == parts->capacity) {
        parts->capacity = parts->capacity == 0 ? 64 : 2 * parts->capacity;
        parts->items = realloc(parts->items, parts->capacity * sizeof *parts->items);
        CHECK(parts->items != NULL);
    }
    return &parts->items[parts->count++];
}

void postings_add(struct postings *postings, struct bytes sized_posting)
{
    CHECK(sized_posting.size <= POSTING_MAX);
    struct postings_leaves *leaves = postings->last;
    if (leaves == NULL) {
        leaves = malloc(sizeof *leaves);
        CHECK(leaves != NULL);
        leaves->size = 0;
        leaves->count = 0;
        postings->last = leaves;
    }
    memcpy(leaves->data + leaves->size, sized_posting.data, sized_posting.size);
    leaves->size += sized_posting.size;
    leaves->count++;
    if (leaves->count == LEAVES) {
        struct postings_part *part = part_next(&postings->filled);
        *part = (struct postings_part){.leaves = leaves};
        postings->last = NULL;
        if (postings->filled.count > FILLED_MAX) { /* nobody takes them */
            part_hash(part);
        }
    }
}

/* Puts the roots of what was taken into the tree. */
static void taken_append(struct postings *postings)
{
    for (uint32_t i = 0; i < postings->taken.count; i++) {
        const struct postings_part *part = &postings->taken.items[i];
        CHECK(part->leaves == NULL);
        CHECK(merkle_tree_append_subtree(&postings->tree, LEVEL, &part->root) == ERR_OK);
    }
    postings->taken.count = 0;
}

uint32_t postings_take(struct postings *postings)
{
    taken_append(postings);
    struct postings_parts empty = postings->taken;
    postings->taken = postings->filled;
    postings->filled = empty;
    return postings->taken.count;
}

void postings_hash(struct postings *postings, uint32_t i)
{
    CHECK(i < postings->taken.count);
    if (postings->taken.items[i].leaves != NULL) {
        part_hash(&postings->taken.items[i]);
    }
}

static void hash_task(void *argument, uint32_t i)
{
    postings_hash(argument, i);
}

void postings_root(struct postings *postings, const struct parallel *parallel,
                   struct digest *out_root)
{
    struct merkle_head head;
    uint32_t count = postings_take(postings);
    parallel->run(parallel->context, count, hash_task, postings);
    taken_append(postings);
    if (postings->last != NULL) {
        struct digest leaves[LEAVES];
        hash_leaves(postings->last, leaves);
        for (uint32_t i = 0; i < postings->last->count; i++) {
            CHECK(merkle_tree_append(&postings->tree, &leaves[i]) == ERR_OK);
        }
        postings->last->size = 0;
        postings->last->count = 0;
    }
    merkle_tree_head(&postings->tree, &head);
    *out_root = head.root;
    postings->tree = (struct merkle_tree){0};
}

static void parts_free(struct postings_parts *parts)
{
    for (uint32_t i = 0; i < parts->count; i++) {
        free(parts->items[i].leaves);
    }
    free(parts->items);
}

void postings_deinit(struct postings *postings)
{
    parts_free(&postings->taken);
    parts_free(&postings->filled);
    free(postings->last);
    *postings = (struct postings){.last = NULL};
}
